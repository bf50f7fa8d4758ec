"""What torch, NumPy and timm hold once for the whole process."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn.modules import module as nn_module
from torch.overrides import _len_torch_function_stack, _pop_mode
from torch.utils import _python_dispatch

from bob.run.global_state import State, changed
from bob.run.namespaces import attribute, functions

_PRECISIONS = ("", "cuda.matmul.", "cudnn.", "cudnn.conv.", "cudnn.rnn.", "mkldnn.",
               "mkldnn.matmul.", "mkldnn.conv.", "mkldnn.rnn.")  # fmt: skip
_FLAGS = (
    "cudnn.enabled", "cudnn.benchmark", "cudnn.deterministic", "cudnn.benchmark_limit",
    "cudnn.allow_tf32", "cuda.matmul.allow_tf32", "cuda.matmul.allow_fp16_accumulation",
    "cuda.matmul.allow_fp16_reduced_precision_reduction",
    "cuda.matmul.allow_bf16_reduced_precision_reduction", "quantized.engine", "opt_einsum.enabled",
)  # fmt: skip
_KERNELS = ("flash", "mem_efficient", "math", "cudnn")
_OPTIMIZER = sys.modules["torch.optim.optimizer"]  # the package hides the module
_GUARDS: list[Any] = []
"""Guards that end an inference mode which nobody left; one ends when it is let go of."""


def torch_states() -> tuple[State, ...]:
    """The states, in the order they are put back in."""
    return (
        *_modes(),
        *_defaults(),
        *(_backend(f"{part}fp32_precision") for part in _PRECISIONS),
        *map(_backend, _FLAGS),
        *map(_kernel, _KERNELS),
        *_hooks(),
        *_numpy(),
        *_random(),
        attribute(sys.modules["timm.layers.config"], "_USE_FUSED_ATTN",
                  called="timm.layers.set_fused_attn"),
        functions(
            "functions of torch",
            modules=("torch", "torch.functional", "torch.random", "torch._tensor", "torch.autograd",
                     "torch.autograd.grad_mode", "torch.cuda", "torch.nn.functional",
                     "torch.nn.init", "torch.nn.parameter", "torch.serialization"),
            below=("torch._tensor", "torch.nn.modules.", "torch.optim.", "torch.utils.data.data"),
        ),
        functions("functions of timm", modules=("timm", "timm.layers"),
                  below=("timm.layers.", "timm.models.")),
        functions(
            "functions of torchvision", modules=(),
            below=("torchvision.models.", "torchvision.ops."),
        ),
        functions("functions of numpy", modules=("numpy", "numpy.random", "numpy.linalg")),
    )  # fmt: skip


def _modes() -> tuple[State, ...]:
    stacks = [
        ("torch function modes", _len_torch_function_stack, _pop_mode),
        ("torch dispatch modes", _len_dispatch_stack, _python_dispatch._pop_mode),
    ]
    return (
        State(
            name="torch.inference_mode", get=torch.is_inference_mode_enabled, put=_set_inference
        ),
        State(name="torch.set_grad_enabled", get=torch.is_grad_enabled,
              put=torch.set_grad_enabled),
        State(
            name="torch.set_detect_anomaly",
            get=lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
            put=lambda flags: torch.set_anomaly_enabled(*flags),
        ),
        State(name="torch's default device", get=_default_device, put=torch.set_default_device),
        *(_stack(name, length, pop) for name, length, pop in stacks),
        *(_autocast(device) for device in ("cpu", "cuda")),
    )  # fmt: skip


def _len_dispatch_stack() -> int:
    return int(torch._C._len_torch_dispatch_stack())


def _stack(name: str, length: Callable[[], int], pop: Callable[[], Any]) -> State:
    """Modes that were entered and never left are left."""

    def put(before: int) -> None:
        while length() > before:
            pop()

    return State(name=name, get=length, put=put, words=lambda before, after: "entered")


def _set_inference(mode: bool) -> None:
    guard = torch.inference_mode(mode)
    guard.__enter__()
    _GUARDS.append(guard)


def _default_device() -> Any:
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return None if context is None else context.device


def _autocast(device: str) -> State:
    def put(before: tuple[bool, torch.dtype]) -> None:
        torch.set_autocast_enabled(device, before[0])
        torch.set_autocast_dtype(device, before[1])

    return State(
        name=f"autocast on {device}",
        get=lambda: (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)),
        put=put,
    )


def _defaults() -> tuple[State, ...]:
    return (
        State(
            name="torch's default tensor type",
            get=torch._C._get_default_device,
            put=lambda device: torch.set_default_tensor_type(_tensor_type(device)),
        ),
        State(name="torch's default dtype", get=torch.get_default_dtype,
              put=torch.set_default_dtype),
        State(name="torch.set_num_threads", get=torch.get_num_threads, put=torch.set_num_threads),
        State(
            name="torch.use_deterministic_algorithms",
            get=lambda: (
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
            ),
            put=lambda flags: torch.use_deterministic_algorithms(flags[0], warn_only=flags[1]),
            words=lambda before, after: f"at {after[0]}",
        ),
        State(
            name="torch.set_flush_denormal",
            get=lambda: sys.float_info.min / 2 == 0.0,
            put=torch.set_flush_denormal,
        ),
        State(name="torch.set_float32_matmul_precision", get=torch.get_float32_matmul_precision,
              put=torch.set_float32_matmul_precision),
        State(name="torch's sharing strategy", get=torch.multiprocessing.get_sharing_strategy,
              put=torch.multiprocessing.set_sharing_strategy),
        State(name="torch.cuda.set_device", get=_cuda_device, put=torch.cuda.set_device),
        attribute(torch.utils.deterministic, "fill_uninitialized_memory"),
        State(
            name="torch.set_printoptions",
            get=lambda: dict(vars(torch._tensor_str.PRINT_OPTS)),
            put=lambda options: vars(torch._tensor_str.PRINT_OPTS).update(options),
            words=changed,
        ),
    )  # fmt: skip


def _tensor_type(device: str) -> type:
    found: type = torch.FloatTensor if device == "cpu" else torch.cuda.FloatTensor
    return found


def _cuda_device() -> int:
    return int(torch.cuda.current_device()) if torch.cuda.is_initialized() else 0


def _backend(path: str) -> State:
    """A flag of ``torch.backends``."""
    place, _, name = path.rpartition(".")

    def owner() -> Any:
        return operator.attrgetter(place)(torch.backends) if place else torch.backends

    return State(
        name=f"torch.backends.{path}",
        get=lambda: getattr(owner(), name),
        put=lambda value: setattr(owner(), name, value),
    )


def _kernel(name: str) -> State:
    cuda = torch.backends.cuda
    enabled, enable = f"{name}_sdp_enabled", f"enable_{name}_sdp"
    return State(
        name=f"torch.backends.cuda.{enable}",
        get=lambda: getattr(cuda, enabled)(),
        put=lambda value: getattr(cuda, enable)(value),
    )


def _hooks() -> list[State]:
    """Hooks that torch calls for every module and every optimiser."""
    owners = {
        **{name: nn_module for name in vars(nn_module) if name.startswith("_global_")},
        **{name: _OPTIMIZER for name in vars(_OPTIMIZER)
           if name.startswith("_global_optimizer_")},
    }  # fmt: skip
    return [_hook(owner, name) for name, owner in owners.items()]


def _hook(owner: Any, name: str) -> State:
    label = name.removeprefix("_global_").replace("_", " ")
    held = getattr(owner, name)
    if not isinstance(held, dict):
        return attribute(owner, name, called=f"torch's global {label}")

    def put(before: dict[Any, Any]) -> None:
        held.clear()
        held.update(before)

    return State(
        name=f"torch's global {label}",
        get=held.copy,
        put=put,
        words=lambda before, after: f"at {len(after)} instead of {len(before)}",
    )


def _numpy() -> tuple[State, ...]:
    return (
        State(
            name="numpy.seterr",
            get=np.geterr,
            put=lambda modes: np.seterr(**modes),
            words=changed,
        ),
        State(
            name="numpy.set_printoptions",
            get=np.get_printoptions,
            put=lambda options: np.set_printoptions(**options),
            words=changed,
        ),
    )


def _random() -> tuple[State, ...]:
    """Every case is seeded, so that these differ behind each of them; nothing is told."""
    return (
        State(name="the state of torch's generator", get=torch.get_rng_state,
              put=torch.set_rng_state, same=lambda before, after: False, words=_nothing),
        State(name="the state of NumPy's generator", get=np.random.get_state,
              put=np.random.set_state, same=lambda before, after: False, words=_nothing),
    )  # fmt: skip


def _nothing(before: Any, after: Any) -> str:
    return ""
