"""Where cases run: in this process, or wherever an executor takes them.

An executor takes submissions and gives events. The evaluator asks it to go on while a test waits
for a case, and takes whatever has happened, to any case, in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from inspect import Parameter, signature
from typing import Protocol

from bob.case import Case, Context, Progress, Result
from bob.errors import unknown

EXECUTORS = {
    "inline": "bob.executors.inline:InlineExecutor",
    "process": "bob.executors.process:ProcessExecutor",
    "ray": "bob.executors.ray_cluster:RayExecutor",
}


@dataclass(frozen=True)
class Limit:
    """How long a case may take before it is stopped.

    Attributes:
        of_silence: Whether the seconds count from the last progress rather than from the start.
    """

    seconds: float
    of_silence: bool = False


@dataclass(frozen=True)
class Need:
    """What a case is estimated to need on the reference GPU.

    Attributes:
        hours: None where nothing tells.
        memory_gib: Peak memory of the GPU; none where nothing tells.
    """

    hours: float | None = None
    memory_gib: float | None = None


@dataclass(frozen=True)
class Submission:
    """A case to run.

    Attributes:
        ticket: What events name it by; unique within a session.
        limit: Heeded by executors that can stop a case (``Executor.stops_cases``).
        need: What it is estimated to need, for executors that place cases.
    """

    ticket: str
    case: Case
    context: Context
    limit: Limit | None = None
    need: Need | None = None


@dataclass(frozen=True)
class Started:
    """A case has begun to run. Once a ticket, before anything else of it."""

    ticket: str


@dataclass(frozen=True)
class Progressed:
    """A running case has come further."""

    ticket: str
    progress: Progress


@dataclass(frozen=True)
class Finished:
    """A case has ended, well or not; see ``Result.failure``. Once a ticket, the last of it."""

    ticket: str
    result: Result


Event = Started | Progressed | Finished
Deliver = Callable[[Event], None]


class Executor(Protocol):
    """Runs cases through ``run_case``; ``bob.executors.contract`` tests one.

    One that can stop a case without ending the session has an attribute ``stops_cases`` that is
    true, and fails cases that exceed the limit of their submission. One whose ``places_cases`` is
    true is told what each case is estimated to need.
    """

    def submit(self, submission: Submission) -> None:
        """Take a case; it may start at once or later."""

    def advance(self, deliver: Deliver, *, waiting_for: str) -> None:
        """Go on until something has happened, and deliver it in the calling thread.

        It may return with nothing delivered, so that the caller can look about, but not later than
        after a second without an event.

        Args:
            deliver: Takes events. It may submit and cancel cases meanwhile.
            waiting_for: Ticket of the case that the caller needs next.
        """

    def cancel(self, tickets: Collection[str]) -> None:
        """Do not start these, and stop those that run where that is possible.

        Events of a cancelled ticket may still come; the caller lets them pass.
        """

    def shutdown(self, *, cancel: bool) -> None:
        """Let go of everything; with ``cancel``, of running cases too."""


def executor_names() -> list[str]:
    """Built-in executors and those that packages register under ``bob.executors``."""
    return sorted({*EXECUTORS, *(point.name for point in entry_points(group="bob.executors"))})


def places_cases(executor: Executor) -> bool:
    """Whether an executor looks at what a case needs."""
    return bool(getattr(executor, "places_cases", False))


def stops_cases(executor: Executor) -> bool:
    """Whether an executor heeds limits."""
    return bool(getattr(executor, "stops_cases", False))


def make_executor(name: str, options: Mapping[str, str] | None = None) -> Executor:
    """The executor of a name.

    Args:
        name: Built in, or of an installed package.
        options: Keyword arguments of its constructor, as text.

    Raises:
        BobError: No such executor, or it has no such option; the nearest names are offered.
    """
    from bob.objects import import_object

    for point in entry_points(group="bob.executors"):
        if point.name == name:
            return _made(name, point.load(), options or {})
    if name not in EXECUTORS:
        raise unknown("executor", name, executor_names())
    return _made(name, import_object(EXECUTORS[name], what=f"executor {name!r}"), options or {})


def _made(name: str, factory: Callable[..., Executor], options: Mapping[str, str]) -> Executor:
    parameters = signature(factory).parameters
    anything = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values())
    for key in options:
        if key not in parameters and not anything:
            hint = "" if parameters else f"{name!r} takes none."
            raise unknown(f"option of executor {name!r}", key, parameters, hint=hint)
    return factory(**options)
