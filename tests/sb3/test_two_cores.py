"""Two cores and the pass without autograd change nothing but the time: the same weights to the last bit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env
from torch import Tensor, nn

pytest.importorskip("sb3_contrib")
pytest.importorskip("numba")

from nl_agents.sb3 import FastRecurrentPPO, fast_recurrent_ppo, two_cores
from nl_agents.sb3.two_cores import both
from tests.sb3.small import CRITICS, Toy

HELPER = "nl_agents.two_cores"


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine of two cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(two_cores, "_cores", lambda: 2)
    yield
    torch.set_num_threads(threads)


def helpers() -> int:
    return sum(thread.name == HELPER for thread in threading.enumerate())


def learnt(num_envs: int, width: int, critic: str, threads: int = 2, **options: Any) -> list[Tensor]:
    env = make_vec_env(Toy, num_envs, seed=1, env_kwargs={"truncates": True})
    kwargs = {"lstm_hidden_size": width, **CRITICS[critic], **options}
    torch.set_num_threads(1)  # torch's first weights depend on it
    model = FastRecurrentPPO(
        "MlpLstmPolicy",
        env,
        n_steps=10,
        batch_size=5 * num_envs,
        chunk_steps=5,
        n_epochs=2,
        device="cpu",
        seed=0,
        policy_kwargs=kwargs,
    )
    torch.set_num_threads(threads)
    model.learn(20 * num_envs)
    assert model.refused_steps == 0 and helpers() == 0 and torch.get_num_threads() == threads
    return [parameter.detach().clone() for parameter in model.policy.parameters()]


@pytest.mark.parametrize("options", [{}, {"lstm_kwargs": {"bias": False}}, {"activation_fn": nn.ReLU}])
@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize(("num_envs", "width"), [(9, 20), (3, 32)])
def test_one_core_or_two_with_autograd_or_without_learn_the_same(
    num_envs: int, width: int, critic: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [learnt(num_envs, width, critic, threads, **options) for threads in (1, 2)]
    monkeypatch.setattr(fast_recurrent_ppo, "straight_pass", None)
    found += [learnt(num_envs, width, critic, threads, **options) for threads in (1, 2)]
    assert all(torch.equal(one, other) for others in found[1:] for one, other in zip(found[0], others, strict=True))


def test_the_straight_pass_is_taken_where_it_serves_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bool] = []
    admits = fast_recurrent_ppo.straight_pass.admits
    monkeypatch.setattr(
        fast_recurrent_ppo.straight_pass, "admits", lambda policy: taken.append(admits(policy)) or taken[-1]
    )
    for expected, critic, options in (
        (True, "own", {}),
        (True, "shared", {}),
        (False, "feed-forward", {}),
        (False, "own", {"n_lstm_layers": 2}),
    ):
        learnt(4, 8, critic, **options)
        assert set(taken) == {expected}, (critic, options)
        taken.clear()


def test_a_frozen_parameter_stays_as_it_is() -> None:
    model = FastRecurrentPPO("MlpLstmPolicy", make_vec_env(Toy, 2), n_steps=8, batch_size=8, device="cpu")
    frozen = model.policy.lstm_actor.weight_ih_l0.requires_grad_(False)
    before = frozen.clone()
    model.learn(32)
    assert torch.equal(before, frozen)


def test_work_goes_to_another_thread_and_what_goes_wrong_there_is_told() -> None:
    seen: dict[str, Any] = {}

    def look(name: str) -> None:
        seen[name] = (threading.current_thread().name, torch.is_grad_enabled(), torch.get_num_threads())

    def fails() -> None:
        raise ValueError("of the helper")

    with two_cores.two_cores(), torch.no_grad():
        assert helpers() == 1
        both(lambda: both(lambda: look("deep"), lambda: look("inner")), lambda: look("other"))
        assert seen["other"] == (HELPER, False, 1) and seen["inner"][0] == seen["deep"][0] != HELPER
        with pytest.raises(ValueError, match="of the helper"):
            both(lambda: look("one"), fails)
        with pytest.raises(ValueError, match="of the helper"):
            both(fails, lambda: look("after"))
        assert seen["after"][0] == HELPER
        with two_cores.two_cores():  # one helper is enough
            assert helpers() == 1
    assert helpers() == 0 and torch.get_num_threads() == 2


@pytest.mark.parametrize(("threads", "cores"), [(1, 2), (2, 1)])
def test_one_core_is_enough(threads: int, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_cores, "_cores", lambda: cores)
    torch.set_num_threads(threads)
    names: list[str] = []
    with two_cores.two_cores():
        both(*(lambda: names.append(threading.current_thread().name) for _ in range(2)))
        assert helpers() == 0
    assert len(names) == 2 and HELPER not in names
