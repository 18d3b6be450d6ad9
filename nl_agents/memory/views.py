"""Numpy views of a module's parameters for compiled code, kept from call to call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[Any]


class Views:
    """Views share the tensors' memory: they always show what the learner left. A subclass names them.

    A tensor that has moved (to another device or precision, or because another took its name) makes them stale.
    """

    def __init__(self) -> None:
        self._places: list[tuple[dict[str, Tensor | None], str, int]] = []

    def parameter(self, module: nn.Module, name: str) -> Array:
        """A parameter as an array; its place is remembered."""
        return self._view(module._parameters, name)

    def buffer(self, module: nn.Module, name: str) -> Array:
        """The same for a buffer."""
        return self._view(module._buffers, name)

    def layer(self, module: nn.Module) -> tuple[Array, Array]:
        """Weight and bias."""
        return self.parameter(module, "weight"), self.parameter(module, "bias")

    def _view(self, kept: Any, name: str) -> Array:
        self._places.append((kept, name, kept[name].data_ptr()))
        array: Array = kept[name].detach().numpy()
        return array

    def hold(self) -> bool:
        """Whether every tensor is where it was."""
        return all([kept[name].data_ptr() == place for kept, name, place in self._places])  # type: ignore[union-attr]


V = TypeVar("V", bound=Views)


class KeptViews(Generic[V]):
    """The views that ``make`` made last, made anew when they no longer hold. Copies and pickles start without."""

    def __init__(self) -> None:
        self._last: V | None = None

    def of(self, make: Callable[[], V]) -> V:
        """Returns views that hold."""
        if self._last is None or not self._last.hold():
            self._last = make()
        return self._last

    def __reduce__(self) -> tuple[type[KeptViews[V]], tuple[()]]:
        return type(self), ()
