"""States as plain text and bytes: what is read is data, never code.

Tensors, arrays, bytes, numbers, strings, lists, tuples and dicts; nothing is pickled.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

State = dict[str, Any]
"""What ``encode`` takes: a dict of what is named above, to any depth."""


@dataclass
class Encoded:
    """A state taken apart.

    Attributes:
        tree: JSON data, in which tensors and arrays are numbers of ``blocks``.
        blocks: Dtype, shape and kind of each tensor or array, as JSON data.
        values: The tensors and arrays themselves.
    """

    tree: Any = None
    blocks: list[dict[str, Any]] = field(default_factory=list)
    values: list[torch.Tensor | NDArray[Any]] = field(default_factory=list)


def encode(state: State) -> Encoded:
    """Take a state apart.

    Raises:
        TypeError: It holds something else than data.
    """
    encoded = Encoded()
    encoded.tree = _encode(state, encoded)
    return encoded


def block_bytes(value: torch.Tensor | NDArray[Any]) -> memoryview:
    """The bytes of a tensor or an array, in C order; copied where it lies elsewhere."""
    if isinstance(value, torch.Tensor):
        value = (
            value.detach()
            .to("cpu")
            .resolve_conj()
            .resolve_neg()
            .contiguous()
            .reshape(-1)
            .view(torch.uint8)
            .numpy()
        )
    content: memoryview = np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
    return content


def block_size(block: dict[str, Any]) -> int:
    """Bytes of a tensor or an array."""
    array = block["kind"] == "array"
    size = int(np.dtype(block["dtype"]).itemsize if array else _dtype(block["dtype"]).itemsize)
    count: int = math.prod(map(int, block["shape"]))
    return count * size


def block_value(block: dict[str, Any], content: bytearray) -> torch.Tensor | NDArray[Any]:
    """The tensor or the array of these bytes."""
    if block["kind"] == "array":
        array: NDArray[Any] = np.frombuffer(content, np.dtype(block["dtype"]))
        return array.reshape(block["shape"])
    dtype = _dtype(block["dtype"])
    if not content:
        return torch.empty(block["shape"], dtype=dtype)
    return torch.frombuffer(content, dtype=dtype).reshape(block["shape"])


def decode(tree: Any, values: list[Any]) -> Any:
    """Put a state together again; the reverse of ``encode``.

    Raises:
        KeyError, IndexError, TypeError, ValueError: It is not what ``encode`` made.
    """
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    match kind:
        case "block":
            return values[content]
        case "bytes":
            return base64.b64decode(content, validate=True)
        case "list":
            return [decode(part, values) for part in content]
        case "tuple":
            return tuple(decode(part, values) for part in content)
        case "dict":
            return {decode(key, values): decode(part, values) for key, part in content}
    raise ValueError(f"no kind {kind!r}")


def _encode(value: Any, encoded: Encoded) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.Tensor):
        return _block(value, "tensor", str(value.dtype).removeprefix("torch."), encoded)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return _block(value, "array", value.dtype.str, encoded)
    if isinstance(value, np.generic):
        return _encode(value.item(), encoded)
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_encode(part, encoded) for part in value]}
    if isinstance(value, dict):
        pairs = value.items()
        return {"dict": [[_encode(key, encoded), _encode(part, encoded)] for key, part in pairs]}
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} is no plain data")


def _block(
    value: torch.Tensor | NDArray[Any], kind: str, dtype: str, encoded: Encoded
) -> dict[str, int]:
    encoded.blocks.append({"kind": kind, "dtype": dtype, "shape": list(value.shape)})
    encoded.values.append(value)
    return {"block": len(encoded.values) - 1}


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"no dtype {name!r}")
    return dtype
