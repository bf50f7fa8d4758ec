"""Into how many parts batches had to be split, kept for the next case on the same device.

A count is a hint: a case that starts at one gives what it would have given had it found it out on
its first batch (``bob.training.memory``). It is heeded only where no more memory is free than when
it was found, so that a crowded device does not slow down later cases on an empty one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bob.hashing import digest_of
from bob.job import Job
from bob.places import micro_batches_root
from bob.protocols import PROTOCOLS

_FORMAT = 1
_MOST = 2**20
_ALIKE = 1.1
"""Free memory that counts as no more than before, as a multiple."""


@dataclass(frozen=True)
class Remembered:
    """The count of one phase of cases that are alike.

    Attributes:
        facts: What decides it: backbone, task, image size, precision, device, phase.
        device: Where it is run.
    """

    facts: Mapping[str, Any]
    device: torch.device

    def count(self, batch: int) -> int:
        """Parts to start with.

        Args:
            batch: Images of a batch.

        Returns:
            1 where nothing is known, what is kept is damaged, or more memory is free than then.
        """
        try:
            kept = json.loads(self.path(batch).read_bytes())
            count, free = kept["count"], kept["free_bytes"]
        except (OSError, ValueError, KeyError, TypeError):
            return 1
        if type(count) is not int or type(free) is not int or not 1 <= count <= _MOST:
            return 1
        return min(count, batch) if free_bytes(self.device) <= free * _ALIKE else 1

    def keep(self, batch: int, count: int) -> None:
        """Keep what was found out; a cache that cannot be written costs the next case an attempt.

        Args:
            batch: Images of a batch.
            count: Parts that fitted.
        """
        path = self.path(batch)
        fresh = path.with_suffix(f".{os.getpid()}.tmp")
        kept = {"count": count, "free_bytes": free_bytes(self.device), "batch": batch,
                "of": dict(self.facts)}  # fmt: skip
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps(kept, indent=1, default=str), encoding="utf-8")
            fresh.replace(path)
        except OSError:
            with suppress(OSError):
                fresh.unlink()

    def path(self, batch: int) -> Path:
        """Its file."""
        facts = [_FORMAT, torch.__version__, dict(self.facts), batch]
        return micro_batches_root() / f"{digest_of(facts)}.json"


def remembered(job: Job[Any, Any, Any], phase: str) -> Remembered:
    """What is kept for a phase of a job.

    Args:
        job: What runs.
        phase: ``train``, ``score`` or ``extract``.
    """
    size = getattr(job.recipe, "image_size", None) or getattr(job.backbone, "image_size", 0)
    facts = {
        "backbone": job.case.backbone.identity,
        "task": job.case.task,
        "image_size": size,
        "precision": str(job.fabric.strategy.precision.precision),
        "device": _name(job.device),
        "phase": phase,
    }
    if PROTOCOLS[job.case.task].detects:  # what a detector takes is its images' and its heads' too
        recipe = job.recipe.model_dump(include={"engine", "masks"}, mode="json")
        facts |= {"dataset": job.case.dataset.key, **recipe}
    if phase == "extract":
        del facts["task"]  # one extraction feeds them all
    return Remembered(facts, job.device)


def _name(device: torch.device) -> list[Any]:
    if device.type != "cuda":
        return [device.type]
    found = torch.cuda.get_device_properties(device)
    return [device.type, found.name, found.total_memory]


def free_bytes(device: torch.device) -> int:
    """Memory that is free for this process on a GPU; 0 elsewhere."""
    if device.type != "cuda":
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    own = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + own)
