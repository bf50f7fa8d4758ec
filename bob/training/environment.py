"""Where a case ran: versions, device, memory."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path

import psutil
import torch

from bob.fingerprint import fingerprint

_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
"""Environment variables that keep libraries from the newest instructions."""


def describe(device: torch.device, precision: str) -> dict[str, str]:
    """Versions, CPU, device and precision as strings: what may change a score by rounding."""
    facts = fingerprint()
    facts["device"] = device.type
    facts["precision"] = precision
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"] = torch.version.cuda or ""
    else:
        facts["threads"] = str(torch.get_num_threads())
        limits = (os.environ.get(name, "") for name in _LIMITS)
        facts["kernels"] = " ".join(
            [torch.backends.cpu.get_cpu_capability(), *filter(None, limits)]
        )
    return facts


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory of the device since ``reset_peak``; of the resident process on CPU.

    Where the system cannot start the process's peak anew (other than Linux), it is that of the
    process's whole life.
    """
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 2**20
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def reset_peak(device: torch.device) -> None:
    """Start counting the peak anew, where the device can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def system_metrics(device: torch.device) -> dict[str, float]:
    """Load of the machine a case runs on, under the names MLflow's system tab shows."""
    memory = psutil.virtual_memory()
    metrics = {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_megabytes": memory.used / 1e6,
        "system/system_memory_usage_percentage": memory.percent,
        "system/process_memory_megabytes": psutil.Process().memory_info().rss / 1e6,
    }
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        metrics["system/gpu_memory_usage_megabytes"] = (total - free) / 1e6
        metrics["system/gpu_memory_usage_percentage"] = 100 * (total - free) / total
        # NVML has errors of its own, which MIG slices and virtual GPUs raise
        with contextlib.suppress(Exception):
            metrics["system/gpu_utilization_percentage"] = float(torch.cuda.utilization(device))
    return metrics
