"""How fast two lives part whose only difference is the order of sums: RecurrentPPO in float64, its LSTM beside ours.

    python -m benchmarks.sb3_parting                      # seed 0, 12 800 env steps
    python -m benchmarks.sb3_parting --seed 1 --steps 4096

Both begin with the same values and random numbers (as in ``sb3_same_life``), but HopePolicy makes its one call a
minibatch where stock goes step by step. All is float64: weights, features, the rollout buffer but its observations.
Kept: the largest difference of any weight after every rollout, and the first episode that is another.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.buffers import RecurrentRolloutBuffer
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from benchmarks.sb3_curves import Episodes, make_env, make_model
from benchmarks.sb3_same_life import TASK, begin_alike, live_alike, stocks_name
from benchmarks.speed import ROOT, provenance

RESULT = ROOT / "benchmarks" / "results" / "sb3_parting.json"


class DoubleFeatures(FlattenExtractor):
    """Observations as float64."""

    def forward(self, observations: Tensor) -> Tensor:
        """[B, ...] -> [B, features], float64."""
        return super().forward(observations).double()


class DoubleBuffer(RecurrentRolloutBuffer):
    """Keeps everything but the observations in float64."""

    def reset(self) -> None:
        """Begins a rollout."""
        super().reset()
        for name, kept in list(vars(self).items()):
            if isinstance(kept, np.ndarray) and kept.dtype == np.float32 and name != "observations":
                setattr(self, name, kept.astype(np.float64))


class Weights(Episodes):
    """Also keeps all weights, in the order of stock's names, at the end of every rollout."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Tensor] = []

    def _on_rollout_end(self) -> None:
        named = {stocks_name(name): value for name, value in self.model.policy.named_parameters()}
        self.kept.append(torch.cat([named[name].detach().flatten().clone() for name in sorted(named)]))


def make_double(entrant: str, seed: int, steps: int) -> RecurrentPPO:
    """A model of ``sb3_curves`` in float64."""
    model: Any = make_model(TASK, entrant, VecNormalize(make_env(TASK, seed), gamma=0.98), seed, steps)
    model.policy_kwargs = {**model.policy_kwargs, "features_extractor_class": DoubleFeatures}
    model.set_random_seed(seed)
    model._setup_model()
    model.policy.double()
    old = model.rollout_buffer
    model.rollout_buffer = DoubleBuffer(
        old.buffer_size, old.observation_space, old.action_space, old.hidden_state_shape, old.device,
        old.gae_lambda, old.gamma, old.n_envs,
    )  # fmt: skip
    states = model._last_lstm_states
    model._last_lstm_states = type(states)(*(tuple(leaf.double() for leaf in pair) for pair in states))
    made: RecurrentPPO = model
    return made


def lives(seed: int, steps: int) -> dict[str, Any]:
    """Lives both and returns how far apart they were."""
    models = [make_double(entrant, seed, steps) for entrant in ("stock-lstm", "our-lstm-as-torch-begins")]
    begin_alike(*models)
    stock, ours = live_alike(models, seed, steps, Weights)
    apart = [float((one - other).abs().max()) for one, other in zip(stock.kept, ours.kept, strict=True)]
    pairs = zip(stock.ended, ours.ended, strict=False)
    other = next((one[0] for one, two in pairs if one != two), None)
    return {"seed": seed, "steps": steps, "weights_apart": apart, "first_other_episode_ends_at": other}


def main(arguments: Sequence[str] | None = None) -> None:
    """Lives the pair, prints how it parted, writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of both lives")
    parser.add_argument("--steps", type=int, default=12_800, help="env steps of a life")
    parser.add_argument("--result", type=Path, default=RESULT, help="the record to write")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    record = lives(given.seed, given.steps) | provenance("cpu")
    given.result.parent.mkdir(parents=True, exist_ok=True)
    given.result.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    for number, apart in enumerate(record["weights_apart"]):
        print(f"rollout {number}: {apart:.1e}")
    print(f"first other episode ends at env step {record['first_other_episode_ends_at']}")


if __name__ == "__main__":
    main()
