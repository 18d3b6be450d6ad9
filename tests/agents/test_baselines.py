"""The baselines: what each does to the one trainer, how each acts at a switch, and that a cut life goes on exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nl_agents import agents, envs
from nl_agents.config import AgentConfig
from nl_agents.errors import ConfigError
from nl_agents.learning import ElasticPolicy, PermanentValues
from nl_agents.policies import PermanentTransientPolicy
from nl_agents.tasks import Cyclic
from nl_agents.training import Agent
from nl_agents.training.life import Life
from nl_agents.upkeep import ContinualBackprop, InitialPull, ReDo
from tests.training.small import small_config

BASELINES = [name for name in agents.AGENTS if name not in ("hope", "ppo", "recurrent-ppo", "rl2")]
SEQUENCE = "cartpole-flip:demo"
STEPS = 700


def eager(name: str) -> AgentConfig:
    """Small, and with upkeep so frequent that it happens in a short life."""
    config = small_config(name)
    config.upkeep.redo_period = min(config.upkeep.redo_period, 3)
    if config.upkeep.replacement:
        config.upkeep.replacement, config.upkeep.maturity = 0.02, 5
    if config.upkeep.permanent_every:
        config.upkeep.permanent_every = 3
    return config


def world(name: str, every: int = 250) -> Any:
    spec = agents.spec(name)
    level = "task-id" if spec.needs_task_id else "notified" if spec.needs_boundary else "hidden"
    return envs.make_sequence(SEQUENCE, num_envs=4, seed=3, info=level, schedule=Cyclic(every))


def make(name: str) -> Agent:
    return agents.make(name, world(name), seed=5, device="cpu", config=eager(name))


@pytest.mark.filterwarnings("ignore:a task lasts about")
@pytest.mark.parametrize("name", BASELINES)
def test_a_life_that_is_cut_goes_on_exactly(name: str, tmp_path: Path) -> None:
    """All that a baseline keeps belongs to the checkpoint: the second half equals that of an uncut life."""
    whole = make(name).learn(STEPS, run_dir=tmp_path / "whole")
    make(name).learn(STEPS // 2, run_dir=tmp_path / "cut")
    rest = make(name)
    life = Life.resumed(rest, tmp_path / "cut", STEPS)
    life.run(progress_bar=False, callback=None)
    assert rest.lives == whole.lives
    for key, value in whole.policy.state_dict().items():
        assert torch.equal(rest.policy.state_dict()[key], value), key
    for mine, theirs in zip(rest.learner.upkeep, whole.learner.upkeep, strict=True):
        assert mine.metrics() == theirs.metrics()
    assert (tmp_path / "cut" / "episodes.csv").read_bytes() == (tmp_path / "whole" / "episodes.csv").read_bytes()


@pytest.mark.parametrize("name", [name for name in BASELINES if name not in ("random", "expert")])
def test_a_saved_agent_can_be_loaded(name: str, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="less than two full episodes"):
        agent = make(name).learn(200)
        loaded = agents.load(agent.save(tmp_path / "agent"), world(name))
    for key, value in agent.policy.state_dict().items():
        assert torch.equal(loaded.policy.state_dict()[key], value)


def test_the_plasticity_baselines_differ_from_plain_ppo_in_one_thing_each() -> None:
    plain = agents.config("plain-ppo")
    assert (plain.memory.core, plain.memory.activation, plain.memory.layer_norm) == ("mlp", "relu", False)
    made = {name: agents.config(name) for name in BASELINES}
    made["layer-norm"].memory.layer_norm = False
    made["crelu"].memory.activation = "relu"
    made["l2-init"].upkeep.l2_init = 0.0
    made["trac"].optimizer.name = "adamw"
    for name in ("layer-norm", "crelu", "l2-init", "trac"):
        assert made[name] == plain, name
    assert made["clear"].replay.clone == "all" and made["clear"].replay.gradient == "v-trace"
    assert (made["clear"].replay.clone_policy, made["clear"].replay.clone_value) == (0.01, 0.005)
    assert made["ewc"].upkeep.ewc_decay is None and made["online-ewc"].upkeep.ewc_decay == 0.95


@pytest.mark.parametrize(("name", "kind"), [("redo", ReDo), ("continual-backprop", ContinualBackprop)])
@pytest.mark.filterwarnings("ignore:a task lasts about")
def test_units_are_replaced_in_a_life(name: str, kind: type[Any]) -> None:
    config = eager(name)
    config.upkeep.redo_threshold = 0.5
    agent = agents.make(name, world(name), seed=5, device="cpu", config=config).learn(600)
    (part,) = agent.learner.upkeep
    assert isinstance(part, kind) and part.metrics()["recycled_units"] > 0
    assert [layer.size for layer in part.layers] == [16, 16] and len(part.layers[1].outgoing) == 2


def test_units_that_cannot_be_told_apart_are_refused() -> None:
    for name, core in (("redo", "lstm"), ("continual-backprop", "feed-forward")):
        config = eager(name)
        config.memory.core = core
        with pytest.raises(ConfigError, match=r"can be replaced in the mlp core only.*set memory\.core=mlp"):
            agents.make(name, envs.make_sequence(SEQUENCE, num_envs=4), config=config)
    config = eager("redo")
    config.memory.activation = "crelu"
    with pytest.raises(ConfigError, match="came to ConcatenatedRelu"):
        agents.make("redo", envs.make_sequence(SEQUENCE, num_envs=4), config=config)


def test_random_acts_uniformly_and_learns_nothing() -> None:
    agent = agents.make("random", envs.make_sequence(SEQUENCE, num_envs=4, seed=1), seed=2, config=eager("random"))
    agent.learn(400)
    assert agent.learner.updates == 0
    assert agent.actor is not None and bool((agent.actor.rollout.parameters == 0).all())
    assert 0.3 < float(agent.actor.rollout.actions.double().mean()) < 0.7


@pytest.mark.filterwarnings("ignore:a task lasts about")
@pytest.mark.parametrize("name", ["ewc", "online-ewc"])
def test_ewc_files_a_task_at_every_switch_and_goes_on_learning(name: str) -> None:
    agent = make(name)
    updates: list[int] = []
    agent.learn(1000, callback=lambda living: updates.append(living.learner.updates))
    (part,) = agent.learner.upkeep
    assert isinstance(part, ElasticPolicy)
    assert part.tasks == len(agent.env.task_log) - 1 == 4  # type: ignore[union-attr]
    assert agent.lives == 0 and updates == sorted(updates) and updates[-1] == 4 * len(updates)
    assert sum(float(omega.sum()) for omega in part.importance) > 0.0
    penalty = part.penalty()
    assert penalty is not None and float(penalty.detach()) >= 0.0


def test_fisher_of_the_policy_is_that_of_its_logits() -> None:
    """The bias of the actor has the Fisher information E[p (1 - p)], whatever came before it; the critic's has 1."""
    agent = agents.make("ewc", world("ewc", 100_000), seed=5, device="cpu", config=eager("ewc"))
    assert agent.actor is not None
    rollout, _ = agent.actor.collect()
    (part,) = agent.learner.upkeep
    assert isinstance(part, ElasticPolicy)
    part.draws = 400
    part.after_rollout(rollout)
    part.at_switch()
    p = rollout.parameters.softmax(-1)
    expected = (p * (1 - p))[rollout.trains].mean(0)
    names = [name for name, _ in agent.policy.named_parameters()]
    found = part.importance[names.index("actor.bias")]
    assert torch.allclose(found, expected, rtol=0.15)
    assert float(part.importance[names.index("critic.bias")]) == pytest.approx(1.0, rel=0.15)


def test_values_are_the_sum_of_both_parts_and_consolidation_moves_them() -> None:
    agent = agents.make("permanent-transient", world("ppo", 100_000), seed=5, device="cpu", config=eager("random"))
    assert not isinstance(agent.policy, PermanentTransientPolicy), "the option makes it, not the name"
    config = eager("permanent-transient")
    config.upkeep.permanent_lr, config.upkeep.transient_decay = 3e-3, 0.0
    agent = agents.make("permanent-transient", world("ppo", 100_000), seed=5, device="cpu", config=config)
    policy, (part,) = agent.policy, agent.learner.upkeep
    assert (
        isinstance(policy, PermanentTransientPolicy) and isinstance(part, PermanentValues) and agent.actor is not None
    )
    with torch.no_grad():
        policy.critic.bias.fill_(2.0)
    errors = []
    for _ in range(30):
        rollout, _ = agent.actor.collect()
        given, state = rollout.inputs(), policy.core.unpack(rollout.state)
        with torch.no_grad():
            total = policy(given, state)[0].values
            transient = policy.critic(policy.forward(given, state)[0].readout)
        part.after_rollout(rollout)
        errors.append(float((policy.permanent_values(given).detach() - 2.0).square().mean()))
        if part.consolidations == 0:
            assert torch.allclose(total.mean(), transient.mean(), atol=0.5)
            with torch.no_grad():
                policy.critic.bias.fill_(2.0)
    assert part.consolidations == 10 and float(policy.critic.bias.detach()) == 0.0
    assert errors[0] > 3.9 and errors[2] < errors[0], "after the first consolidation it has begun to move to 2"


@pytest.mark.filterwarnings("ignore:a task lasts about")
def test_the_expert_keeps_a_learner_a_task() -> None:
    agent = make("expert")
    seen: dict[int, list[int]] = {0: [], 1: []}

    def note(living: Agent) -> None:
        assert living.experts is not None
        seen[living.experts.now].append(living.learner.updates)

    agent.learn(1500, callback=note)
    for updates in seen.values():
        assert updates == sorted(updates) and len(set(updates)) == len(updates) > 2, "each goes on where it stopped"
    assert agent.experts is not None and len(agent.experts.filed) == 1


def test_steps_of_another_task_train_nobody() -> None:
    agent = agents.make("expert", world("expert", 100_000), seed=5, device="cpu", config=eager("expert"))
    assert agent.experts is not None and agent.actor is not None
    agent.actor.restart()
    agent.experts.enter()
    rollout, _ = agent.actor.collect()
    trained = int(rollout.trains.sum())
    agent.actor.tasks[:, 1] = 1
    own = int(rollout.trains[:, 1].sum())
    agent.experts.mask(rollout, agent.actor.tasks)
    assert int(rollout.trains.sum()) == trained - own and not bool(rollout.trains[:, 1].any())


def test_l2_init_counts_all_weights() -> None:
    agent = agents.make("l2-init", world("l2-init", 100_000), seed=5, device="cpu", config=eager("l2-init"))
    (part,) = agent.learner.upkeep
    assert isinstance(part, InitialPull)
    assert sum(t.numel() for t in part.initial) == sum(p.numel() for p in agent.policy.parameters())
