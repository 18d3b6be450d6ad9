from __future__ import annotations

import numpy as np

from nl_agents.evaluation import find_visits
from tests.evaluation.lives import blocks, life_of


def test_visits_follow_the_task_log_and_end_with_the_life() -> None:
    life = life_of([], [(0, "a"), (100, "b"), (250, "a"), (900, "b")], steps=400, num_envs=2)
    visits = find_visits(life)
    assert visits.begin.tolist() == [0, 100, 250]
    assert visits.end.tolist() == [100, 250, 400]
    assert visits.number.tolist() == [1, 1, 2]
    assert visits.cut.tolist() == [False, False, True]
    assert visits.task_length == 125.0  # median of 100 and 150: the cut visit is left out


def test_a_switch_to_the_same_task_is_no_switch() -> None:
    life = life_of([], [(0, "a"), (100, "a"), (200, "b")], steps=300, num_envs=1)
    assert find_visits(life).begin.tolist() == [0, 200]


def test_an_episode_that_straddles_a_switch_counts_for_neither() -> None:
    rows = [
        (0, 90, "a", 1.0, 0),  # inside the first visit
        (90, 130, "b", 2.0, 0),  # straddles
        (130, 200, "b", 3.0, 0),  # inside the second, ends on its last step
        (200, 260, "a", 4.0, 0),  # inside the third
    ]
    life = life_of(rows, blocks(100, 3), steps=300, num_envs=1)
    assert find_visits(life).of_episode.tolist() == [0, -1, 1, 2]


def test_an_episode_that_ends_in_the_vector_step_that_reaches_the_switch_still_counts() -> None:
    # 4 streams: the clock goes 96, 100, ... ; a switch scheduled at 98 takes effect at clock 100.
    rows = [(0, 100, "a", 1.0, 0), (0, 104, "b", 1.0, 1), (100, 140, "b", 1.0, 0)]
    effective = [(0, stream, "a") for stream in range(4)] + [(100, stream, "b") for stream in range(4)]
    for log in (effective, []):
        life = life_of(rows, [(0, "a"), (98, "b")], steps=200, num_envs=4, effective_log=log)
        assert find_visits(life).of_episode.tolist() == [0, -1, 1]


def test_an_old_task_that_runs_on_after_the_switch_is_left_out() -> None:
    # next-reset: stream 1 keeps task a until its episode ends at 160; only what it begins then is on task b.
    rows = [(80, 160, "a", 1.0, 1), (160, 180, "b", 5.0, 1), (100, 150, "b", 2.0, 0)]
    effective = [(0, 0, "a"), (0, 1, "a"), (100, 0, "b"), (160, 1, "b")]
    life = life_of(rows, [(0, "a"), (100, "b")], steps=200, num_envs=2, effective_log=effective)
    assert find_visits(life).of_episode.tolist() == [-1, 1, 1]


def test_a_task_skipped_by_a_long_episode_has_no_episode() -> None:
    life = life_of([(50, 250, "a", 1.0, 0)], [(0, "a"), (100, "b"), (200, "a")], steps=300, num_envs=1)
    assert np.array_equal(find_visits(life).of_episode, [-1])
