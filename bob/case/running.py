"""How a case is run, and what is told while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Context:
    """How a case is run; nothing here may change its score beyond rounding.

    Attributes:
        accelerator: ``auto``, ``cpu``, ``cuda`` or ``mps``, as Lightning Fabric names them.
        precision: ``auto`` (bfloat16 mixed on CUDA, float32 elsewhere) or a Fabric precision.
        workers: Loader processes for datasets that decode files, for each device.
        devices: How many devices one case runs on; each has an equal share of every batch.
        features: Folder of the feature store; empty for the user's own.
        features_limit: Bytes the feature store may keep.
        known: Run keys of which there are results: a case that turns out to be of such a key when
            it has been loaded is not run.
        checkpoints: Folder of checkpoints of running cases; empty writes none.
        checkpoint_minutes: Least time between two of them; 0 for one at every step.
        resume: Whether a checkpoint of the same run is taken up; otherwise it is removed.
    """

    accelerator: str = "auto"
    precision: str = "auto"
    workers: int = 2
    devices: int = 1
    features: str = ""
    features_limit: int = 50 * 2**30
    known: tuple[str, ...] = ()
    checkpoints: str = ""
    checkpoint_minutes: float = 5.0
    resume: bool = False


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Sent while a case runs.

    Attributes:
        phase: ``load``, ``loaded`` (with the run key), ``wait`` (another process extracts the same
            features), ``extract``, ``fit``, ``search`` (the next setting of a grid), ``train``,
            ``evaluate`` or ``epoch`` (an epoch has ended).
        loss: Mean training loss of the epoch so far, where it is told.
        metrics: Values of the epoch that ended; empty otherwise.
        run_key: See ``Result``; empty but when the case has just been loaded.
    """

    phase: str
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    loss: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    run_key: str = ""


Emit = Callable[[Progress], None]
"""Takes progress while a case runs."""
