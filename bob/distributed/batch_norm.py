"""Batch norm over the shares of several processes, as over one batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from bob.distributed.group import summed


class WholeBatchNorm(TorchFunctionMode):
    """While it is entered, ``torch.nn.functional.batch_norm`` in training sees all shares.

    Mean and variance are those of the shares of all processes, forwards and backwards, and so are
    the running statistics. It holds for every module that calls the function, timm's with an
    activation among them. torch's own ``SyncBatchNorm`` needs a GPU and modules of its own.

    Args:
        size: Processes; their shares are of one length.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, or the other batch norm in its place."""
        if func is functional.batch_norm:
            return batch_norm(self._size, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def batch_norm(
    size: int,
    input: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """``torch.nn.functional.batch_norm`` over the shares of ``size`` processes.

    Args:
        size: Processes.
        input: ``(b, channels, ...)``, this process's share.
        running_mean: ``(channels,)``, moved in training; so is ``running_var``.
        running_var: See there.
        weight: ``(channels,)``.
        bias: ``(channels,)``.
        training: Whether the batch's own statistics are used.
        momentum: How far the running ones move.
        eps: Added to the variance.

    Returns:
        As ``input``.
    """
    if not training:
        return functional.batch_norm(
            input, running_mean, running_var, weight, bias, False, momentum, eps
        )
    wide = input if input.dtype == torch.float64 else input.float()
    dims = [dim for dim in range(wide.ndim) if dim != 1]
    # squares of the mean cancel in the variance, so these few numbers are in double precision
    var, mean = (found.double() for found in torch.var_mean(wide, dims, correction=0))
    total: torch.Tensor = _Summed.apply(torch.stack([mean, var + mean.square()])) / size
    mean, var = total[0], total[1] - total[0].square()
    count = wide.numel() // wide.shape[1] * size
    with torch.no_grad():
        if running_mean is not None:
            running_mean.lerp_(mean.to(running_mean), momentum)
        if running_var is not None:
            running_var.lerp_((var * (count / max(1, count - 1))).to(running_var), momentum)
    scale = (var.clamp_min(0) + eps).rsqrt()
    scale = scale if weight is None else scale * weight.double()
    shift = -mean * scale if bias is None else bias.double() - mean * scale
    shape = [1, -1] + [1] * (wide.ndim - 2)
    normal = torch.addcmul(shift.to(wide).view(shape), wide, scale.to(wide).view(shape))
    return normal.to(input.dtype)


class _Summed(torch.autograd.Function):
    """The sum over all processes; what follows depends on it in each of them."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        return summed(tensor.clone())

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return summed(gradient.clone())
