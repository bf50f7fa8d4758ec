"""How torch's threads wait for one another, settled before torch is imported."""

from __future__ import annotations

import os

_CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def wait_passively() -> None:
    """Let threads that wait for others sleep, unless the environment says how they wait.

    OpenMP's threads run in a circle for some milliseconds wherever they wait: hundreds of times in
    a training step. Beside another busy program the one that is waited for stands in line while the
    waiting ones hold the processor it needs, and training takes many times as long. What is
    computed does not change: the number of threads and the work of each stay the same.

    OpenMP reads its environment when it is loaded, so this must come before ``import torch``.
    """
    if not any(name in os.environ for name in _CHOICES):
        os.environ["OMP_WAIT_POLICY"] = "passive"
