"""Who takes part in the speed benchmark: the opponents, the environment alone, our agent by its public interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from benchmarks.opponents.settings import Settings
from benchmarks.opponents.worlds import WORLDS

Report = Callable[[int], None]  # called after each update with the env steps so far


class Prepared(NamedTuple):
    """A contestant at the start line."""

    run: Callable[[Report], None]
    parameters: int


@dataclass(frozen=True)
class Contestant:
    """One row of the table.

    Attributes:
        letter: its letter in the speed protocol, empty for our own.
        label: its name in the table.
        note: what must be known to read its figure.
        prepare: builds it from (environment name, settings).
    """

    letter: str
    label: str
    note: str
    prepare: Callable[[str, Settings], Prepared]


def _count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def _recurrent_ppo(env: str, settings: Settings, *, fused: bool, critic_lstm: bool) -> Prepared:
    from benchmarks.opponents import stock

    world = WORLDS[env](settings.num_envs, settings.seed)
    model = stock.make_recurrent_ppo(world, settings, fused=fused, critic_lstm=critic_lstm)
    return Prepared(partial(stock.run, model), _count(model.policy))


def _hand_loop(env: str, settings: Settings, *, recurrent: bool, stretches: bool = False) -> Prepared:
    from benchmarks.opponents.hand_loop import HandLoop, unroll_by_steps, unroll_by_stretches

    world = WORLDS[env](settings.num_envs, settings.seed)
    unroll = unroll_by_stretches if stretches else unroll_by_steps
    loop = HandLoop(world, settings, recurrent=recurrent, unroll=unroll)
    return Prepared(loop.run, _count(loop.net))


def _env_alone(env: str, settings: Settings) -> Prepared:
    world = WORLDS[env](settings.num_envs, settings.seed)
    actions = np.random.default_rng(0).integers(world.num_actions, size=(settings.num_steps, settings.num_envs))

    def run(report: Report) -> None:
        world.reset()
        steps, resets = 0, np.zeros(settings.num_envs, bool)
        while True:
            for action in actions:
                outcome = world.step(action)
                steps += settings.num_envs - int(resets.sum())
                resets = outcome.terminated | outcome.truncated
            report(steps)

    return Prepared(run, 0)


def _our_env(env: str, settings: Settings) -> Any:
    """The same task as the opponents' world, as users build it: a life of one task."""
    from nl_agents import envs

    suite, task, backend = {
        "cartpole": ("cartpole-flip", "standard", "auto"),
        "doorkey": ("minigrid-recurring", "DoorKey-5x5", "envpool"),
        "doorkey-python": ("minigrid-recurring", "DoorKey-5x5", "python"),
    }[env]
    return envs.SUITES[suite].task_env(task, settings.num_envs, settings.seed, backend=backend)


def _ours(env: str, settings: Settings, *, agent: str, core_only: bool) -> Prepared:
    from nl_agents import agents

    config = agents.config(agent)
    config.memory.width = settings.width
    config.ppo.num_steps, config.ppo.num_epochs = settings.num_steps, settings.num_epochs
    config.ppo.num_minibatches = settings.num_minibatches
    config.optimizer.lr = settings.learning_rate
    if core_only:
        config.replay.ratio, config.optimizer.name, config.control.enabled = 0.0, "adamw", False
    made = agents.make(agent, _our_env(env, settings), seed=settings.seed, device=settings.device, config=config)

    def run(report: Report) -> None:
        made.learn(10**12, callback=lambda progress: report(progress.num_timesteps))

    return Prepared(run, _count(made.policy))


CONTESTANTS: dict[str, Contestant] = {
    "stock": Contestant(
        "a",
        "stock RecurrentPPO",
        "sb3-contrib as it is: an LSTM each for actor and critic, its default",
        partial(_recurrent_ppo, fused=False, critic_lstm=True),
    ),
    "stock-shared": Contestant(
        "a'",
        "stock RecurrentPPO, shared LSTM",
        "the critic reads the actor's LSTM, without gradient",
        partial(_recurrent_ppo, fused=False, critic_lstm=False),
    ),
    "fused": Contestant(
        "b",
        "fused RecurrentPPO",
        "one LSTM call a sequence, the same weights after an update; an LSTM each for actor and critic",
        partial(_recurrent_ppo, fused=True, critic_lstm=True),
    ),
    "hand-lstm": Contestant(
        "c",
        "hand-written PPO-LSTM loop",
        "LSTM by a step loop with resets; one LSTM for actor and critic",
        partial(_hand_loop, recurrent=True),
    ),
    "hand-lstm-stretches": Contestant(
        "c'",
        "the same, one LSTM call a stretch without resets",
        "the same numbers, faster where resets are rare; one LSTM for actor and critic",
        partial(_hand_loop, recurrent=True, stretches=True),
    ),
    "hand-mlp": Contestant(
        "d",
        "the same loop, feed-forward",
        "no memory; minibatches of shuffled transitions",
        partial(_hand_loop, recurrent=False),
    ),
    "env": Contestant("e", "environment alone", "random actions, nothing learned", _env_alone),
    "hope-core": Contestant(
        "",
        "hope core",
        "replay off, AdamW, controller off; one core for actor and critic",
        partial(_ours, agent="hope", core_only=True),
    ),
    "hope": Contestant(
        "",
        "hope, full default",
        "replay, deep optimizer and controller on; one core for actor and critic",
        partial(_ours, agent="hope", core_only=False),
    ),
    "recurrent-ppo": Contestant(
        "",
        "our recurrent-ppo",
        "our trainer with an LSTM cleared at episodes",
        partial(_ours, agent="recurrent-ppo", core_only=False),
    ),
    "ppo": Contestant(
        "", "our ppo", "our trainer with a feed-forward net", partial(_ours, agent="ppo", core_only=False)
    ),
}
DEFAULT = ("stock", "fused", "hand-lstm", "hand-lstm-stretches", "hand-mlp", "env", "hope-core", "hope")
