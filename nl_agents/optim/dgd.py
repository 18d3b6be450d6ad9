"""Delta gradient descent: gradient descent whose weight decay looks only along the input it just saw."""

from __future__ import annotations

from torch import Tensor

from nl_agents.types import LevelInfo


def delta_gradient_step(weight: Tensor, inputs: Tensor, output_gradient: Tensor, rate: float) -> Tensor:
    """Returns the weight after one step of delta gradient descent on one input.

    The step minimises ``1/2 |W x - u|^2 + 1/(2 eta) |W - W_t|^2`` with the self-generated target
    ``u = -grad_y L(W_t; x)`` (arXiv 2512.24695, Eqs. 54-57), in closed form::

        W+ = W (I - eta' x x^T) - eta' grad_y x^T ,     eta' = eta / (1 + eta |x|^2)

    **Differs from the paper**: Eq. 57 prints ``eta' = eta / (1 + eta)``, which holds for ``|x| = 1`` only; the form
    above follows from the objective for every length. Differentiable in all tensors.

    Args:
        weight: [out, in].
        inputs: [in], the input x of the layer.
        output_gradient: [out], the gradient of the loss with respect to the layer's output.
        rate: eta > 0.

    Returns:
        [out, in].
    """
    effective = rate / (1 + rate * inputs.dot(inputs))
    return weight - effective * (weight @ inputs + output_gradient).outer(inputs)


def delta_gradient_level(name: str, weight: Tensor) -> LevelInfo:
    """Returns the row of a matrix [out, in] that is written by ``delta_gradient_step``, one input a learner update."""
    stores = f"{weight.shape[0]} x {weight.shape[1]} matrix, {weight.numel():,} weights"
    context, objective = "inputs x and output gradients", "L2 between W x and -grad_y L, near the last W (Eq. 54)"
    return LevelInfo(name, stores, context, objective, 1, "learner update", "life")
