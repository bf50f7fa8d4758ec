"""What goes wrong in a case, as a failure of readable length."""

from __future__ import annotations

import signal
import traceback
from pathlib import Path

from bob import exits, interrupts
from bob.case import Case, Failure, Result
from bob.errors import BobError, GridDiverged

LONGEST_MESSAGE = 40_000
LONGEST_TRACEBACK = 80_000
"""Characters of a failure that are kept; a backbone's error may hold a whole tensor, or 20 MB."""

_ADVICE = "Code of a case must return or raise an error."


def failed(case: Case, error: BaseException) -> Result:
    """The result of a case that an error ended.

    Raises:
        KeyboardInterrupt: It is an interrupt that may be a person's, or came behind SIGTERM.
        BaseException: A signal's handler raised it, as that of a plugin's time limit does: it is
            not the case's own.
    """
    if isinstance(error, Exception) and interrupts.terminated():
        raise KeyboardInterrupt from error  # what SIGTERM ended besides was missed
    if isinstance(error, BobError):
        unforeseen = error.__cause__ is not None and error.kind not in ("unavailable", "weights")
        trials = error.trials if isinstance(error, GridDiverged) else ()
        text = _traceback(error) if unforeseen else ""
        return Result(case=case, failure=_failure(error.kind, str(error), text), trials=trials)
    if isinstance(error, KeyboardInterrupt) and not interrupts.unsent():
        raise error
    if not isinstance(error, Exception) and _of_handler(error):
        raise error
    if isinstance(error, exits.ProcessExit):
        failure = exit_failure(str(error), place=_place(error))
    elif isinstance(error, Exception):
        failure = _failure("error", f"{type(error).__name__}: {_words(error)}", _traceback(error))
    else:
        call = f"{type(error).__name__}({shortened(_words(error), 200)})"
        message = (
            f"{call} was raised {_place(error)}, which would have ended the session; it goes on. "
            f"{_ADVICE}"
        )
        failure = _failure("exit", message, _traceback(error))
    return Result(case=case, failure=failure)


def _of_handler(error: BaseException) -> bool:
    """Whether an error was raised while a handler of an alarm ran."""
    handler = signal.getsignal(signal.SIGALRM) if hasattr(signal, "SIGALRM") else None
    code = getattr(getattr(handler, "__wrapped__", handler), "__code__", None)
    frames = traceback.walk_tb(error.__traceback__)
    return code is not None and any(frame.f_code is code for frame, _ in frames)


def exit_failure(call: str, *, place: str = "") -> Failure:
    """The failure of a case whose code called for the end of the process."""
    where = f" {place}" if place else ""
    return _failure(
        "exit",
        f"{call} was called{where}, which would have ended the process; it was refused and the "
        f"session goes on. {_ADVICE}",
        "",
    )


def shortened(text: str, most: int) -> str:
    """Head and tail of a text, and how much was left out between them."""
    if len(text) <= most:
        return text
    head = most // 2
    tail = most - head
    return f"{text[:head]}\n[... {len(text) - most:,} characters left out ...]\n{text[-tail:]}"


def _failure(kind: str, message: str, text: str) -> Failure:
    return Failure(kind, shortened(message, LONGEST_MESSAGE), shortened(text, LONGEST_TRACEBACK))


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its message cannot be shown)"


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # an error of the error's own code
        return "".join(traceback.format_tb(error.__traceback__))


def _place(error: BaseException) -> str:
    """Where the innermost code stands that is not of ``bob.exits``."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != exits.__file__
    ]
    if not frames:
        return ""
    return f"in {frames[-1].name} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"
