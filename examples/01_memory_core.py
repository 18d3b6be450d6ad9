"""A memory core inside your own torch code: remember a cue that was shown once, over a stretch of noise.

    python examples/01_memory_core.py

Episodes follow each other in every stream. The first step of an episode shows +1 or -1; the last one asks for it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nl_agents.memory import make_core

STREAMS, EPISODE, SIZE = 32, 12, 3


def episode() -> tuple[Tensor, Tensor, Tensor]:
    """Returns inputs x [T, B, 3] (cue, question mark, noise), is_first [T, B] and the cue [B]."""
    x, cue = torch.zeros(EPISODE, STREAMS, SIZE), torch.randint(0, 2, (STREAMS,)) * 2.0 - 1.0
    x[0, :, 0], x[-1, :, 1] = cue, 1.0
    x[..., 2] = 0.3 * torch.randn(EPISODE, STREAMS)
    is_first = torch.zeros(EPISODE, STREAMS, dtype=torch.bool)
    is_first[0] = True
    return x, is_first, cue


def main(updates: int = 120) -> float:
    """Trains core and read-out; returns the share of right answers over the last tenth of the updates."""
    torch.manual_seed(0)
    core, head = make_core("hope", input_size=SIZE, width=32, heads=2, chunk=4), nn.Linear(32, 1)
    optimizer = torch.optim.AdamW([*core.parameters(), *head.parameters()], lr=3e-3)
    state = core.initial_state(STREAMS)  # a NamedTuple of tensors, batch first; all zero = fresh
    right = []
    for _ in range(updates):
        x, is_first, cue = episode()
        y, state = core(x, state, is_first)  # [T, B, 32]; memory is written on the way
        state = type(state)(*(leaf.detach() for leaf in state))  # gradients stop between calls
        answer = head(y[-1]).squeeze(-1)
        loss = nn.functional.softplus(-answer * cue).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        right.append(((answer * cue) > 0).float().mean().item())

    with torch.no_grad():  # a sequence equals its steps: act with T = 1 what you trained with T = 12
        whole, _ = core(x, state, is_first)
        memory, steps = core.unpack(core.pack(state)), []
        for t in range(EPISODE):
            out, memory = core(x[t : t + 1], memory, is_first[t : t + 1])
            steps.append(out)
        torch.testing.assert_close(torch.cat(steps), whole, atol=1e-4, rtol=1e-4)
    return sum(right[-(updates // 10) :]) / (updates // 10)


if __name__ == "__main__":
    print(f"right answers at the end: {main():.0%} (guessing: 50 %)")
