"""Whether the head of a Ray cluster is still there.

Ray ends a process whose cluster has lost its head, without a word and in the middle of whatever it
does. So this process looks for itself, waits as long as a head takes that is started again, and
ends its session in order before Ray does.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

from bob.errors import ExecutorLost

HEAD_SECONDS = 60.0
"""How long a head may be away: as long as Ray's nodes wait for one."""
_ENDING_SECONDS = 120
_RAY_LIMIT = "RAY_gcs_rpc_server_reconnect_timeout_s"
_CONNECT_SECONDS = 2.0


def leave_time() -> None:
    """Have Ray wait longer than this module; before Ray is imported. A limit that is set stays."""
    os.environ.setdefault(_RAY_LIMIT, str(int(HEAD_SECONDS) + _ENDING_SECONDS))


class Head:
    """The head of a cluster.

    Args:
        address: ``HOST:PORT`` of its control service.

    Attributes:
        lost: Whether it was given up.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        host, _, port = address.rpartition(":")
        self._place = host.strip("[]"), int(port)
        self._away_since: float | None = None
        self.lost = False

    def answers(self) -> bool:
        """Whether it takes connections now.

        Raises:
            ExecutorLost: It has been away for ``HEAD_SECONDS``.
        """
        with suppress(OSError):
            socket.create_connection(self._place, _CONNECT_SECONDS).close()
            self._away_since = None
            return True
        now = time.monotonic()
        self._away_since = self._away_since or now
        if now - self._away_since < HEAD_SECONDS:
            return False
        self.lost = True
        raise ExecutorLost(
            f"The head of the Ray cluster at {self._address} has not answered for "
            f"{HEAD_SECONDS:.0f} seconds. What had ended is recorded; start the cluster and run "
            "the same command with --resume for the rest."
        )
