"""What a loader's process does about SIGTERM."""

from __future__ import annotations

import os
import signal
import threading


def outlive_sigterm(worker: int = 0) -> None:
    """End when the process that loads asks for it, and not when anybody else does.

    Schedulers send SIGTERM to every process of a job. One that trains writes a checkpoint then, and
    needs its loader's processes for the step it is in. For ``worker_init_fn``; does nothing where
    the system does not say who has sent a signal.

    Args:
        worker: Number of the process.
    """
    if not hasattr(signal, "sigwaitinfo"):
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_wait_for_parent, args=(os.getppid(),), daemon=True).start()


def _wait_for_parent(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
