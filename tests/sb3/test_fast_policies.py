"""Policies and spaces of one's own in FastRecurrentPPO: what they change is heard, or refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.env_util import make_vec_env
from torch import Tensor

from nl_agents import envs
from nl_agents.errors import ConfigError
from nl_agents.sb3 import FastLstmPolicy, FastRecurrentPPO, HopePolicy
from nl_agents.tasks import Cyclic, Task
from tests.sb3.small import CRITICS, POLICY_KWARGS, Toy

SHORT: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "device": "cpu", "seed": 0}


def finite(model: Any) -> bool:
    return all(bool(value.isfinite().all()) for value in model.policy.state_dict().values())


class GroupedPolicy(HopePolicy):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        groups = [
            {"params": self.lstm_actor.parameters(), "weight_decay": 0.3},
            {"params": self.action_net.parameters()},
        ]
        self.optimizer = torch.optim.Adam(groups, lr=1e-3)


def test_an_adam_that_the_policy_built_is_kept() -> None:
    model = FastRecurrentPPO(GroupedPolicy, Toy(), **SHORT, policy_kwargs=POLICY_KWARGS["gru"])
    before = model.policy.value_net.weight.clone()
    groups = model.learn(16).policy.optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0] and all(group["fused"] for group in groups)
    assert torch.equal(before, model.policy.value_net.weight), "in none of its groups"
    chosen = {**POLICY_KWARGS["gru"], "optimizer_kwargs": {"foreach": True}}
    other = FastRecurrentPPO("HopePolicy", Toy(), **SHORT, policy_kwargs=chosen)
    assert other.policy.optimizer.param_groups[0]["fused"] is None


@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("base", [HopePolicy, FastLstmPolicy])
def test_a_mask_on_actions_is_kept(base: Any, critic: str) -> None:
    class Masked(base):  # type: ignore[misc]
        def _get_action_dist_from_latent(self, latent_pi: Tensor) -> Any:
            forbidden = torch.tensor([0.0, -1e8, 0.0])
            return self.action_dist.proba_distribution(action_logits=self.action_net(latent_pi) + forbidden)

    env = make_vec_env(Toy, 2, env_kwargs={"space": spaces.Discrete(3)})
    model = FastRecurrentPPO(Masked, env, **SHORT, policy_kwargs=CRITICS[critic]).learn(64)
    taken = model.rollout_buffer.actions
    assert bool((taken == 0).any()) and bool((taken == 2).any()) and not bool((taken == 1).any())
    assert model.rollout_buffer.log_probs.min() > -1e4 and finite(model)


@pytest.mark.parametrize("name", ["forward", "predict_values", "evaluate_actions", "_process_sequence"])
def test_what_only_recurrent_ppo_calls_is_refused(name: str) -> None:
    other = type("Other", (FastLstmPolicy,), {name: lambda self, *given: getattr(FastLstmPolicy, name)(self, *given)})
    RecurrentPPO(other, Toy(), **SHORT)
    with pytest.raises(ConfigError, match=rf"Other\.{name} is called by RecurrentPPO and not .* override \w+"):
        FastRecurrentPPO(other, Toy(), **SHORT)
    both = type("Both", (other,), {"act_step": lambda self, *given: FastLstmPolicy.act_step(self, *given)})
    if name in ("forward", "_process_sequence"):
        FastRecurrentPPO(both, Toy(), **SHORT).learn(16)


@pytest.mark.parametrize("algorithm", [RecurrentPPO, FastRecurrentPPO])
@pytest.mark.parametrize(
    ("policy", "kind"),
    [("HopePolicy", "multi"), ("HopeMultiInputPolicy", "multi-dict"), ("FastLstmMultiInputPolicy", "multi-dict")],
)
def test_multidiscrete_observations(algorithm: Any, policy: str, kind: str) -> None:
    env = make_vec_env(Toy, 2, env_kwargs={"kind": kind})
    assert finite(algorithm(policy, env, **SHORT, policy_kwargs={"lstm_hidden_size": 16}).learn(32))


def test_a_sequence_shows_actions_of_several_parts() -> None:
    def born(**options: Any) -> Toy:
        return Toy(spaces.MultiDiscrete([2, 3]))

    sequence = envs.make_sequence([Task("one", born), Task("other", born)], num_envs=2, seed=0, schedule=Cyclic(40))
    env = envs.to_sb3(envs.AugmentObservation(sequence))
    kinds = {type(part) for part in env.observation_space.spaces.values()}
    assert spaces.MultiDiscrete in kinds
    assert finite(FastRecurrentPPO("HopeMultiInputPolicy", env, **SHORT, policy_kwargs=POLICY_KWARGS["gru"]).learn(32))
