"""Who takes part in the benchmark of cores: ours by the registry, torch's recurrent nets, others where installed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module, util
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.probing.cores import parse_core

RESET_EVERY = 50.0
"""Mean env steps of an episode in the sequences that our cores and the step loop learn from."""


class Size(NamedTuple):
    """B and D."""

    streams: int
    width: int

    def __str__(self) -> str:
        return f"{self.streams} streams, width {self.width}"


class Prepared(NamedTuple):
    """A contestant at the start line.

    Attributes:
        learn: forward and backward on one sequence.
        act: one step without gradients.
        state_size: floats a stream, None where the state is not a fixed vector.
    """

    learn: Callable[[], None]
    act: Callable[[], None]
    state_size: int | None


class Sequence(NamedTuple):
    """What is learnt from: x and the gradient of the read-out [T, B, D], episode starts [T, B]."""

    x: Tensor
    gradient: Tensor
    is_first: Tensor


def _sequence(size: Size, steps: int, device: str) -> Sequence:
    generator = torch.Generator().manual_seed(0)
    x, gradient = (torch.randn(steps, *size, generator=generator).to(device) for _ in range(2))
    is_first = torch.rand(steps, size.streams, generator=generator) < 1.0 / RESET_EVERY
    return Sequence(x.requires_grad_(), gradient, is_first.to(device))


def _core(name: str, size: Size, given: Sequence, device: str) -> Prepared:
    core = parse_core(name).build(size.width, size.width).to(device)
    begin = core.initial_state(size.streams, device)
    x, nothing = given.x.detach()[:1], torch.zeros_like(given.is_first[:1])
    kept = [core.initial_state(size.streams, device)]

    def learn() -> None:
        y, _ = core(given.x, begin, given.is_first, phase=0)
        y.backward(given.gradient)

    def act() -> None:
        _, kept[0] = core.act(x, kept[0], nothing, phase=0)

    return Prepared(learn, act, core.state_size)


def _torch_net(net: nn.GRU | nn.LSTM, given: Sequence) -> Prepared:
    x = given.x.detach()[:1]
    _, first = net(x)
    kept = [first]

    def learn() -> None:
        y, _ = net(given.x)
        y.backward(given.gradient)

    @torch.no_grad()
    def act() -> None:
        _, kept[0] = net(x, kept[0])

    return Prepared(learn, act, net.hidden_size * (2 if isinstance(net, nn.LSTM) else 1))


def _step_loop(size: Size, given: Sequence, device: str) -> Prepared:
    """An LSTM that clears its state wherever an episode starts, as recurrent PPO has to."""
    cell = nn.LSTMCell(size.width, size.width).to(device)
    zero = torch.zeros(*size, device=device)
    kept = [(zero, zero)]

    def learn() -> None:
        h, c = zero, zero
        read = []
        keep = (~given.is_first).to(given.x.dtype).unsqueeze(-1)
        for x, going in zip(given.x, keep, strict=True):
            h, c = cell(x, (h * going, c * going))
            read.append(h)
        torch.stack(read).backward(given.gradient)

    @torch.no_grad()
    def act() -> None:
        kept[0] = cell(given.x[0], kept[0])

    return Prepared(learn, act, 2 * size.width)


def _titans_pytorch(size: Size, given: Sequence, device: str) -> Prepared | None:
    """NeuralMemory of the package titans-pytorch, batch first, without resets; one act step is a sequence of one."""
    if util.find_spec("titans_pytorch") is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package's own, about torch.jit
        memory: Any = import_module("titans_pytorch").NeuralMemory(dim=size.width, chunk_size=32).to(device)
    x, gradient = given.x.transpose(0, 1), given.gradient.transpose(0, 1)
    kept: list[Any] = [None]

    def learn() -> None:
        y, _ = memory(x)
        y.backward(gradient)

    @torch.no_grad()
    def act() -> None:
        _, kept[0] = memory(x[:, :1], state=kept[0])

    return Prepared(learn, act, None)


OPPONENTS = ("nn.GRU", "nn.LSTM", "LSTM step loop", "titans-pytorch")


def prepare(name: str, size: Size, steps: int, device: str) -> Prepared | None:
    """Builds an opponent or a core of the registry (``hope:chunk=1``); None where an optional package is missing."""
    torch.manual_seed(0)
    given = _sequence(size, steps, device)
    if name == "nn.GRU":
        return _torch_net(nn.GRU(size.width, size.width).to(device), given)
    if name == "nn.LSTM":
        return _torch_net(nn.LSTM(size.width, size.width).to(device), given)
    if name == "LSTM step loop":
        return _step_loop(size, given, device)
    if name == "titans-pytorch":
        return _titans_pytorch(size, given, device)
    return _core(name, size, given, device)
