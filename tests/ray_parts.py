"""A real Ray cluster of several nodes in this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[1]
STORE = {"object_store_memory": 100 * 2**20}
"""Shared memory of a node; results are small."""


@contextmanager
def running_cluster(*cores: int) -> Iterator[Any]:
    """A cluster whose nodes find what this process imports.

    Args:
        cores: Of each node; the first one is the head.
    """
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(_ROOT), *filter(None, sys.path)]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        head = {"num_cpus": cores[0], "include_dashboard": False, **STORE}
        made = Cluster(initialize_head=True, head_node_args=head)
        try:
            for count in cores[1:]:
                made.add_node(num_cpus=count, **STORE)
            yield made
        finally:
            made.shutdown()
