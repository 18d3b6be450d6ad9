"""Hidden units as things that can be watched and born again: what ReDo and continual backprop share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nl_agents.errors import ConfigError

ELEMENTWISE = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.SiLU, nn.GELU, nn.ELU, nn.Sigmoid)


class UnitLayer:
    """One layer of hidden units: incoming weights, activation, outgoing weights; watched during training forwards.

    While gradients are recorded, every forward of ``activation`` notes the units' mean activity (over all axes but the
    last): what acts under ``no_grad`` leaves no trace.

    Args:
        incoming: its rows are the units' incoming weights.
        activation: elementwise, applied to what ``incoming`` (and ``norm``) give.
        outgoing: layers that read the units; column i belongs to unit i.
        norm: a layer norm between the two, if any.

    Attributes:
        mean: [H] mean activity of the last training forward, None before the first.
        absolute: [H] mean absolute activity, likewise.
    """

    def __init__(
        self,
        incoming: nn.Linear,
        activation: nn.Module,
        outgoing: Sequence[nn.Linear],
        norm: nn.LayerNorm | None = None,
    ) -> None:
        self.incoming, self.activation, self.outgoing, self.norm = incoming, activation, list(outgoing), norm
        self.size = incoming.out_features
        for layer in self.outgoing:
            if layer.in_features != self.size:
                raise ConfigError(
                    f"{self.size} units go out into a layer of {layer.in_features} inputs; expected one column a unit"
                )
        with torch.no_grad():
            deviation = float(incoming.weight.double().std(correction=0))
        self.bound = math.sqrt(3.0) * deviation  # of a uniform draw with the deviation that the first weights had
        self.mean: Tensor | None = None
        self.absolute: Tensor | None = None
        activation.register_forward_hook(self._note)

    def _note(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if torch.is_grad_enabled():
            activity = output.detach().reshape(-1, output.shape[-1])
            self.mean, self.absolute = activity.mean(0), activity.abs().mean(0)

    @torch.no_grad()
    def renew(self, units: Tensor, optimizer: Optimizer | None, generator: torch.Generator) -> None:
        """Lets units be born again: new incoming weights, bias 0, outgoing weights 0, and nothing in the optimizer.

        Everything that the optimizer keeps for these weights one by one is zeroed: Adam's moments, and its step counts
        where they are counted a weight (``ElementAdamW``). With moments left in place the old unit's direction would
        drive the new one (a mistake found in public copies).

        Args:
            units: [n] int64 on the host.
            optimizer: whose state is to forget them; None for none.
            generator: of the new weights, on the host.
        """
        if units.numel() == 0:
            return
        weight = self.incoming.weight
        fresh = torch.empty(units.numel(), weight.shape[1], dtype=weight.dtype)
        fresh.uniform_(-self.bound, self.bound, generator=generator)
        index = units.to(weight.device)
        weight[index] = fresh.to(weight.device)
        forget(optimizer, weight, 0, index)
        if self.incoming.bias is not None:
            self.incoming.bias[index] = 0.0
            forget(optimizer, self.incoming.bias, 0, index)
        if self.norm is not None and self.norm.elementwise_affine:
            self.norm.weight[index] = 1.0
            forget(optimizer, self.norm.weight, 0, index)
            if self.norm.bias is not None:
                self.norm.bias[index] = 0.0
                forget(optimizer, self.norm.bias, 0, index)
        for layer in self.outgoing:
            layer.weight[:, index] = 0.0
            forget(optimizer, layer.weight, 1, index)

    def outgoing_strength(self) -> Tensor:
        """[H] sum of the absolute outgoing weights of every unit."""
        return torch.stack([layer.weight.detach().abs().sum(0) for layer in self.outgoing]).sum(0)


@torch.no_grad()
def forget(optimizer: Optimizer | None, parameter: Tensor, axis: int, index: Tensor) -> None:
    """Zeroes what an optimizer keeps for some rows (axis 0) or columns (axis 1) of a parameter, weight by weight."""
    if optimizer is None or parameter not in optimizer.state:
        return
    for kept in optimizer.state[parameter].values():
        if isinstance(kept, Tensor) and kept.dim() and kept.shape[kept.dim() - parameter.dim() :] == parameter.shape:
            kept.index_fill_(kept.dim() - parameter.dim() + axis, index, 0)


def chain(modules: Iterable[nn.Module], heads: Sequence[nn.Linear]) -> list[UnitLayer]:
    """Finds the layers of hidden units in modules that run one after the other.

    Args:
        modules: Linear, perhaps LayerNorm, an elementwise activation, and so on, ending in an activation; for example
            ``model.policy.mlp_extractor.policy_net`` of Stable-Baselines3.
        heads: what reads the last activation.

    Returns:
        One entry a hidden layer, in order.

    Raises:
        ConfigError: modules of another form, in which units have no columns of their own (CReLU, convolutions).
    """
    found: list[tuple[nn.Linear, nn.LayerNorm | None, nn.Module]] = []
    linear: nn.Linear | None = None
    norm: nn.LayerNorm | None = None
    for module in modules:
        if isinstance(module, nn.Linear) and linear is None:
            linear = module
        elif isinstance(module, nn.LayerNorm) and linear is not None and norm is None:
            norm = module
        elif isinstance(module, ELEMENTWISE) and linear is not None:
            found.append((linear, norm, module))
            linear, norm = None, None
        else:
            raise ConfigError(
                f"expected Linear, perhaps LayerNorm, then one of {', '.join(kind.__name__ for kind in ELEMENTWISE)}, "
                f"again and again; came to {type(module).__name__}"
            )
    if linear is not None or not found:
        raise ConfigError("expected at least one Linear and its activation, and an activation last")
    outgoing = [[entry[0]] for entry in found[1:]] + [list(heads)]
    return [
        UnitLayer(incoming, activation, leaves, between)
        for (incoming, between, activation), leaves in zip(found, outgoing, strict=True)
    ]
