"""What a machine is to a score, as far as it can be told without importing torch."""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_VECTOR = ("amx", "avx", "fma", "sse4")
_PACKAGES = ("torch", "torchvision", "timm", "torchmetrics", "lightning-fabric", "numpy")


def cpu_model() -> str:
    """Name of the CPU, as the system tells it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def instruction_sets() -> str:
    """Vector instructions of the CPU, as the system names them; empty where it does not.

    Libraries choose kernels by them, which add up in another order: machines of one model name may
    differ.
    """
    flags = _cpuinfo("flags").split()
    return " ".join(sorted(flag for flag in flags if flag.startswith(_VECTOR)))


def threads_wanted() -> int:
    """Threads torch is told to use, or the processors it may run on."""
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if told.isdecimal() and int(told):
        return int(told)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def fingerprint() -> dict[str, str]:
    """Versions and CPU, whatever device a case runs on; the caller's own copy."""
    return dict(_facts())


@lru_cache(maxsize=1)
def _facts() -> dict[str, str]:
    facts = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_model(),
        "instructions": instruction_sets(),
    }
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def _cpuinfo(field: str) -> str:
    """A field of the first processor, where the system tells it; else empty."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def may_be_here(environment: dict[str, str]) -> bool:
    """Whether a run of this environment may have been made on a machine like this one.

    What only torch can tell (device, precision, instruction set) is left open, but for the number
    of threads, which is known before.
    """
    here = fingerprint()
    if any(environment.get(name) != fact for name, fact in here.items()):
        return False
    return environment.get("threads", str(threads_wanted())) == str(threads_wanted())
