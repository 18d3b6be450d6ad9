"""A memory core in a single-file PPO loop, of the kind that CleanRL's readers know: all of the algorithm on one page.

    python examples/08_cleanrl_loop.py

What the memory asks of it: keep `state` between steps, store it at the rollout's start only, tell the core where
episodes begin. Training is then one call `core(x[T], state, is_first)`.
"""

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import nn
from torch.distributions import Categorical

from nl_agents.memory import make_core
from nl_agents.rl.returns import generalised_advantages

STREAMS, STEPS, EPOCHS, CLIP = 8, 64, 4, 0.2


def main(updates: int = 60, core_name: str = "hope") -> list[float]:
    """Learns CartPole; returns the mean length of the episodes that ended in each rollout."""
    torch.manual_seed(0)
    env = SyncVectorEnv([lambda: gym.make("CartPole-v1")] * STREAMS, autoreset_mode=AutoresetMode.SAME_STEP)
    encode, core = nn.Sequential(nn.Linear(4, 64), nn.Tanh()), make_core(core_name, input_size=64, width=64)
    actor, critic = nn.Linear(64, 2), nn.Linear(64, 1)
    weights = list(nn.ModuleList([encode, core, actor, critic]).parameters())
    optimizer, lengths, running = torch.optim.AdamW(weights, lr=1e-3), [], np.zeros(STREAMS)
    state, seen, first = core.initial_state(STREAMS), env.reset(seed=0)[0], np.ones(STREAMS, bool)
    for _ in range(updates):
        start, rows, ended = state, [], []
        with torch.no_grad():
            for _ in range(STEPS):
                obs, is_first = torch.from_numpy(seen), torch.from_numpy(first)
                y, state = core(encode(obs)[None], state, is_first[None])
                action = (said := Categorical(logits=actor(y[0]))).sample()
                seen, reward, terminated, truncated, _ = env.step(action.numpy())
                first, running = terminated | truncated, running + 1
                flags = [torch.from_numpy(part) for part in (reward, terminated, truncated)]
                rows.append((obs, is_first, action, said.log_prob(action), critic(y[0])[:, 0], *flags))
                ended, running = ended + running[first].tolist(), np.where(first, 0, running)
            last, _ = core(encode(torch.from_numpy(seen))[None], state, torch.from_numpy(first)[None])
        obs, is_first, action, old, value, reward, terminated, truncated = map(torch.stack, zip(*rows, strict=True))
        after = torch.cat((value[1:], critic(last[0]).detach().T))  # a cut episode is valued by the next one's start
        every = torch.ones_like(is_first)
        advantage, target = generalised_advantages(
            reward.float(), value, after, terminated, truncated, every, 0.99, 0.95
        )
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        for _ in range(EPOCHS):
            y, _ = core(encode(obs), start, is_first)
            said = Categorical(logits=actor(y))
            ratio = (said.log_prob(action) - old).exp()
            surrogate = torch.min(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)
            loss = 0.5 * (critic(y)[..., 0] - target).square().mean() - surrogate.mean() - 0.01 * said.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        lengths.append(float(np.mean(ended)) if ended else float(running.mean()))
    print(f"{core_name}: mean episode length {lengths[0]:.0f} at first, {np.mean(lengths[-5:]):.0f} at the end")
    return lengths


if __name__ == "__main__":
    main()
