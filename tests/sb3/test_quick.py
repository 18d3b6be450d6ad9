"""The compiled forms of acting, of the heads and of PPO's losses say what torch says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor, nn

pytest.importorskip("sb3_contrib")
pytest.importorskip("numba")

from nl_agents.sb3 import FastRecurrentPPO, fast_recurrent_ppo, policies
from nl_agents.sb3.policies import SequenceFlags
from tests.sb3.small import CRITICS, Toy

SHAPES: dict[str, dict[str, Any]] = {
    "tanh": {},
    "relu": {"net_arch": {"pi": [5], "vf": [7, 6]}, "activation_fn": nn.ReLU},
    "linear": {"net_arch": []},
}


class Doubled(FlattenExtractor):
    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(observations).double()


def made(policy: str = "MlpLstmPolicy", **kwargs: Any) -> FastRecurrentPPO:
    options: dict[str, Any] = {"n_steps": 8, "batch_size": 24, "chunk_steps": 4, "seed": 0, "device": "cpu"}
    model = FastRecurrentPPO(
        policy, make_vec_env(Toy, 3), **options, policy_kwargs={**kwargs, "features_extractor_class": Doubled}
    )
    model.policy.double()
    return model


@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("layers", "whole"), [(1, True), (1, False), (2, False)])
def test_acting_draws_what_torch_draws(
    shape: str, critic: str, layers: int, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``whole``: features are what is seen, so a step is one compiled call where the critic has a memory to read."""
    policy = made(lstm_hidden_size=6, n_lstm_layers=layers, **SHAPES[shape], **CRITICS[critic]).policy
    outcomes = []
    serves_act = policies.quick_act.serves_act
    for quick in (True, False):
        if not quick:
            monkeypatch.setattr(policies, "quick_act", None)
            monkeypatch.setattr("nl_agents.sb3.cells.quick_act", None)
        torch.manual_seed(0)
        memory, said = policy.initial_memory(3), []
        policy.sees_vectors = whole and quick
        assert not quick or serves_act(policy, torch.zeros(3, 3).double(), memory.pi) == (
            whole and critic != "feed-forward"
        )
        for step in range(4):
            first = torch.tensor([[step in (0, 2), False, step == 3]])
            obs = torch.randn(3, 3).double()
            actions, values, log_probs, memory = policy.act_step(obs, memory, SequenceFlags(first))
            said += [actions.double(), values, log_probs]
        outcomes.append([*said, *memory.pi, *([] if memory.vf is None else memory.vf)])
    for quick, slow in zip(*outcomes, strict=True):
        torch.testing.assert_close(quick, slow, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_heads_and_their_gradients_are_torchs(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = made(lstm_hidden_size=8, **SHAPES[shape]).policy
    obs = torch.randn(12, 3, dtype=torch.float64)
    actions, flags = torch.randint(0, 2, (12,)), SequenceFlags(torch.rand(4, 3) < 0.3)
    weights, found = torch.randn(3, 12, dtype=torch.float64), []
    for quick in (True, False):
        if not quick:
            monkeypatch.setattr(policies, "heads_lanes", None)
        said = policy.evaluate_sequence(obs, actions, policy.initial_memory(3), flags)
        total = (weights * torch.stack([part for part in said if part is not None])).sum()
        found.append([*said, *torch.autograd.grad(total, list(policy.parameters()))])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("some", [False, True])
@pytest.mark.parametrize("clip_range_vf", [None, 0.3])
@pytest.mark.parametrize("normalises", [True, False])
def test_the_losses_and_their_gradients_are_torchs(some: bool, clip_range_vf: float | None, normalises: bool) -> None:
    model = made()
    model.clip_range_vf = None if clip_range_vf is None else (lambda left: clip_range_vf)
    model.normalize_advantage, model.ent_coef, model.vf_coef = normalises, 0.03, 0.7
    torch.manual_seed(0)
    columns = [torch.randn(50, dtype=torch.float64) * 0.5 for _ in range(4)]
    batch: Any = fast_recurrent_ppo.ChunkBatch(
        torch.zeros(0), torch.zeros(0), *columns, torch.rand(50) < 0.7 if some else None, *(None,) * 4
    )  # type: ignore[arg-type]
    rows = slice(None) if batch.trains is None else batch.trains
    said = [torch.randn(50, dtype=torch.float64).mul_(0.5).requires_grad_() for _ in range(3)]
    values, log_probs, entropies = said
    slow, (ends, _) = model._losses(batch, values[rows], log_probs[rows], entropies, rows, len(values[rows]))
    quick, (_, grads) = model._quick_losses(batch, values, log_probs, entropies)
    assert grads is not None and list(slow) == list(quick)
    for name, figure in slow.items():
        near = 1e-6 if name == "clip" else 1e-10  # torch counts the clipped ones in float32
        assert quick[name] == pytest.approx(float(figure), rel=near, abs=1e-12), name
    expected: tuple[Tensor, ...] = torch.autograd.grad(ends[0], said)
    for quick_grad, grad in zip(grads, expected, strict=True):
        torch.testing.assert_close(quick_grad, grad, rtol=1e-10, atol=1e-14)


PLACES = {
    "action_net": lambda policy: policy.action_net,
    "policy_net": lambda policy: policy.mlp_extractor.policy_net[0],
    "value_net": lambda policy: policy.value_net,
    "lstm_actor": lambda policy: policy.lstm_actor,
    "lstm_critic": lambda policy: policy.lstm_critic,
    "features": lambda policy: policy.features_extractor,
}


def plain() -> FastRecurrentPPO:
    env = make_vec_env(Toy, 3, seed=0)
    kwargs = {"lstm_hidden_size": 8}
    return FastRecurrentPPO("MlpLstmPolicy", env, n_steps=8, batch_size=24, seed=0, device="cpu", policy_kwargs=kwargs)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # torch says so of inputs without gradient
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"])
def test_a_hook_is_heard_while_acting_and_learning(place: str, kind: str) -> None:
    model, heard = plain(), {"acting": 0, "learning": 0}
    train, phase = model.train, ["acting"]

    def listen(*told: Any) -> None:
        heard[phase[0]] += 1

    def learn() -> None:
        phase[0] = "learning"
        train()

    part = PLACES[place](model.policy)
    getattr(part, f"register_{kind}")(listen)
    model.train = learn  # type: ignore[method-assign]
    model.learn(24)
    if kind.startswith("forward"):
        assert heard["acting"] > 7
    if kind.startswith("forward") or place != "features":  # no gradient reaches what is seen
        assert heard["learning"] > 0
    expected = plain().learn(24).policy.state_dict()
    for name, value in model.policy.state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("kind", ["hook", "post_accumulate_grad_hook"])
@pytest.mark.parametrize("place", list(PLACES)[:-1])
def test_a_hook_on_a_parameter_is_heard(place: str, kind: str) -> None:
    model, heard = plain(), []
    weight = next(PLACES[place](model.policy).parameters())
    getattr(weight, f"register_{kind}")(lambda told: heard.append(told.shape))
    model.learn(24)
    assert len(heard) == model.n_epochs, "one minibatch each"


@pytest.mark.parametrize("module", ["cells", "policies", "fast_recurrent_ppo"])
def test_without_the_compiled_forms_all_goes_on(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lstm_lanes", "quick_act", "heads_lanes", "ppo_kernel"):
        monkeypatch.setattr(f"nl_agents.sb3.{module}.{name}", None, raising=False)
    model = FastRecurrentPPO("MlpLstmPolicy", make_vec_env(Toy, 2), n_steps=8, batch_size=8, device="cpu").learn(48)
    assert all(bool(torch.isfinite(value).all()) for value in model.policy.parameters())
