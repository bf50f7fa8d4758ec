"""Who writes a run, as tags, and whether that process is provably dead."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

HOST, MACHINE, BOOT = "bob.host", "bob.machine", "bob.boot"
PID, STARTED = "bob.pid", "bob.pid_started"


def process_tags() -> dict[str, str]:
    """This process: host name, machine, boot and process namespace, id, and start time.

    The machine's id is confidential by its manual, so that a digest of it stands in its place. Text
    is empty where the system does not tell.
    """
    machine = _text("/etc/machine-id")
    return {
        HOST: socket.gethostname(),
        MACHINE: hashlib.sha256(f"bob {machine}".encode()).hexdigest()[:12] if machine else "",
        BOOT: f"{_text('/proc/sys/kernel/random/boot_id')} {_namespace()}".strip(),
        PID: str(os.getpid()),
        STARTED: _started(os.getpid()) or "",
    }


def is_here(tags: Mapping[str, str]) -> bool:
    """Whether a run was written on this machine."""
    ours = process_tags()
    return all(tags.get(name, "") == ours[name] for name in (HOST, MACHINE))


def is_this(tags: Mapping[str, str]) -> bool:
    """Whether this process wrote a run."""
    return is_here(tags) and all(
        tags.get(name, "") == text for name, text in process_tags().items()
    )


def is_dead(tags: Mapping[str, str]) -> bool:
    """Whether the process that wrote a run is provably gone; false wherever that is not known.

    A process of another boot is gone where the machine is known to be the same one: many share
    a host name. One in another process namespace, as of another container, cannot be seen.
    """
    ours = process_tags()
    if not is_here(tags) or not tags.get(PID, "").isdigit():
        return False
    boot, here = tags.get(BOOT, ""), ours[BOOT]
    if boot != here:
        known = bool(boot and here and ours[MACHINE])
        return known and boot.split()[0] != here.split()[0]
    return not _lives(int(tags[PID]), tags.get(STARTED, ""))


def is_alive_elsewhere(tags: Mapping[str, str]) -> bool:
    """Whether another process of this machine that is alive wrote a run."""
    same_boot = is_here(tags) and tags.get(BOOT, "") == process_tags()[BOOT]
    return same_boot and PID in tags and not is_this(tags) and not is_dead(tags)


def _lives(pid: int, started: str) -> bool:
    import psutil

    if not psutil.pid_exists(pid):
        return False
    now = _started(pid)
    if now is None:
        return False  # between its end and the moment when its parent is told
    return not now or not started or now == started


def _started(pid: int) -> str | None:
    """When a process began, in the system's own words; empty where hidden, none of a zombie.

    Linux counts ticks since boot, which no change of the clock moves.
    """
    if Path("/proc/self/stat").exists():
        text = _text(f"/proc/{pid}/stat")
        fields = text.rpartition(")")[2].split()  # the name before it may hold anything
        if not fields:
            return ""
        return None if fields[0] in "ZX" else fields[19]
    import psutil

    try:
        process = psutil.Process(pid)
        dead = process.status() == psutil.STATUS_ZOMBIE
        return None if dead else str(int(process.create_time()))
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        return ""


def _text(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text().strip()
    return ""


def _namespace() -> str:
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""
