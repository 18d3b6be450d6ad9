"""RecurrentPPO with our ``lstm`` core and with its own LSTM, from the same first values and random numbers.

    python -m benchmarks.sb3_same_life                    # seeds 0 to 4, lives of 100 000 env steps
    python -m benchmarks.sb3_same_life --seeds 7 --steps 4096

Learning is chaotic: where two programs add the same numbers in two orders, their weights part tenfold a rollout, and
curves of independent lives differ by hundreds (``sb3_curves``). Here no sum is taken in another order, so whole lives
can be compared to the last bit. HopePolicy calls its memory as often as stock calls its own: step by step where an
episode begins within a minibatch, else once. By default it makes one call in either case; on the way that one call is
therefore compared with the steps on every ``EVERY``-th block of a minibatch, in float64 and with gradients.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from benchmarks.sb3_curves import STEPS, Episodes, curve, make_env, make_model
from benchmarks.sb3_tables import same_life_table
from benchmarks.speed import ROOT, provenance
from nl_agents.sb3.policies import HopePolicy

TASK = "cartpole-novel"  # CartPole-v1 without velocities, rl_zoo3's tuned settings
RESULT = ROOT / "benchmarks" / "results" / "sb3_same_life.json"
Watch = TypeVar("Watch", bound=Episodes)
EVERY = 19  # no multiple of two memories, so both are judged, nor of the epochs


class AsStockCalls(HopePolicy):
    """Calls its memory as sb3-contrib calls an LSTM, and now and then compares with the one call of a HopePolicy."""

    def __init__(self, *spaces_and_schedule: Any, **options: Any) -> None:
        super().__init__(*spaces_and_schedule, **options)
        self.blocks, self.judged, self.read_apart, self.gradient_apart = 0, 0, 0.0, 0.0

    def _run(self, cell: Any, x: Tensor, state: Any, is_first: Tensor, is_valid: Tensor | None) -> tuple[Tensor, Any]:
        if x.shape[0] > 1:
            if self.blocks % EVERY == 0:
                self._judge(cell, x, state, is_first)
            self.blocks += 1
        return _steps(cell, x, state, is_first) if bool(is_first.any()) else cell.run(x, state, is_first, is_valid)

    def _judge(self, cell: Any, x: Tensor, state: Any, is_first: Tensor) -> None:
        """Largest difference of read-outs, and of gradients in parts of the largest gradient, in float64."""
        twin = copy.deepcopy(cell).double()
        before = type(state)(*(leaf.detach().double() for leaf in state))
        found = []
        for call in (twin.read, lambda *given: _steps(twin, *given[:3])):
            shown = x.detach().double().requires_grad_()
            y = call(shown, before, is_first, None)[0]
            weights = torch.cos(torch.arange(y.numel(), dtype=y.dtype)).view_as(y)
            with torch.enable_grad():
                gradients = torch.autograd.grad((y * weights).sum(), [shown, *twin.parameters()])
            found.append((y.detach(), torch.cat([part.flatten() for part in gradients])))
        (y, gradient), (judge, truth) = found
        self.judged += 1
        self.read_apart = max(self.read_apart, float((y - judge).abs().max()))
        self.gradient_apart = max(self.gradient_apart, float((gradient - truth).abs().max() / truth.abs().max()))


class Watched(Episodes):
    """Also keeps a digest of all weights at the end of every rollout."""

    def __init__(self) -> None:
        super().__init__()
        self.digests: list[str] = []

    def _on_rollout_end(self) -> None:
        parts = [value.detach().numpy().tobytes() for value in self.model.policy.parameters()]
        self.digests.append(hashlib.sha256(b"".join(parts)).hexdigest())


def _steps(cell: Any, x: Tensor, state: Any, is_first: Tensor) -> tuple[Tensor, Any]:
    """One call of the memory a step."""
    reads = []
    for t in range(x.shape[0]):
        y, state = cell.run(x[t : t + 1], state, is_first[t : t + 1])
        reads.append(y)
    return torch.cat(reads), state


def make_models(seed: int, steps: int) -> tuple[RecurrentPPO, RecurrentPPO]:
    """Stock's model and ours, which begins with stock's first values."""
    models = []
    for entrant in ("stock-lstm", "our-lstm"):
        env = VecNormalize(make_env(TASK, seed), gamma=0.98)
        models.append(make_model(TASK, entrant, env, seed, steps))
    stock, ours = models
    ours.policy_class = AsStockCalls
    ours._setup_model()
    begin_alike(stock, ours)
    return stock, ours


def stocks_name(name: str) -> str:
    """What stock calls a parameter of ours."""
    return name.replace(".core.rnn.", ".")


def begin_alike(stock: RecurrentPPO, ours: RecurrentPPO) -> None:
    """Gives ours the values of stock."""
    first = stock.policy.state_dict()
    ours.policy.load_state_dict({name: first[stocks_name(name)] for name in ours.policy.state_dict()})


def live_alike(models: Sequence[RecurrentPPO], seed: int, steps: int, watch: Callable[[], Watch]) -> list[Watch]:
    """Lives one after the other, each from the same random numbers, and returns who watched."""
    watched = []
    for model in models:
        torch.manual_seed(seed)
        np.random.seed(seed)
        watched.append(watch())
        model.learn(steps, callback=watched[-1])
    return watched


def lives(seed: int, steps: int) -> dict[str, Any]:
    """Lives both and returns what was seen."""
    models = make_models(seed, steps)
    stock, ours = live_alike(models, seed, steps, Watched)
    pairs = zip(stock.digests, ours.digests, strict=True)
    apart = next((number for number, (one, other) in enumerate(pairs) if one != other), None)
    policy: Any = models[1].policy
    return {
        "seed": seed, "steps": steps, "rollouts": len(stock.digests), "first_rollout_apart": apart,
        "episodes": [len(stock.ended), len(ours.ended)], "episodes_equal": stock.ended == ours.ended,
        "curves": [curve(life.ended, steps) for life in (stock, ours)],
        "one_call": {"blocks": policy.blocks, "judged": policy.judged, "largest_difference_of_reads":
                     policy.read_apart, "largest_difference_of_gradients": policy.gradient_apart},
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Lives all pairs, prints the table, writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4], help="of the pairs of lives")
    parser.add_argument("--steps", type=int, default=STEPS[TASK], help="env steps of a life, a multiple of 10 000")
    parser.add_argument("--result", type=Path, default=RESULT, help="the record to write")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    record: dict[str, Any] = {"lives": [], **provenance("cpu")}
    for seed in given.seeds:
        record["lives"].append(lives(seed, given.steps))
        given.result.parent.mkdir(parents=True, exist_ok=True)
        given.result.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        print(f"seed {seed}: first rollout apart {record['lives'][-1]['first_rollout_apart']}", flush=True)
    print(same_life_table(record))


if __name__ == "__main__":
    main()
