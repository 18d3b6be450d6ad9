"""The options of every command; their texts are what ``--help`` prints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro


@dataclass
class Train:
    """Live through a task sequence, learning all the way; leave a run folder with a report.

    Without any option this is the demonstration: a three-level agent on hidden task switches, a few minutes on two
    cores. Below come the options of the run, then those of the agent that --agent names (each agent has its own
    defaults: try --agent ppo --help).
    """

    agent: str = "hope"
    """which agent lives: nl-agents list agents"""
    sequence: str = "cartpole-flip:demo"
    """suite, suite:preset (nl-agents list sequences), or module:function that returns a TaskSequence of yours"""
    steps: int | None = None
    """length of the life in env steps over all streams; default: the preset's"""
    seed: int = 0
    """one seed for the life: schedule, envs, weights and exploration each draw from a stream of their own"""
    num_envs: int | None = None
    """streams (parallel environments); default: the preset's"""
    device: str = "auto"
    """cpu, cuda, cuda:1 ... or auto"""
    run_dir: Path | None = None
    """where the life is written; default: runs/SEQUENCE-AGENT-seedN-TIME"""
    privileged: bool = False
    """tell an agent that needs them the task boundaries; a control, never a fair rival"""
    backend: Literal["auto", "python", "envpool"] = "auto"
    """what runs the environments; auto takes the fastest that is installed"""
    threads: str = "1"
    """torch threads: a number, or auto to measure; at small batches more threads are rarely faster"""


@dataclass
class Resume:
    """Continue a run exactly where its last checkpoint stopped, whether it was stopped, killed or finished."""

    run: tyro.conf.Positional[Path]
    """run folder"""
    steps: int | None = None
    """new length of the life in env steps; default: the length it was started with"""
    sequence: str | None = None
    """module:function of your own sequence, where it is not to be found under the name stored in the run"""


@dataclass
class Evaluate:
    """Measure a trained agent on each task by itself: parameters fixed, a newborn memory for every task."""

    path: tyro.conf.Positional[Path]
    """run folder, or a saved model (.zip)"""
    sequence: str | None = None
    """suite, suite:preset or module:function; default: the one that the run was trained on"""
    episodes: int = 20
    """finished episodes per task"""
    seed: int = 1_000_000
    """seed of the evaluation's episodes, far from those of training"""
    sequence_seed: int | None = None
    """seed of make_sequence, from which tasks draw what sets them apart; default: that of the run, 0 for a file"""
    num_envs: int = 4
    """streams"""
    stochastic: bool = False
    """draw actions instead of taking the most likely ones"""
    device: str = "auto"
    """cpu, cuda ... or auto"""
    model_class: str | None = None
    """module:Class whose load reads the file, for a model that is not ours: stable_baselines3:PPO"""


@dataclass
class Compare:
    """Set runs side by side, grouped by agent: figures with 95 % intervals over seeds, and one page of plots."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """run folders of one suite"""
    out: Path = Path("report.html")
    """page to write"""
    against: str | None = None
    """agent to compute the probability of improvement against; default: the best other one"""


@dataclass
class Report:
    """Write the page of one run, report.html in its folder, and print its lifelong figures."""

    run: tyro.conf.Positional[Path]
    """run folder, finished or not"""


@dataclass
class Nest:
    """Print the nest of an agent: what learns, what it keeps, from what, on which objective, how often.

    Below come the options of the agent that --agent names, as in train: see what --memory.slow-periods 4 16 64 or
    --optimizer.name adamw change.
    """

    agent: str = "hope"
    """which agent: nl-agents list agents"""
    sequence: str = "cartpole-flip:demo"
    """suite, suite:preset, or module:function: its spaces and streams"""
    num_envs: int | None = None
    """streams (parallel environments); default: the preset's"""


@dataclass
class List:
    """List what there is: agents, sequences, memory cores, optimizers."""

    what: tyro.conf.Positional[Literal["all", "agents", "sequences", "cores", "optimizers"]] = "all"
    """one kind, or all"""


@dataclass
class Doctor:
    """Look at this machine: versions, device, what is installed, what is missing and how to get it."""
