"""Lives through a task sequence and writes down every episode: for any agent, model or function that acts."""

from __future__ import annotations

import importlib
import inspect
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nl_agents.errors import ConfigError
from nl_agents.evaluation import sb3_lives
from nl_agents.evaluation.lifetime import Lifetime
from nl_agents.seeding import spawn
from nl_agents.types import Episode


class EpisodeRecorder:
    """Turns vector steps into ``Episode`` rows; fed once per step, after it.

    Args:
        sequence: the ``TaskSequence`` whose clock and ground truth are read. It must autoreset in the same step.
    """

    def __init__(self, sequence: Any) -> None:
        self.sequence = sequence
        self.episodes: list[Episode] = []
        self._returns = np.zeros(sequence.num_envs)
        self._length = np.zeros(sequence.num_envs, np.int64)
        self._begin = np.full(sequence.num_envs, sequence.clock, np.int64)

    def record(self, reward: NDArray[Any], ended: NDArray[np.bool_]) -> None:
        """Counts one vector step: reward [B], and ended [B], true where an episode ended."""
        self._returns += reward
        self._length += 1
        if not ended.any():
            return
        names, tasks, clock = self.sequence.task_names, self.sequence.stream_tasks, int(self.sequence.clock)
        for stream in np.flatnonzero(ended).tolist():
            total, length, begin = float(self._returns[stream]), int(self._length[stream]), int(self._begin[stream])
            self.episodes.append(Episode(clock, stream, names[int(tasks[stream])], total, length, begin))
        self._returns[ended], self._length[ended], self._begin[ended] = 0.0, 0, clock

    def lifetime(self, meta: dict[str, Any]) -> Lifetime:
        """The record of the life so far."""
        sequence = self.sequence
        return Lifetime.from_episodes(
            self.episodes,
            sequence.task_log,
            steps=int(sequence.clock),
            num_envs=int(sequence.num_envs),
            effective_log=sequence.effective_log,
            meta=meta,
        )


def run_lifetime(
    subject: Any,
    sequence: Any,
    steps: int,
    seed: int = 0,
    *,
    learn: bool = True,
    deterministic: bool = False,
    num_envs: int = 16,
) -> Lifetime:
    """Lets anything that acts live through a task sequence, and returns the record of its life.

    Args:
        subject: one of our agents, a Stable-Baselines3 model, any object with their ``predict``, or a function from
            observations [B, ...] to actions [B, ...].
        sequence: a ``TaskSequence``, as it is, behind vector wrappers or in a Stable-Baselines3 ``VecEnv`` made of it
            (``VecNormalize(to_sb3(sequence))``, for a model that sees it so); or the name of one. With ``learn`` our
            agents live on the sequence that they were made with: pass that one.
        steps: env steps over all streams.
        seed: starts a new life of the sequence; equal seeds give equal schedules. (Our agents, learning, keep the
            seed of their making.)
        learn: whether the subject's ``learn`` runs the life. False: parameters stay fixed, recurrent states live on.
        deterministic: passed to ``predict`` when not learning.
        num_envs: streams of a sequence given by name.

    Returns:
        The life. Its ``meta`` holds sequence, seed, learn and the class of the subject.

    Raises:
        ConfigError: ``learn`` with a subject that cannot learn, or with an agent bound to another sequence.
    """
    if steps < 1:
        raise ConfigError(f"steps must be an integer >= 1, got {steps}; give the env steps of the life")
    env = make_sequence(sequence, num_envs, seed)
    meta = {
        "agent": getattr(subject, "name", type(subject).__name__),
        "sequence": sequence if isinstance(sequence, str) else getattr(env, "name", None),
        "seed": seed,
        "learn": learn,
        "num_envs": int(env.num_envs),
    }
    if not learn:
        return _run_fixed(subject, env, steps, seed, deterministic).lifetime(meta)
    if not hasattr(subject, "learn"):
        raise ConfigError(
            f"learn=True needs a subject with a learn method, got {type(subject).__name__}; pass learn=False for a "
            "function or a frozen policy"
        )
    if "run_dir" in inspect.signature(subject.learn).parameters:
        return _run_agent(subject, env, steps, meta)
    return _run_sb3(subject, env, steps, seed).lifetime(meta)


def run_episodes(
    subject: Any, sequence: Any, episodes: int, seed: int = 0, *, deterministic: bool = True
) -> list[Episode]:
    """Lets a fixed subject finish a number of episodes, memory newborn at the start and kept from then on.

    Every stream contributes the same number (the first streams one more where it does not divide), so that short
    episodes are not over-represented.

    Args:
        subject: as in ``run_lifetime``.
        sequence: as in ``run_lifetime``; for one task at a time that of ``nl_agents.tasks.single_task``.
        episodes: finished episodes wanted, int >= 1.
        seed: of the sequence's new life.
        deterministic: passed to ``predict``.
    """
    if episodes < 1:
        raise ConfigError(f"episodes must be an integer >= 1, got {episodes}; 20 is usual")
    streams = int(sequence.num_envs)
    wanted = np.array([episodes // streams + (stream < episodes % streams) for stream in range(streams)])
    taken = np.zeros(streams, np.int64)
    chosen: list[Episode] = []
    for recorder in _steps(subject, sequence, seed, deterministic):
        for episode in recorder.episodes:
            if taken[episode.stream] < wanted[episode.stream]:
                taken[episode.stream] += 1
                chosen.append(episode)
        recorder.episodes.clear()
        if len(chosen) == episodes:
            break
    return chosen


def make_sequence(sequence: Any, num_envs: int = 16, seed: int = 0, **options: Any) -> Any:
    """Returns the sequence itself, or makes the one named."""
    if not isinstance(sequence, str):
        return sequence
    suites = importlib.import_module("nl_agents.envs")
    return suites.make_sequence(sequence, num_envs=num_envs, seed=spawn(seed, "sequence"), **options)


def acting(subject: Any, deterministic: bool) -> Callable[..., tuple[Any, Any]]:
    """Returns ``act(observation, state, episode_start, reward) -> (actions, state)`` for whatever the subject is."""
    if not hasattr(subject, "predict"):
        if not callable(subject):
            raise ConfigError(
                f"expected an agent, a model with predict, or a function from observations to actions, got "
                f"{type(subject).__name__}; wrap it in a function"
            )
        return lambda observation, state, episode_start, reward: (subject(observation), state)
    takes_reward = "reward" in inspect.signature(subject.predict).parameters

    def act(observation: Any, state: Any, episode_start: Any, reward: Any) -> tuple[Any, Any]:
        more = {"reward": reward} if takes_reward else {}
        actions, state = subject.predict(
            observation, state=state, episode_start=episode_start, deterministic=deterministic, **more
        )
        return actions, state

    return act


def _run_fixed(subject: Any, env: Any, steps: int, seed: int, deterministic: bool) -> EpisodeRecorder:
    return next(recorder for recorder in _steps(subject, env, seed, deterministic) if recorder.sequence.clock >= steps)


def _steps(subject: Any, env: Any, seed: int, deterministic: bool) -> Iterator[EpisodeRecorder]:
    """Lives on for ever with fixed parameters; yields the recorder after every vector step."""
    act = acting(subject, deterministic)
    is_bare = not sb3_lives.is_vec_env(env)
    env = env if is_bare else sb3_lives.Fixed(env)
    sb3_lives.check_view(subject, env.single_observation_space, is_bare)
    env.unwrapped.set_autoreset("same-step")
    observation, _ = env.reset(seed=spawn(seed, "sequence"))
    recorder = EpisodeRecorder(env.unwrapped)
    state: Any = None
    episode_start, reward = np.ones(env.num_envs, bool), np.zeros(env.num_envs)
    while True:
        actions, state = act(observation, state, episode_start, reward)
        observation, reward, terminated, truncated, _ = env.step(actions)
        episode_start = terminated | truncated
        recorder.record(reward, episode_start)
        yield recorder


def _run_agent(agent: Any, env: Any, steps: int, meta: dict[str, Any]) -> Lifetime:
    own = getattr(agent, "env", env)
    if own is not env and getattr(own, "unwrapped", own) is not env:
        raise ConfigError(
            "learn=True: our agents live on the sequence that they were made with, and this agent has another; "
            "pass that sequence (agent.env), or make the agent on this one"
        )
    with tempfile.TemporaryDirectory() as folder:
        agent.learn(steps, run_dir=Path(folder) / "life")
        life = Lifetime.from_run_folder(Path(folder) / "life")
    life.meta.pop("run_dir", None)
    life.meta.update({key: value for key, value in meta.items() if life.meta.get(key) is None})
    return life


def _run_sb3(model: Any, env: Any, steps: int, seed: int) -> EpisodeRecorder:
    recorders: list[EpisodeRecorder] = []

    def begin(inner: Any) -> None:
        inner.vector_env.reset(seed=spawn(seed, "sequence"))
        inner.seed(spawn(seed, "sequence"))  # in place of a seed that the model has left for its first reset
        recorders.append(EpisodeRecorder(inner.vector_env.unwrapped))

    def record(inner: Any) -> int:
        recorders[0].record(inner.latest_reward, inner.latest_ended)
        return int(recorders[0].sequence.clock)

    sb3_lives.learn(model, env, steps, begin, record)
    return recorders[0]
