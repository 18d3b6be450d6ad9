"""Hope in sb3-contrib's RecurrentPPO, and in FastRecurrentPPO, whose memory is saved with the model.

    pip install "nl-agents[sb3]"
    python examples/06_sb3_recurrent.py

The first two lines of each part are all that is needed; a few thousand steps show how it is called, not who is better.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from sb3_contrib import RecurrentPPO

import nl_agents.sb3
from nl_agents import envs
from nl_agents.sb3 import FastRecurrentPPO, LevelMonitorCallback, evaluate_policy_lifelong


def main(steps: int = 4_096) -> dict[str, Any]:
    """Learns with three recurrent models and goes on with a saved one."""
    assert nl_agents.sb3, "importing it is what makes the policies' names known"
    hope = RecurrentPPO("HopePolicy", "CartPole-v1", device="cpu").learn(steps // 4)
    gru = RecurrentPPO("HopePolicy", "CartPole-v1", device="cpu", policy_kwargs={"core": "gru"}).learn(steps // 4)

    life = envs.to_sb3(envs.make_sequence("cartpole-flip", num_envs=16, seed=0))
    fast = FastRecurrentPPO("HopePolicy", life, batch_size=512, device="cpu", seed=0)
    fast.learn(steps, callback=LevelMonitorCallback())
    with tempfile.TemporaryDirectory() as folder:
        fast.save(Path(folder) / "fast")
        later = FastRecurrentPPO.load(Path(folder) / "fast", env=life, device="cpu", force_reset=False)
    later.learn(steps, reset_num_timesteps=False)  # weights, optimizer and memory go on

    test = envs.to_sb3(envs.make_sequence("cartpole-flip", num_envs=4, seed=1))
    for memory in ("newborn", "live"):
        result = evaluate_policy_lifelong(later, test, n_eval_episodes=4, memory=memory)
        print(f"{memory:8} memory: mean return {sum(result.returns) / len(result.returns):.1f}")
    for level in later.policy.levels():
        print(f"{level.name:24} {level.stores}, {level.scope}")
    return {"hope": hope, "gru": gru, "fast": later}


if __name__ == "__main__":
    main()
