"""How fast the CPU at hand is: measured once, kept in the user's cache. Imports nothing heavy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from pydantic import Field, ValidationError

from bob.errors import BobError
from bob.fingerprint import cpu_model, threads_wanted
from bob.hashing import digest_of
from bob.places import calibration_root
from bob.record import Record

FORMAT = 1
"""Raised when other things are measured, so that older files are not read."""
_LIMIT_SECONDS = 600


class Network(Record):
    """One network that was measured.

    Attributes:
        name: Of the network, for the estimate's basis.
        family: Architecture family.
        parameters_m: Millions, without classifier.
        side: Height and width of the images in pixels.
        forward: Seconds an image.
        update: Seconds of an update besides its images.
        trained: Seconds an image of an update, forward and backward.
    """

    name: str
    family: str
    parameters_m: float = Field(gt=0)
    side: int = Field(gt=0)
    forward: float = Field(gt=0)
    update: float = Field(ge=0)
    trained: float = Field(gt=0)


class Heads(Record):
    """Pyramid, proposals and heads of a detector, the backbone not among them.

    Attributes:
        image: Seconds an image, whatever the heads' size.
        mac: Seconds a multiply-add of the forward pass.
    """

    image: float = Field(ge=0)
    mac: float = Field(ge=0)


class Calibration(Record):
    """What a CPU was measured to take.

    Attributes:
        cpu: Model of the CPU.
        torch: Version of torch.
        threads: Threads torch computed with.
        date: Day of the measurement, ISO.
        networks: What was measured, in ascending cost.
        trained_heads: Heads in training, forward and backward.
        tested_heads: Heads in testing.
        view: Seconds to augment an image of ``view_side`` pixels.
        fit: Seconds to solve a linear head on the features of a thousand images.
        case: Seconds that the smallest case takes: data, scores, pictures.
        start: Seconds that the first case takes besides: imports.
    """

    cpu: str
    torch: str
    threads: int = Field(ge=1)
    date: str
    networks: tuple[Network, ...] = Field(min_length=1)
    trained_heads: Heads
    tested_heads: Heads
    view: float = Field(ge=0)
    view_side: int = Field(gt=0)
    fit: float = Field(ge=0)
    case: float = Field(ge=0)
    start: float = Field(ge=0)


def calibration_path() -> Path:
    """The file of this CPU, torch and number of threads."""
    key = digest_of([FORMAT, cpu_model(), version("torch"), threads_wanted()])
    return calibration_root() / f"cpu-{key}.json"


def kept_calibration(say: Callable[[str], None]) -> Calibration | None:
    """The calibration that is kept, if any.

    Args:
        say: Receives a sentence where a file is there and cannot be used.
    """
    path = calibration_path()
    try:
        return Calibration.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        say(f"{path} cannot be read ({error.strerror}); it is ignored.")
    except ValidationError:
        say(f"{path} is damaged; it is ignored.")
    return None


def calibrate() -> Calibration:
    """Measure this CPU in a process of its own and keep the result.

    Returns:
        What was measured, also where it could not be kept.

    Raises:
        BobError: The measurement failed; the message tells its last line.
    """
    command = [sys.executable, "-m", "bob.cost.measure"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BobError(f"This CPU was not calibrated within {error.timeout:g} seconds.") from None
    try:
        found = Calibration.model_validate_json(_last_line(done.stdout))
    except ValidationError:
        last = _last_line(done.stderr) or f"exit status {done.returncode}"
        raise BobError(
            f"This CPU could not be calibrated: {last}. `python -m bob.cost.measure` tells more."
        ) from None
    _keep(calibration_path(), found)
    return found


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def _keep(path: Path, calibration: Calibration) -> None:
    fresh = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(calibration.model_dump_json(indent=1), encoding="utf-8")
        fresh.replace(path)
    except OSError:  # a cache that cannot be written costs a few seconds next time
        with suppress(OSError):
            fresh.unlink()
