"""A life that is stopped half way and goes on exactly: every record and every weight as if nothing had happened.

    python examples/03_train_and_resume.py

The command line does the same with ``nl-agents train ...`` and ``nl-agents resume RUN``, after Ctrl-C or kill -9.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from nl_agents import agents, envs, training

SEQUENCE: dict[str, Any] = {"num_envs": 4, "seed": 1}


def live(folder: Path, steps: int, stop_at: int | None = None) -> Any:
    """Lives in ``cartpole-flip`` from birth, at most to ``stop_at`` env steps; the run folder knows the way back."""
    config = agents.config("hope")
    config.memory.width, config.ppo.num_steps = 32, 32
    config.run.checkpoint_every = 1_000
    agent = agents.make("hope", envs.make_sequence("cartpole-flip", **SEQUENCE), seed=1, device="cpu", config=config)
    return agent.learn(
        steps,
        run_dir=folder,
        run_info={"sequence": "cartpole-flip", "sequence_options": SEQUENCE},
        callback=None if stop_at is None else lambda agent: agent.num_timesteps < stop_at,
    )


def main(steps: int = 4_000) -> int:
    """Returns the number of weights compared."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = live(folder / "whole", steps)
        live(folder / "stopped", steps, stop_at=steps // 2)
        resumed = training.resume(folder / "stopped")  # agent, options and sequence come from its config.json
        weights = whole.policy.state_dict()
        assert all(torch.equal(value, weights[key]) for key, value in resumed.policy.state_dict().items())
        for record in ("episodes.csv", "task_log.csv", "levels.csv", "decisions.jsonl", "progress.csv"):
            assert (folder / "stopped" / record).read_bytes() == (folder / "whole" / record).read_bytes(), record
        print(f"{resumed.num_timesteps:,} env steps, stopped at {steps // 2:,}: equal to the last bit")
        print(resumed.levels())
    return sum(value.numel() for value in weights.values())


if __name__ == "__main__":
    main()
