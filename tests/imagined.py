"""A device that is only imagined: torch follows the shapes and devices of all operations, and computes nothing.

What a GPU would refuse (tensors of two devices in one operation) or wait for (a number that the host reads by ``item``,
``bool`` or ``nonzero``, a constant that it sends) shows on any machine. Numbers cannot be seen this way: the tests
marked ``gpu`` compare those. Run as a script, for torch allows one such device a process and what was made under it
must not stay in caches: prints {case: "" or what went wrong} as JSON.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import backend_registration

from nl_agents import envs
from nl_agents.learning import InnerLearner, LevelScheduler, allocate
from nl_agents.learning.learner import Metrics
from nl_agents.learning.rollout import add_advantages
from nl_agents.memory import make_core
from nl_agents.policies import ActionSpec, MemoryPolicy, ObservationCodec
from nl_agents.policies.actions import _identity
from nl_agents.training.build import core_options, make_optimizer, parameter_levels
from tests.memory.cores import STREAMS, VARIANTS, Life, build
from tests.training.small import small_config

DEVICE = "imagined"
STEPS = 18
CORES = tuple(name for name in VARIANTS if "portable" not in name)  # away from the CPU no form is compiled
AGENTS = (
    ("cartpole-flip:demo", "hope", "hope"),
    ("cartpole-flip:demo", "hope", "gated-delta"),
    ("cartpole-flip:demo", "ppo", "feed-forward"),
    ("minigrid-recurring:demo", "hope", "hope"),
    ("minigrid-recurring:demo", "hope", "cms"),
)


def move(module: nn.Module) -> None:
    """Puts a module's parameters and buffers on the device, whatever they hold."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                there = _blank(parameter)
                part._parameters[name] = nn.Parameter(there, parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = _blank(buffer)


def _blank(like: torch.Tensor) -> torch.Tensor:
    return torch.empty(like.shape, dtype=like.dtype, device=DEVICE)


@contextmanager
def constants_may_be_sent() -> Iterator[None]:
    """Lets ``torch.tensor(numbers, device=...)`` through: what is made once may wait for the device."""
    make = torch.tensor

    def sent(data: Any, *, dtype: torch.dtype | None = None, device: Any = None) -> torch.Tensor:
        return make(data, dtype=dtype) if device is None else make(data, dtype=dtype).to(device)

    with mock.patch.object(torch, "tensor", sent):
        yield


def core_learns(name: str) -> None:
    """Sequence, gradients, one act step and packing of a core of the tests' table."""
    core, life = build(name), Life()
    move(core)
    parts = (life.x, life.is_first, life.is_valid, life.action)
    x, is_first, is_valid, action = (part[:STEPS].to(DEVICE) for part in parts)
    y, after = core(x, core.initial_state(STREAMS, DEVICE), is_first, is_valid, action, 0)
    grads = torch.autograd.grad((y * y).sum(), list(core.parameters()), allow_unused=True)
    _, acted = core.act(x[:1], core.unpack(core.pack(after)), is_first[:1], is_valid[:1], action[:1], 0)
    for tensor in (y, *after, *acted, *grads):
        assert tensor is None or tensor.device.type == DEVICE, f"found on {tensor.device}"


def agent_learns(suite: str, name: str, core: str) -> None:
    """Updates from fresh and replayed chunks; optimizers make their constants at the first step of each level."""
    world = envs.make_sequence(suite, num_envs=4, seed=3)
    config = small_config(name)
    config.memory.core, config.memory.slow_periods = core, (1, 2)
    codec, actions = ObservationCodec(world.single_observation_space), ActionSpec(world.single_action_space)
    width = config.memory.width
    memory = make_core(core, input_size=width, width=width, **core_options(config, actions))
    policy = MemoryPolicy(codec, actions, memory, config.memory.inputs, config.ppo.prediction > 0.0)
    move(policy)
    scheduler = LevelScheduler(parameter_levels(policy), config.ppo.max_grad_norm)
    learner = InnerLearner(policy, make_optimizer(scheduler, config), scheduler, config, None, torch.Generator())
    rollout = allocate(config.ppo.num_steps, 4, codec, actions, memory.state_size, torch.device(DEVICE))
    add_advantages(rollout, config.ppo.gamma, config.ppo.gae_lambda)
    part, metrics = rollout.streams(torch.arange(2).to(DEVICE)), Metrics()
    with mock.patch.object(learner, "_draw", lambda *_: (part, 0)):
        with constants_may_be_sent():
            for _ in range(2):
                learner._update(part, 0, metrics, first_epoch=True)
        for first_epoch in (True, False):
            learner._update(part, 0, metrics, first_epoch)
    away = [name for name, values in metrics.values.items() if any(value.device.type != DEVICE for value in values)]
    assert not away, f"monitors not on the device: {away}"


def look(case: Callable[..., None], *options: str) -> str:
    """Runs a case; "" or what went wrong, and where in the package."""
    _identity.cache_clear()
    try:
        with FakeTensorMode():
            case(*options)
    except Exception as error:
        ours = [f for f in traceback.extract_tb(error.__traceback__) if "nl_agents" in f.filename.split("/")]
        return f"{type(error).__name__} in {[f'{f.name}: {f.line}' for f in ours[-2:]]}: {str(error)[:200]}"
    return ""


def main() -> None:
    """Looks at every core and agent."""
    backend_registration._setup_privateuseone_for_python_backend(DEVICE)
    found = {name: look(core_learns, name) for name in CORES}
    print(json.dumps(found | {"/".join(agent): look(agent_learns, *agent) for agent in AGENTS}))


if __name__ == "__main__":
    main()
