"""How the memory of tensors is handed out, settled before torch is imported."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
_CHOICES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_")


def hand_out_large_pages() -> None:
    """Let torch ask for huge pages, and glibc keep what is freed, unless the environment says how.

    A layer on a batch of images has blocks of tens of megabytes. Left alone, the system hands each
    out in pages of 4 KiB, cleared one by one when they are touched first, and takes it back when it
    is freed: on a CPU that can take longer than to compute what goes there. With huge pages
    (``madvise``) there are 512 times fewer to hand out, and glibc keeps up to a gigabyte of freed
    blocks of at most 32 MiB, the largest that it would ever keep by itself. Nothing that is
    computed changes.

    torch reads its environment at the first tensor, so this must come before.
    """
    os.environ.setdefault(_HUGE_PAGES, "1")
    if any(name in os.environ for name in _CHOICES):
        return
    if "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", ""):
        return
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 * 2**20)
        mallopt(_TRIM_THRESHOLD, 2**30)


def release_freed_memory() -> None:
    """Return what is free to the system, where glibc keeps it."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _function(name: str) -> ctypes._NamedFuncPointer | None:
    try:
        return getattr(ctypes.CDLL(None), name)  # type: ignore[no-any-return]
    except (AttributeError, OSError, TypeError):  # another C library
        return None
