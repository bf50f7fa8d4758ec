"""Batch norm over the shares of several processes, as over one batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from bob.distributed.group import summed

_PLAIN = functional.batch_norm


class WholeBatchNorm(TorchFunctionMode):
    """While it is entered, batch norm in training sees all shares.

    Mean and variance are those of the shares of all processes, forwards and backwards, and so are
    the running statistics. It holds for every module that calls ``torch.nn.functional.batch_norm``
    or ``torch.batch_norm``, timm's with an activation among them; scripted code calls neither.
    torch's own ``SyncBatchNorm`` needs a GPU and modules of its own.

    Args:
        size: Processes; their shares are of one length.
        met: Takes the identity of each layer's weight, and its channels, in the order of calls.
    """

    def __init__(self, size: int, met: list[tuple[int, int]]) -> None:
        super().__init__()
        self._size, self._met = size, met

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, or the other batch norm in its place."""
        if func in (_PLAIN, functional.batch_norm):
            return self._whole(*args, **(kwargs or {}))
        if func is torch.batch_norm:
            return self._of_torch(*args, **(kwargs or {}))
        if func is torch.Tensor.backward:
            return self._backward(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _backward(
        self,
        tensor: torch.Tensor,
        gradient: torch.Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """Backwards, where activations that were not kept are computed once more.

        Torch has left every mode there, so that the function itself is another one meanwhile.
        """

        def whole(*args: Any, **kwargs: Any) -> Any:
            with self:
                return _PLAIN(*args, **kwargs)

        functional.batch_norm = whole
        try:
            torch.autograd.backward(tensor, gradient, retain_graph, create_graph, inputs=inputs)
        finally:
            functional.batch_norm = _PLAIN

    def _of_torch(
        self,
        input: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        running_mean: torch.Tensor | None,
        running_var: torch.Tensor | None,
        training: bool,
        momentum: float,
        eps: float,
        cudnn_enabled: bool,
    ) -> torch.Tensor:
        return self._whole(input, running_mean, running_var, weight, bias, training, momentum, eps)

    def _whole(
        self,
        input: torch.Tensor,
        running_mean: torch.Tensor | None,
        running_var: torch.Tensor | None,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> torch.Tensor:
        if not training:
            return _PLAIN(input, running_mean, running_var, weight, bias, False, momentum, eps)
        self._met.append((id(weight), input.shape[1]))
        return batch_norm(self._size, input, running_mean, running_var, weight, bias, momentum, eps)


def batch_norm(
    size: int,
    input: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """Batch norm in training over the shares of ``size`` processes.

    Args:
        size: Processes.
        input: ``(b, channels, ...)``, this process's share.
        running_mean: ``(channels,)``, moved; so is ``running_var``.
        running_var: See there.
        weight: ``(channels,)``.
        bias: ``(channels,)``.
        momentum: How far the running ones move.
        eps: Added to the variance.

    Returns:
        As ``input``.
    """
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
