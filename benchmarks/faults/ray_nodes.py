"""Nodes of a Ray cluster in this machine that are killed, and others in their place."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack, suppress
from typing import Any

import psutil

from tests.ray_parts import STORE, running_cluster

HOW = ("node", "raylet", "worker", "removed")
"""``kill -9`` of all of a node, of its raylet, of a Ray worker; a node that is asked to leave."""
_BUSY_SECONDS = 60.0


class Nodes:
    """A head without cores, which the sessions join, and two nodes of one core each."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._cluster = self._stack.enter_context(running_cluster(0, 1, 1))

    @property
    def address(self) -> str:
        """For ``--ray-address``."""
        return str(self._cluster.address)

    def kill(self, how: str, draw: random.Random) -> bool:
        """Kill one that runs a case; another node joins in the place of one that is lost.

        Args:
            how: One of ``HOW``.
            draw: Chooses which.

        Returns:
            Whether any ran a case.
        """
        busy = self._busy()
        if not busy:
            return False
        node, worker = draw.choice(busy)
        if how == "worker":
            with suppress(psutil.NoSuchProcess):
                worker.kill()
            return True
        if how == "raylet":
            psutil.Process(_raylet(node)).kill()  # its workers find out by themselves
            self._stack.callback(node.kill_all_processes, check_alive=False, allow_graceful=False)
            self._cluster.worker_nodes.remove(node)
        else:
            self._cluster.remove_node(node, allow_graceful=how == "removed")
        self._cluster.add_node(num_cpus=1, **STORE)
        return True

    def close(self) -> None:
        """End the cluster."""
        self._stack.close()

    def _busy(self) -> list[tuple[Any, psutil.Process]]:
        """Nodes with a worker of theirs that runs a case, as soon as there is one."""
        until = time.monotonic() + _BUSY_SECONDS
        while time.monotonic() < until:
            found = []
            for node in self._cluster.worker_nodes:
                with suppress(psutil.NoSuchProcess):
                    for process in psutil.Process(_raylet(node)).children():
                        if "ray::bob" in " ".join(process.cmdline()):
                            found.append((node, process))
            if found:
                return found
            time.sleep(0.2)
        return []


def _raylet(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)
