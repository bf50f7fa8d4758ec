"""Memory of tensors: few pages to hand out, freed blocks used again, none kept behind a case."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bob.training.memory import SCORED_PIXELS, Parts

needs_glibc = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc"
)
HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
WORK = """
import resource
import {first}
from bob.memory import release_freed_memory
import psutil, torch
torch.ones({count})
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones({count})
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
blocks = [torch.ones(1_000_000) for _ in range(100)]
blocks.clear()
held = psutil.Process().memory_info().rss
release_freed_memory()
print(faults, (held - psutil.Process().memory_info().rss) // 2**20)
"""


def pages(first: str, count: int = 2**25, **environment: str) -> tuple[int, int]:
    """Pages handed out for twenty tensors in turn, and MiB that the process then gave back."""
    kept = {
        name: text
        for name, text in os.environ.items()
        if "MALLOC" not in name and "THP" not in name
    }
    done = subprocess.run(
        [sys.executable, "-c", WORK.format(first=first, count=count)],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    faults, given_back = done.stdout.split()
    return int(faults), int(given_back)


@pytest.mark.skipif(
    not HUGE.exists() or "[never]" in HUGE.read_text(), reason="the system has no huge pages"
)
def test_large_tensors_ask_for_huge_pages() -> None:
    faults, _ = pages("bob.run")
    plain, _ = pages("torch")
    assert faults < plain / 5
    refused, _ = pages("bob.run", THP_MEM_ALLOC_ENABLE="0")
    assert refused > plain / 2


@needs_glibc
@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"MALLOC_TRIM_THRESHOLD_": "131072"},
        {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"},
    ],
)
def test_freed_blocks_stay_until_the_case_is_done(environment: dict[str, str]) -> None:
    _, given_back = pages("bob.run", **environment)
    if environment:  # what it says of glibc stands
        assert given_back < 100
    else:
        assert given_back > 300


def test_parts_of_scoring_have_so_many_pixels_on_a_cpu() -> None:
    def sizes(parts: Parts, side: int, count: int = 256) -> list[int]:
        images = torch.zeros(1, 3, side, side).expand(count, -1, -1, -1)
        return parts.run(images, lambda slices: [len(images[part]) for part in slices])

    cpu = torch.device("cpu")
    assert sizes(Parts.of_scoring(cpu, None), 32) == [256]
    assert sizes(Parts.of_scoring(cpu, None), 224, 50) == [20, 20, 10]
    assert sizes(Parts.of_scoring(cpu, None), 2000, 2) == [1, 1]
    assert 20 * 224**2 <= SCORED_PIXELS < 21 * 224**2
    assert sizes(Parts(cpu), 224) == [256]
    assert Parts.of_scoring(torch.device("cuda"), None).pixels == 0
