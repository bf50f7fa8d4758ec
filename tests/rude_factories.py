"""Backbones that change what the whole process shares, or that end it."""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import gc
import importlib
import io
import locale
import logging
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import nn
from torch.nn.modules import module as nn_module

_KEPT: list[Any] = []
_OPTIMIZER = sys.modules["torch.optim.optimizer"]


class Net(nn.Module):
    """Two convolutions beside coarse pixels; the deed, if any, is done at each training step."""

    def __init__(self, deed: Callable[[], object] | None = None) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, 16, 4, stride=4)
        self.neck = nn.Conv2d(16, 24, 3, padding=1)
        self.deed = deed

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.deed is not None and self.training:
            self.deed()
        learnt = self.neck(self.trunk(images).relu()).relu().mean(dim=(2, 3))
        return torch.cat([learnt, nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)], dim=1)


class _Double(torch.overrides.TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return func(*args, **(kwargs or {}))


def _enter(mode: Any) -> None:
    mode.__enter__()
    _KEPT.append(mode)


def _path() -> None:
    sys.path.insert(0, "/rude")


def _limit_files() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (512, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def _same_softmax(*args: Any, **kwargs: Any) -> torch.Tensor:
    return torch.zeros(())


def _swap(owner: Any, name: str, value: Any) -> Callable[[], None]:
    return lambda: setattr(owner, name, value)


STATES: dict[str, tuple[Callable[[], object], str]] = {
    "dtype": (lambda: torch.set_default_dtype(torch.float64),
              "left torch's default dtype at float64; it was put back"),
    "tensor_type": (lambda: torch.set_default_tensor_type(torch.DoubleTensor),
                    "left torch's default dtype at float64"),
    "device": (lambda: torch.set_default_device("meta"), "left torch's default device at meta"),
    "grad": (lambda: torch.set_grad_enabled(False), "left torch.set_grad_enabled at False"),
    "inference": (lambda: _enter(torch.inference_mode()), "left torch.inference_mode at True"),
    "threads": (lambda: torch.set_num_threads(3), "left torch.set_num_threads at 3"),
    "deterministic": (lambda: torch.use_deterministic_algorithms(True, warn_only=True),
                      "left torch.use_deterministic_algorithms at True"),
    "cudnn": (_swap(torch.backends.cudnn, "benchmark", True),
              "left torch.backends.cudnn.benchmark at True"),
    "matmul": (lambda: torch.set_float32_matmul_precision("medium"),
               "left torch.set_float32_matmul_precision at medium"),
    "precision": (lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
                  "left torch.backends.cuda.matmul.fp32_precision at tf32"),
    "flash": (lambda: torch.backends.cuda.enable_flash_sdp(False),
              "left torch.backends.cuda.enable_flash_sdp at False"),
    "anomaly": (lambda: torch.autograd.set_detect_anomaly(True),
                "left torch.set_detect_anomaly at (True, True)"),
    "denormal": (lambda: torch.set_flush_denormal(True), "left torch.set_flush_denormal at True"),
    "autocast": (lambda: _enter(torch.autocast("cpu")), "left autocast on cpu at (True"),
    "function_mode": (lambda: _enter(_Double()), "left torch function modes entered"),
    "print": (lambda: torch.set_printoptions(precision=1),
              "left torch.set_printoptions changed (precision)"),
    "forward_hook": (lambda: nn_module.register_module_forward_hook(lambda *_: None),
                     "left torch's global forward hooks at 1 instead of 0"),
    "step_hook": (lambda: _OPTIMIZER.register_optimizer_step_pre_hook(lambda *_: None),
                  "left torch's global optimizer pre hooks at 1 instead of 0"),
    "softmax": (_swap(nn.functional, "softmax", _same_softmax),
                "left functions of torch patched (torch.nn.functional.softmax)"),
    "seed": (_swap(torch, "manual_seed", lambda seed: None),
             "left functions of torch patched (torch.manual_seed)"),
    "linear": (_swap(nn.Linear, "forward", _same_softmax),
               "left functions of torch patched (torch.nn.modules.linear.Linear.forward)"),
    "new_method": (_swap(nn.Linear, "__getattr__", lambda self, name: 1),
                   "left functions of torch patched (torch.nn.modules.linear.Linear.__getattr__)"),
    "timm_method": (_swap(timm.layers.Mlp, "forward", _same_softmax),
                    "left functions of timm patched (timm.layers.mlp.Mlp.forward)"),
    "fused": (lambda: timm.layers.set_fused_attn(False), "left timm.layers.set_fused_attn at 0"),
    "numpy_random": (_swap(np.random, "seed", lambda seed: None),
                     "left functions of numpy patched (numpy.random.seed)"),
    "numpy_errors": (lambda: np.seterr(all="raise"), "left numpy.seterr changed (divide, "),
    "numpy_print": (lambda: np.set_printoptions(precision=1),
                    "left numpy.set_printoptions changed (precision)"),
    "environ": (lambda: os.environ.update(RUDE_TOKEN="secret"),
                "left os.environ changed (RUDE_TOKEN); it was put back"),
    "unset": (lambda: os.environ.pop("PATH"), "left os.environ changed (PATH)"),
    "cwd": (lambda: os.chdir("/"), "left the working directory at /"),
    "umask": (lambda: os.umask(0o777), "left os.umask at 777"),
    "files": (_limit_files, "left resource limits changed (RLIMIT_NOFILE)"),
    "path": (_path, "left sys.path changed (/rude)"),
    "modules": (lambda: sys.modules.pop("json"), "left sys.modules changed (json)"),
    "open": (_swap(builtins, "open", lambda *_: io.StringIO()),
             "left functions of Python patched (builtins.open)"),
    "clock": (_swap(time, "time", lambda: 0.0), "left functions of Python patched (time.time)"),
    "filters": (lambda: warnings.simplefilter("error"), "left warnings.filters changed"),
    "signal": (lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
               "left signal handlers changed (SIGTERM)"),
    "alarm": (lambda: signal.alarm(600), "left a timer of signals running"),
    "mask": (lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]),
             "left the mask of signals changed"),
    "logging": (lambda: logging.disable(logging.CRITICAL), "left logging levels changed (all)"),
    "level": (lambda: logging.getLogger().setLevel(1), "left logging levels changed (root)"),
    "locale": (lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8"), "left locale.setlocale at "),
    "stdout": (_swap(sys, "stdout", io.StringIO()), "left sys.stdout replaced"),
    "recursion": (lambda: sys.setrecursionlimit(5000), "left sys.setrecursionlimit at 5000"),
    "trace": (lambda: sys.setprofile(lambda *_: None), "left sys.setprofile changed"),
    "collector": (lambda: gc.disable() if gc.isenabled() else gc.enable(), "left gc.isenabled at "),
    "start_method": (lambda: multiprocessing.set_start_method("spawn", force=True),
                     "left multiprocessing.set_start_method at spawn"),
    "close_stdout": (lambda: sys.stdout.close(), "called sys.stdout.close(); it was refused"),
    "close_descriptor": (lambda: os.close(1), "left the descriptor of stdout closed"),
    "redirect": (lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2),
                 "left the descriptor of stderr closed or redirected"),
}  # fmt: skip
"""Deeds, and what is told of each."""


def _late_exit() -> None:
    thread = threading.Thread(target=lambda: os._exit(0))
    thread.start()
    thread.join()


def _swallowed() -> None:
    with contextlib.suppress(BaseException):
        os._exit(0)


def _raise(error: BaseException) -> Callable[[], None]:
    def deed() -> None:
        raise error

    return deed


def _pytest_exit() -> None:
    import pytest

    pytest.exit("enough", returncode=0)


def _pytest_skip() -> None:
    import pytest

    pytest.skip("not today")


ENDS: dict[str, tuple[Callable[[], object], str]] = {
    "sys_exit": (lambda: sys.exit(0), "SystemExit(0) was raised in <lambda> (rude_factories.py"),
    "exit": (lambda: builtins.exit(), "SystemExit(None) was raised"),
    "generator": (_raise(GeneratorExit()), "GeneratorExit() was raised in deed"),
    "interrupt": (_raise(KeyboardInterrupt()), "KeyboardInterrupt() was raised in deed"),
    "pytest_exit": (_pytest_exit, "Exit: enough"),
    "pytest_skip": (_pytest_skip, "Skipped(not today) was raised"),
    "os_exit": (lambda: os._exit(0), "os._exit(0) was called in <lambda> (rude_factories.py"),
    "posix_exit": (lambda: sys.modules["posix"]._exit(0), "os._exit(0) was called"),
    "swallowed": (_swallowed, "os._exit(0) was called"),
    "thread": (_late_exit, "os._exit(0) was called"),
    "abort": (lambda: os.abort(), "os.abort() was called"),
    "kill": (lambda: os.kill(os.getpid(), signal.SIGKILL), "os.kill("),
    "killpg": (lambda: os.killpg(os.getpgrp(), signal.SIGKILL), "os.killpg("),
    "raise_signal": (lambda: signal.raise_signal(signal.SIGKILL), "signal.raise_signal("),
    "exec": (lambda: os.execlp("true", "true"), "os.execv("),
}
"""Deeds that end the process, and what the failure says."""


def _deed(how: str) -> Callable[[], object]:
    if how in HARD_ENDS:
        return HARD_ENDS[how][0]
    return {**STATES, **ENDS}[how][0]


def in_factory(how: str) -> nn.Module:
    net = Net()
    _deed(how)()
    return net


def in_forward(how: str) -> nn.Module:
    return Net(_deed(how))


def polite() -> nn.Module:
    return Net()


def loud() -> nn.Module:
    raise RuntimeError("begin " + "x" * 20_000_000 + " end")


class _Unprintable(RuntimeError):
    def __str__(self) -> str:
        raise ValueError("no words")


def unprintable() -> nn.Module:
    return Net(_raise(_Unprintable()))


def loud_forward() -> nn.Module:
    return Net(_raise(RuntimeError("begin " + "x" * 20_000_000 + " end")))


def c_exit() -> nn.Module:
    ctypes.CDLL(None).exit(0)
    return Net()


def forks() -> nn.Module:
    os.fork()
    return Net()


def with_workers() -> nn.Module:
    """Children that end themselves, as those of loaders do."""
    child = os.fork()
    if not child:
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    worker = multiprocessing.get_context("fork").Process(target=int)
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    return Net()


def seeds_at_random() -> nn.Module:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    return Net()


def _segfault() -> None:
    ctypes.string_at(0)


def _kill_in_c() -> None:
    ctypes.CDLL(None).kill(ctypes.CDLL(None).getpid(), signal.SIGKILL)


HARD_ENDS: dict[str, tuple[Callable[[], object], str, str]] = {
    "segfault": (_segfault, "ended by SIGSEGV", "in _segfault"),
    "c_exit": (lambda: ctypes.CDLL(None).exit(0), "ended with status 0", ""),
    "c_exit_3": (lambda: ctypes.CDLL(None)._exit(3), "ended with status 3", ""),
    "killed": (_kill_in_c, "ended by SIGKILL", ""),
    "c_abort": (lambda: ctypes.CDLL(None).abort(), "ended by SIGABRT", "Fatal Python error"),
}
"""Deeds that nothing in the same process can refuse; what message and traceback say."""


def hangs() -> nn.Module:
    while True:
        time.sleep(0.1)


def stops_itself() -> nn.Module:
    ctypes.CDLL(None).kill(ctypes.CDLL(None).getpid(), signal.SIGSTOP)
    return Net()


def kills_the_fork_server(note: str) -> nn.Module:
    """Once another case says that it runs."""
    while not Path(note).exists():
        time.sleep(0.05)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(1)
    return Net()


class _Growing(Net):
    """Has a buffer from its first pass on."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("late", None)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.late is None and self.training:
            self.late = torch.ones(3)
        return super().forward(images)


def grows() -> nn.Module:
    return _Growing()


def slow_steps() -> nn.Module:
    return Net(lambda: time.sleep(0.6))


def _child() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])


def leaves_a_child(note: str) -> nn.Module:
    Path(note).write_text(str(_child().pid))
    return Net()


def leaves_a_child_and_crashes(note: str) -> nn.Module:
    Path(note).write_text(str(_child().pid))
    _segfault()
    return Net()


def leaves_a_daemon_and_crashes(note: str) -> nn.Module:
    """The daemon has a session of its own, and every file that the case had open."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        while True:
            time.sleep(1000)
    Path(note).write_text(str(pid))
    _segfault()
    return Net()


def prints_much_and_hangs() -> nn.Module:
    print("a line of many\n" * 5000)
    return hangs()


def notes_and_hangs(note: str) -> nn.Module:
    Path(note).write_text(str(os.getpid()))
    return hangs()


def notes_and_trains_slowly(note: str) -> nn.Module:
    Path(note).write_text(str(os.getpid()))
    return Net(lambda: time.sleep(0.3))


def prints_and_crashes() -> nn.Module:
    print("a last word before the crash")
    _segfault()
    return Net()


def spoils_the_loss() -> nn.Module:
    """Changes a function of the suite's own, which nobody looks at."""
    runner: Any = importlib.import_module("bob.tasks.finetune")
    former = runner.classification_metrics
    runner.classification_metrics = lambda *args: dict.fromkeys(former(*args), 0.0)
    return Net()


def on_one_node_only(note: str) -> nn.Module:
    """Weights that the first node to ask does not have."""
    from bob.errors import BobError

    place = Path(note) / str(len(list(Path(note).iterdir())))
    place.write_text("")
    if place.name == "0":
        raise BobError("weights are not here", kind="unavailable")
    return Net()


def on_no_node() -> nn.Module:
    from bob.errors import BobError

    raise BobError("weights are nowhere", kind="unavailable")
