"""The option tree: a round trip through JSON, and refusals that name the option."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from nl_agents import agents, envs
from nl_agents.config import AgentConfig, PPOConfig, ReplayConfig, apply_options, from_dict, to_dict
from nl_agents.errors import ConfigError


@pytest.mark.parametrize("name", sorted(agents.AGENTS))
def test_configs_survive_json(name: str) -> None:
    config = agents.config(name)
    config.memory.slow_periods, config.ppo.gamma = (2, 8, 32), 0.123456789
    values = json.loads(json.dumps(to_dict(config)))
    again = from_dict(AgentConfig, values)
    assert again == config and isinstance(again.memory.slow_periods, tuple)
    assert to_dict(again) == values


def test_to_dict_shares_nothing_with_the_config() -> None:
    config = AgentConfig()
    to_dict(config)["ppo"]["gamma"] = 0.5
    assert config.ppo.gamma == PPOConfig().gamma


def test_missing_options_take_their_defaults() -> None:
    assert from_dict(AgentConfig, {"replay": {"ratio": 0.5}}) == AgentConfig(replay=ReplayConfig(ratio=0.5))


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="AgentConfig has no option policy; it has control, memory, optimizer, ppo"):
        from_dict(AgentConfig, {"policy": {}})
    with pytest.raises(ConfigError, match="PPOConfig has no option gama, lamda; it has clip"):
        from_dict(AgentConfig, {"ppo": {"lamda": 0.9, "gama": 0.9}})


def test_every_agents_defaults_pass_the_check() -> None:
    for name in agents.AGENTS:
        agents.config(name).check()


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("memory.width", 0, r"memory\.width must be >= 1, got 0"),
        ("ppo.num_steps", 0, r"ppo\.num_steps must be >= 1, got 0"),
        ("ppo.num_epochs", -1, r"ppo\.num_epochs must be >= 1, got -1"),
        ("ppo.num_minibatches", 0, r"ppo\.num_minibatches must be >= 1"),
        ("ppo.gamma", 0.0, r"ppo\.gamma must lie in \(0, 1\]"),
        ("ppo.gamma", 1.5, r"ppo\.gamma must lie in \(0, 1\]"),
        ("ppo.gae_lambda", -0.1, r"ppo\.gae_lambda in \[0, 1\]"),
        ("optimizer.lr", 0.0, r"optimizer\.lr must be > 0, got 0"),
        ("optimizer.lr", float("nan"), r"optimizer\.lr must be > 0, got nan"),
        ("replay.ratio", -1.0, r"replay\.ratio must be >= 0, got -1\.0; 0 switches replay off"),
        ("replay.burn_in", 128, r"replay\.burn_in 128 must be < ppo\.num_steps 128"),
        ("run.checkpoint_every", 0, r"run\.checkpoint_every must be >= 1"),
        ("run.keep", 0, r"run\.keep must be >= 1"),
        ("run.log_every", 0, r"run\.log_every must be >= 1"),
    ],
)
def test_values_that_cannot_work_are_refused(option: str, value: Any, text: str) -> None:
    config = AgentConfig()
    area, name = option.split(".")
    assert hasattr(getattr(config, area), name)
    setattr(getattr(config, area), name, value)
    with pytest.raises(ConfigError, match=text):
        config.check()


def test_replay_needs_a_place() -> None:
    config = AgentConfig(replay=ReplayConfig(ratio=1.0, reservoir=0, recent=0))
    with pytest.raises(ConfigError, match=r"needs replay\.reservoir \+ replay\.recent >= 1"):
        config.check()
    config.replay.ratio = 0.0
    config.check()


def options(kind: type[Any]) -> Iterator[tuple[type[Any], str]]:
    """Every option below a config class."""
    for entry in dataclasses.fields(kind):
        made = entry.default_factory() if entry.default_factory is not dataclasses.MISSING else entry.default
        if dataclasses.is_dataclass(made):
            yield from options(type(made))
        else:
            yield kind, entry.name


def test_every_option_has_a_line_of_help() -> None:
    import inspect

    for kind, name in options(AgentConfig):
        lines = [line.strip() for line in inspect.getsource(kind).splitlines()]
        at = next(number for number, line in enumerate(lines) if line.startswith(f"{name}:"))
        assert lines[at + 1].startswith('"""') and lines[at + 1].endswith('"""'), f"{kind.__name__}.{name}"


def test_options_are_set_by_dotted_name() -> None:
    config = apply_options(AgentConfig(), {"ppo.entropy": 0.5, "memory.slow_periods": (3,)})
    assert config.ppo.entropy == 0.5 and config.memory.slow_periods == (3,)
    for name in ("ppo.entropie", "nothing.entropy", "entropy"):
        with pytest.raises(ConfigError, match=f"no option '{name}'"):
            apply_options(AgentConfig(), {name: 1})


def test_a_suite_recommends_to_every_agent_alike() -> None:
    env = envs.make_sequence("minigrid-recurring", backend="python", num_envs=1)
    assert agents.make("ppo", env).config.ppo.entropy == envs.SUITES["minigrid-recurring"].recommended["ppo.entropy"]
    assert agents.make("ppo", env, config=agents.config("ppo")).config.ppo.entropy == AgentConfig().ppo.entropy
