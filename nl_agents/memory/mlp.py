"""A plain multi-layer perceptron: the network that the literature on plasticity starts from, and its variants."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from nl_agents.errors import ConfigError
from nl_agents.memory.base import MemoryCore, NoState
from nl_agents.memory.options import whole
from nl_agents.memory.sound import all_sound, bounded, spoil
from nl_agents.types import LevelInfo

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
}


class ConcatenatedRelu(nn.Module):
    """CReLU (Shang et al. 2016; against loss of plasticity: Abbas et al. 2023): [relu(h), relu(-h)], twice as wide."""

    def forward(self, h: Tensor) -> Tensor:
        """[..., H] -> [..., 2 H]."""
        return torch.cat((h.relu(), (-h).relu()), dim=-1)


class MlpCore(MemoryCore):
    """Plain multi-layer perceptron: h_l = activation(norm(W_l h_{l-1} + b_l)), y_t = h_depth.

    No residual ways, no memory.

    With CReLU every linear layer is half as wide, so that all layers pass on ``width`` features: about half the weights
    of the plain network, where Abbas et al. keep the layer and double what it passes on.

    Args:
        input_size: features of x.
        width: features of every hidden layer.
        depth: hidden layers, >= 1.
        activation: relu, leaky-relu, tanh, silu or crelu.
        layer_norm: a layer norm before every activation.
    """

    state_type = NoState
    direct = True

    def __init__(
        self, input_size: int, width: int, *, depth: int = 2, activation: str = "relu", layer_norm: bool = False
    ) -> None:
        super().__init__(input_size, width)
        depth = whole("depth", depth, 1, "hidden layers")
        if activation not in (*ACTIVATIONS, "crelu"):
            raise ConfigError(f"activation must be one of {', '.join(ACTIVATIONS)} or crelu, got {activation!r}")
        if activation == "crelu" and width % 2:
            raise ConfigError(f"crelu needs an even width, got {width}")
        own = width // 2 if activation == "crelu" else width
        layers: list[nn.Module] = []
        for index in range(depth):
            layers.append(nn.Linear(input_size if index == 0 else width, own))
            if layer_norm:
                layers.append(nn.LayerNorm(own))
            layers.append(ConcatenatedRelu() if activation == "crelu" else ACTIVATIONS[activation]())
        self.layers = nn.Sequential(*layers)

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> NoState:
        """Returns the empty state of ``batch_size`` streams."""
        weight = next(self.parameters())
        return NoState(weight.new_zeros(batch_size, 0, device=device or weight.device))

    def forward(
        self,
        x: Tensor,
        state: NoState,
        is_first: Tensor,
        is_valid: Tensor | None = None,
        last_action: Tensor | None = None,
        phase: int | None = None,
    ) -> tuple[Tensor, NoState]:
        """See ``MemoryCore.forward``; only ``x`` matters; where it is not finite the read-out is nan."""
        self.check(x, state, is_first, is_valid, last_action)
        broken = None if x.is_cpu and all_sound((x,)) else ~x.isfinite().all(-1)
        y = cast(Tensor, self.layers(x if broken is None else bounded(x).masked_fill(broken.unsqueeze(-1), 0.0)))
        return y if broken is None else spoil(y, broken), state

    def levels(self) -> list[LevelInfo]:
        """Nothing here learns on a time scale of its own."""
        return []
