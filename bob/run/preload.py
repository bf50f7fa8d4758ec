"""What the process that cases are forked from imports: large packages, and nothing of a case."""

from __future__ import annotations

import signal

from bob.startup import import_torchmetrics, importing
from bob.threads import wait_passively

wait_passively()
# A signal to all processes ends the cases, which tell how; without this one nobody would know.
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with importing():
    import_torchmetrics()
    import scipy.optimize  # noqa: F401
    import timm  # noqa: F401
    import torchvision  # noqa: F401

    import bob.run.global_state
    import bob.run.steps
    import bob.run.streams  # noqa: F401
