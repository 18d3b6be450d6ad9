"""Measures the two levels between which lifelong returns are normalised: a random policy, and an expert of each task.

    python -m benchmarks.references --suite cartpole-flip

Random: uniform actions, 400 episodes. Expert: PPO (with memory where the task needs it) alone on that task for about
four times its budget, stochastic policy, mean of its last 200 training episodes, best of three seeds (decision: the
expert is a level, not a contestant). Tasks that are one another's image for a learner are measured once (``like``).
Where every life draws the task anew (``drawn``) each seed is another task, and the expert is the mean over seeds.
Where no agent that we trained comes near what can be reached (``walked``), the expert is a script.
Every measurement is kept in ``benchmarks/results/references``, so that a run that was cut goes on; what is complete is
written where the package reads it: ``nl_agents/evaluation/references/<suite>.json``.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
import tyro

from benchmarks.memory_walker import walker_return
from benchmarks.one_life import curve_of_20, one_life
from nl_agents import envs
from nl_agents.evaluation.reference import write_reference

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / "nl_agents" / "evaluation" / "references"
KEPT = HERE / "results" / "references"


@dataclass(frozen=True)
class Plan:
    """How the experts of a suite are made.

    Args:
        steps: env steps of one expert.
        agent: by name.
        options: of the agent, dotted name -> value.
        like: the task that is measured in place of a task.
        longer: beginning of a task's name -> env steps of its expert.
        others: beginning of a task's name -> its agent, where it is another.
        drawn: whether the seed draws what the task is.
        walked: beginnings of the names of tasks that no trained agent comes near: the expert is the script of
            ``benchmarks.memory_walker``.
    """

    steps: int
    agent: str = "ppo"
    options: dict[str, Any] = field(default_factory=dict)
    like: Callable[[str], str] = lambda task: task
    longer: dict[str, int] = field(default_factory=dict)
    drawn: bool = False
    others: dict[str, str] = field(default_factory=dict)
    walked: tuple[str, ...] = ()

    def agent_of(self, task: str) -> str:
        """Name of the agent of a task."""
        return next((agent for begin, agent in self.others.items() if task.startswith(begin)), self.agent)

    def steps_of(self, task: str) -> int:
        """Env steps of a task's expert."""
        return next((steps for begin, steps in self.longer.items() if task.startswith(begin)), self.steps)


def _first_level(task: str) -> str:
    """An offset that is constant is taken out by the normaliser, or by the first layer: all levels are as hard."""
    return f"{task.rpartition('-')[0]}-1"


def _drift(task: str) -> str:
    """CartPole kind by kind, which ``quick`` is made of; Pendulum and Acrobot under the sine stand for their kinds."""
    system = task.partition("-")[0]
    return task if system == "cartpole" else f"{system}-sine"


def _robot(task: str) -> str:
    """Which of ten floors it is says nothing: all are drawn alike."""
    return f"{task.rpartition('-')[0]}-0"


def _match(task: str) -> str:
    """To go to the other object is as hard as to go to the like one, where both begin in the corridor."""
    return task if "seen" in task else f"{task.partition('-')[0]}-match"


PLANS = {
    "cartpole-flip": Plan(400_000),
    "minigrid-recurring": Plan(400_000),
    "control-obs-shift": Plan(200_000, like=_first_level),
    "permute-long": Plan(200_000, like=lambda task: "order-000"),
    "control-drift": Plan(500_000, like=_drift),
    "minigrid-goal-reversal": Plan(100_000),
    "minigrid-memory": Plan(600_000, "recurrent-ppo", walked=("MemoryS1",)),
    "minigrid-memory-switch": Plan(300_000, "recurrent-ppo", like=_match, longer={"S7-m": 600_000}, walked=("S11",)),
    "mujoco-slippery": Plan(800_000, like=_robot, drawn=True),
}


@dataclass
class Options:
    """What to measure."""

    suite: str
    """name of the suite"""
    seeds: tuple[int, ...] = (1001, 1002, 1003)
    """seeds of the experts"""
    tasks: tuple[str, ...] = ()
    """only these tasks; empty means all of the suite"""


def random_return(suite: str, task: str, episodes: int = 400) -> float:
    """Mean return of uniform actions over the first ``episodes`` episodes of every stream alike."""
    env = envs.SUITES[suite].task_env(task, num_envs=16, seed=999)
    actions, space = np.random.default_rng(999), env.single_action_space
    env.reset()
    totals: list[list[float]] = [[] for _ in range(16)]
    running, waits = np.zeros(16), np.zeros(16, bool)
    while min(map(len, totals)) < episodes // 16:
        if hasattr(space, "n"):
            choice = actions.integers(0, space.n, 16)
        else:
            choice = actions.uniform(space.low, space.high, (16, *space.shape)).astype(space.dtype)
        _, reward, terminated, truncated, _ = env.step(choice)
        running += np.where(waits, 0.0, reward)
        waits = terminated | truncated
        for stream in np.flatnonzero(waits):
            totals[stream].append(running[stream])
            running[stream] = 0.0
    return float(np.mean([total[: episodes // 16] for total in totals]))


def expert_life(suite: str, task: str, seed: int, plan: Plan) -> dict[str, Any]:
    """Mean return of the last 200 training episodes of the plan's agent alone on one task, and how it came there."""
    env = envs.SUITES[suite].task_env(task, num_envs=16, seed=seed)
    life = one_life(plan.agent_of(task), env, seed, plan.steps_of(task), plan.options)
    return {"return": float(life.returns[-200:].mean()), "steps": life.steps, "curve_of_20": curve_of_20(life)}


def kept(suite: str, name: str, measure: Callable[[], dict[str, Any]]) -> float:
    """A measurement's ``return`` from the records, or made now and recorded."""
    path = KEPT / suite / f"{name}.json"
    if not path.exists():
        found = measure()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**found, "commit": _commit()}) + "\n")
        print(suite, name, round(found["return"], 3), flush=True)
    return float(json.loads(path.read_text())["return"])


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True)
    return found.stdout.strip()


def main(options: Options) -> None:
    """Measures what is missing and writes what there is."""
    torch.set_num_threads(1)
    name, plan = options.suite, PLANS[options.suite]
    tasks: dict[str, object] = {}
    for task in options.tasks or envs.SUITES[name].tasks:
        judge = plan.like(task)
        low = kept(name, f"{judge}-random", lambda: {"return": random_return(name, judge)})  # noqa: B023
        if judge.startswith(plan.walked):
            walker = kept(name, f"{judge}-walker", lambda: {"return": walker_return(judge)})  # noqa: B023
            tasks[task] = {"random": low, "expert": walker, "expert_is": "the script of benchmarks.memory_walker"}
        else:
            experts = [
                kept(name, f"{judge}-expert-{seed}", lambda: expert_life(name, judge, seed, plan))  # noqa: B023
                for seed in options.seeds
            ]
            tasks[task] = {"random": low, "expert": fmean(experts) if plan.drawn else max(experts), "seeds": experts}
        if judge != task:
            tasks[task] |= {"measured_on": judge}  # type: ignore[operator]
    command = "python -m benchmarks.references " + shlex.join(sys.argv[1:])
    judges = {plan.like(task) for task in tasks}
    trained = sorted({plan.steps_of(judge) for judge in judges if not judge.startswith(plan.walked)})
    lengths = " or ".join(map(str, trained))
    notes = (
        f"random: uniform actions, 400 episodes; expert: agent {plan.agent!r} alone on the task for {lengths} env "
        f"steps, mean of its last 200 training episodes (stochastic policy), {'mean' if plan.drawn else 'best'} of the "
        f"listed seeds{', each of which draws the task anew' if plan.drawn else ''}"
    )
    if plan.walked:
        notes += "; where no trained agent comes near: a script that looks, keeps in mind and walks, 400 episodes"
    if plan.options:
        notes += f"; options {plan.options}"
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    print(write_reference(path, name, tasks, command=command, commit=_commit(), notes=notes))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
