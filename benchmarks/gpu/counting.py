"""Operations and bytes of a step, counted as it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import (
    FlopCounterMode,
    conv_flop_count,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

_ATEN = torch.ops.aten


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(grad, query, key, value))


def _convolution_backward(grad: Any, images: Any, weight: Any, *rest: Any, **__: Any) -> int:
    """As often the forward's product as gradients are asked for, of images and of weights."""
    transposed, asked = rest[4], rest[7]
    return int(conv_flop_count(images, weight, grad, transposed) * sum(asked[:2]))


# torch counts the attention kernels of GPUs only, and takes the gradient of grouped weights for
# that of full ones
_FORMULAS = {
    _ATEN.convolution_backward: _convolution_backward,
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _attention,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}

_MOVES_NOTHING = {
    "aten::_unsafe_view",
    "aten::empty",
    "aten::empty_like",
    "aten::empty_strided",
    "aten::new_empty",
    "aten::new_empty_strided",
}


@dataclass(frozen=True)
class Work:
    """What a step costs.

    Attributes:
        flops: Operations of matrix products, convolutions and attention, two a multiply-add.
        bytes: What the operations read and write, one after the other, without fusion or cache.
    """

    flops: float
    bytes: float


def count(step: Callable[[], Any]) -> Work:
    """Run a step and count."""
    flops = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    traffic = Traffic()
    with flops, traffic:
        step()
    return Work(float(flops.get_total_flops()), float(traffic.bytes))


class Traffic(TorchDispatchMode):
    """Adds up the sizes of the tensors that operations read and write.

    Views move nothing. What is broadcast counts once.

    Attributes:
        bytes: Read and written so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not getattr(func, "is_view", False) and func._schema.name not in _MOVES_NOTHING:
            written = _sizes(out)
            self.bytes += _sizes((args, kwargs)) + (written or _sizes(_changed(func, args)))
        return out


def _changed(func: Any, args: Any) -> list[Any]:
    """Arguments that an operation without results writes to."""
    pairs = zip(args, func._schema.arguments, strict=False)
    return [
        argument
        for argument, spec in pairs
        if spec.alias_info is not None and spec.alias_info.is_write
    ]


def _sizes(tree: Any) -> int:
    return sum(_size(leaf) for leaf in tree_flatten(tree)[0] if isinstance(leaf, torch.Tensor))


def _size(tensor: torch.Tensor) -> int:
    """Bytes of a tensor, without those that expanding it repeats."""
    elements: int = 1
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        elements *= length if stride or length == 0 else 1
    return int(elements * tensor.element_size())
