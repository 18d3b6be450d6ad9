"""Nested Python state as named tensors plus plain JSON, and back, without pickle.

A tree is a dict, list or tuple, nested, of torch tensors, numpy arrays and scalars, bool, int (any size: RNG states
hold 128 bits and more), float, str, bytes and None. JSON has no tuples, no keys but strings and no NaN, so these are
written as an object whose first key begins with ``~``. The round trip is exact in value, type, dtype, shape and order,
except that

* a named tuple comes back as a plain tuple (write ``Moments(*saved)``), any kind of dict as a dict, a Parameter as a
  plain tensor;
* tensors come back on the CPU, without gradient; what shared memory no longer does.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

_TORCH_DTYPES = frozenset("?bBhHiIlLqQefd")  # numpy's one-letter codes that safetensors has a dtype for
_TAG = "~"


def flatten(tree: Any) -> tuple[dict[str, Tensor], Any]:
    """Splits a tree into tensors and JSON.

    Args:
        tree: see the module docstring.

    Returns:
        ``tensors``: contiguous CPU tensors by a readable path, none sharing memory with another, as safetensors wants
        them; ``json_tree``: plain JSON that names them.

    Raises:
        TypeError: something in the tree is none of the known kinds; the text holds its path.
    """
    writer = _Writer()
    json_tree = writer.encode(tree, ())
    return writer.tensors, json_tree


def unflatten(tensors: dict[str, Tensor], json_tree: Any) -> Any:
    """Rebuilds the tree that ``flatten`` took apart.

    Args:
        tensors: by name; arrays of the result may share their memory.
        json_tree: as ``flatten`` gave it, or after a trip through ``json``.

    Raises:
        ValueError: an object that ``flatten`` never writes.
        KeyError: a tensor is missing.
    """
    if isinstance(json_tree, list):
        return [unflatten(tensors, item) for item in json_tree]
    if not isinstance(json_tree, dict):
        return json_tree
    tag = next(iter(json_tree), "")
    if not tag.startswith(_TAG):
        return {key: unflatten(tensors, value) for key, value in json_tree.items()}
    if tag not in _DECODERS:
        raise ValueError(f"unknown tag {tag!r}, expected one of {', '.join(_DECODERS)}; the tree is of a later format")
    return _DECODERS[tag](tensors, json_tree)


class _Writer:
    """Collects the tensors of one tree while its JSON is built."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._owned: set[int] = set()

    def encode(self, node: Any, path: tuple[str, ...]) -> Any:
        """Returns the JSON of ``node``; exact types only, so that no subclass is silently flattened to its base."""
        kind = type(node)
        if node is None or kind in (bool, int, str) or (kind is float and math.isfinite(node)):
            return node
        if kind is float:
            return {"~float": repr(node)}
        if kind is bytes:
            return {"~bytes": base64.b64encode(node).decode("ascii")}
        if kind is list:
            return [self.encode(item, (*path, str(index))) for index, item in enumerate(node)]
        if isinstance(node, tuple):
            return {"~tuple": [self.encode(item, (*path, str(index))) for index, item in enumerate(node)]}
        if isinstance(node, dict):
            return self._encode_dict(node, path)
        if isinstance(node, Tensor):
            if node.is_complex():
                return {"~complex": self._add(torch.view_as_real(node.detach()), path)}
            return {"~tensor": self._add(node, path)}
        if isinstance(node, np.ndarray | np.generic):
            return self._encode_numpy(node, path)
        raise TypeError(
            f"cannot save a {kind.__module__}.{kind.__qualname__} at {'/'.join(path) or 'the root'!r}: expected dict, "
            "list, tuple, tensor, array, bool, int, float, str, bytes or None; save its plain state instead"
        )

    def _encode_dict(self, node: dict[Any, Any], path: tuple[str, ...]) -> Any:
        plain = all(type(key) is str for key in node) and not next(iter(node), "").startswith(_TAG)
        if plain:
            return {key: self.encode(value, (*path, key)) for key, value in node.items()}
        pairs = [
            [self.encode(key, (*path, "key")), self.encode(value, (*path, str(key)))] for key, value in node.items()
        ]
        return {"~dict": pairs}

    def _encode_numpy(self, node: np.ndarray[Any, Any] | np.generic, path: tuple[str, ...]) -> Any:
        array = np.array(node, order="C")  # a private, contiguous copy; a scalar becomes 0-d
        if array.dtype.hasobject or array.dtype.fields is not None:
            raise TypeError(
                f"cannot save an array of dtype {array.dtype} at {'/'.join(path)!r}: expected numbers, bool or fixed-"
                "length text; turn it into a list or split its fields"
            )
        if isinstance(node, np.ndarray) and array.dtype.isnative and array.dtype.char in _TORCH_DTYPES:
            return {"~array": self._add(torch.from_numpy(array), path)}
        raw = torch.from_numpy(np.frombuffer(array.tobytes(), np.uint8).copy())
        tag = "~raw" if isinstance(node, np.ndarray) else "~scalar"
        return {tag: self._add(raw, path), "dtype": array.dtype.str, "shape": list(array.shape)}

    def _add(self, tensor: Tensor, path: tuple[str, ...]) -> str:
        """Stores a tensor under a name that nothing else has, with memory that nothing else has."""
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise TypeError(f"cannot save a {tensor.layout} tensor at {'/'.join(path)!r}: expected a dense one")
        value = tensor.detach().to("cpu").contiguous()
        storage = value.untyped_storage()
        if storage.data_ptr() in self._owned or storage.nbytes() != value.numel() * value.element_size():
            value = value.clone(memory_format=torch.contiguous_format)
        self._owned.add(value.untyped_storage().data_ptr())
        name = base = "/".join(path) or "root"
        copy = 1
        while name in self.tensors or name == "__metadata__":  # safetensors keeps that one for itself
            copy += 1
            name = f"{base}#{copy}"
        self.tensors[name] = value
        return name


def _decode_raw(tensors: dict[str, Tensor], node: dict[str, Any]) -> np.ndarray[Any, Any]:
    name = node.get("~raw", node.get("~scalar", ""))
    return np.frombuffer(tensors[name].numpy().tobytes(), dtype=node["dtype"]).reshape(node["shape"]).copy()


_DECODERS: dict[str, Callable[[dict[str, Tensor], dict[str, Any]], Any]] = {
    "~float": lambda tensors, node: float(node["~float"]),
    "~bytes": lambda tensors, node: base64.b64decode(node["~bytes"]),
    "~tuple": lambda tensors, node: tuple(unflatten(tensors, item) for item in node["~tuple"]),
    "~dict": lambda tensors, node: {unflatten(tensors, k): unflatten(tensors, v) for k, v in node["~dict"]},
    "~tensor": lambda tensors, node: tensors[node["~tensor"]],
    "~complex": lambda tensors, node: torch.view_as_complex(tensors[node["~complex"]]),
    "~array": lambda tensors, node: tensors[node["~array"]].numpy(),
    "~raw": _decode_raw,
    "~scalar": lambda tensors, node: _decode_raw(tensors, node)[()],
}
