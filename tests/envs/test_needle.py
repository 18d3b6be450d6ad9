"""needle: right answers by a judge that remembers, chance without, and a question that episodes lie before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nl_agents import envs
from nl_agents.envs.needle import TASKS
from nl_agents.envs.needle_backend import CUES, QUESTION, NeedleBackend, Trial
from nl_agents.evaluation.reference import load_reference
from nl_agents.tasks import Blocks, Constant, TaskSequence

Guess = Callable[[list[int]], int]  # what was seen, cues of all episodes so far last -> the answer


def returns(sequence: TaskSequence, guess: Guess, episodes: int, cleared: bool = False) -> list[float]:
    """Episode returns of a judge on every stream; ``cleared``: it forgets at every new episode."""
    seen, _ = sequence.reset(seed=0)
    known: list[list[int]] = [[] for _ in range(sequence.num_envs)]
    found: list[float] = []
    first = np.ones(sequence.num_envs, bool)
    while len(found) < episodes * sequence.num_envs:
        for stream, symbol in enumerate(seen.tolist()):
            if first[stream]:
                known[stream] = [*([] if cleared else known[stream]), symbol]
                assert symbol < CUES
        seen, reward, terminated, truncated, _ = sequence.step(np.array([guess(cues) for cues in known]))
        assert not truncated.any() and (reward[~terminated] == 0).all()
        found += reward[terminated].tolist()
        first = terminated
    return found


def build(task: str, num_envs: int = 50) -> TaskSequence:
    return envs.SUITES["needle"].task_env(task, num_envs=num_envs, autoreset="same-step")


def this_cue(cues: list[int]) -> int:
    return cues[-1]


def cue_before(cues: list[int]) -> int:
    return cues[-2] if len(cues) > 1 else 0


def test_who_remembers_is_always_right() -> None:
    assert np.mean(returns(build("within-10"), this_cue, 6)) == 1.0
    across = returns(build("across-10"), cue_before, 6)
    assert np.mean(across[50:]) == 1.0
    assert np.mean(across[:50]) == pytest.approx(1 / CUES, abs=0.2)  # the very first episode asks for what never was


def test_chance_is_all_there_is_without_the_right_memory() -> None:
    assert np.mean(returns(build("within-10", 200), lambda cues: 0, 10)) == pytest.approx(1 / CUES, abs=0.04)
    assert np.mean(returns(build("across-10", 200), this_cue, 10)) == pytest.approx(1 / CUES, abs=0.04)
    cleared = returns(build("across-10", 200), cue_before, 10, cleared=True)
    assert np.mean(cleared) == pytest.approx(1 / CUES, abs=0.04)


def test_an_episode_is_cue_distractors_question() -> None:
    sequence = build("within-10", 3)
    seen = [sequence.reset(seed=1)[0]]
    for step in range(12):
        after, _, terminated, _, info = sequence.step(np.zeros(3, int))
        assert terminated.all() == (step == 11)
        seen.append(after)
    shown = np.array(seen)
    assert (shown[0] < CUES).all() and (shown[11] == QUESTION).all()
    assert ((shown[1:11] >= CUES) & (shown[1:11] < QUESTION)).all()
    assert info["final_obs"].tolist() == [QUESTION] * 3 and (shown[12] < CUES).all()
    assert len(np.unique(shown[1:11])) == QUESTION - CUES


def test_episodes_differ_and_do_not_depend_on_other_streams() -> None:
    few, many = (build("within-100", count).reset(seed=4)[0] for count in (5, 400))
    np.testing.assert_array_equal(few, many[:5])
    assert np.bincount(many, minlength=CUES).min() > 60


def test_a_hundred_thousand_steps_lie_between() -> None:
    backend = NeedleBackend((TASKS["within-100000"],), 2)
    assert backend.episode_limit == 100_002
    backend.reset(np.arange(2), np.zeros(2, np.int64))
    cue = backend.observations()
    state = backend.get_state()
    backend.set_state(state | {"steps": np.full(2, 100_001)})
    assert backend.observations().tolist() == [QUESTION] * 2
    reward, terminated, _ = backend.step(cue, None)
    assert reward.tolist() == [1.0, 1.0] and terminated.all()


def test_the_kind_changes_unannounced() -> None:
    schedule = Blocks([(0, 2400), (1, 2400)], cycles=1)
    sequence = envs.make_sequence("needle:demo", num_envs=20, schedule=schedule, autoreset="same-step")
    found = returns(sequence, this_cue, 20)
    assert np.mean(found[:200]) == 1.0  # ten episodes of twelve steps on twenty streams
    assert np.mean(found[200:]) == pytest.approx(1 / CUES, abs=0.1)
    assert {(at, name) for at, _, name in sequence.effective_log} == {(0, "within-10"), (2400, "across-10")}
    found = returns(sequence, cue_before, 20)
    assert np.mean(found[200:]) == 1.0  # also of cues that were shown while the question was another


def test_references_are_the_closed_form() -> None:
    levels = load_reference("needle")
    assert set(levels) == set(TASKS) and set(levels.values()) == {(1 / CUES, 1.0)}


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"needs 1 <= distance .*back >= 0, got Trial\(distance=0, back=0\)"):
        NeedleBackend((Trial(0),), 2)
    with pytest.raises(ValueError, match="native vector backend only, got backend='envpool'; use 'auto'"):
        envs.make_sequence("needle", backend="envpool")
    backend = NeedleBackend((Trial(3),), 2)
    with pytest.raises(NotImplementedError, match="use switch='next-reset'"):
        backend.set_tasks(np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="expected switch='next-reset', got 'in-episode'"):
        TaskSequence(backend, ["one"], Constant(), switch="in-episode")
