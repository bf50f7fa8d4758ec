"""A progress line that shows under pytest's capture."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bob.case import Case, Progress
from bob.shown import encodable, line

if TYPE_CHECKING:
    import pytest

_LINE_SECONDS = 30.0


class ProgressLine:
    """Writes to the terminal pytest reports on, past the capture of the running test.

    Args:
        config: The session's configuration.
        mode: ``live`` rewrites one line, ``lines`` writes one now and then, ``off`` nothing;
            ``auto`` is ``live`` on a terminal and ``lines`` elsewhere.
    """

    def __init__(self, config: pytest.Config, mode: str) -> None:
        self._reporter = config.pluginmanager.get_plugin("terminalreporter")
        self._capture = config.pluginmanager.get_plugin("capturemanager")
        if mode == "auto":
            mode = "live" if self._reporter is not None and self._reporter.isatty else "lines"
        self._mode = mode if self._reporter is not None else "off"
        if self._reporter is not None:
            take_any_text(self._reporter._tw._file)
        self._last = time.monotonic()
        self._shown = 0

    def __call__(self, case: Case, progress: Progress) -> None:
        """Show where a case stands."""
        if self._mode == "live":
            self._overwrite(describe(case, progress))
        elif self._mode == "lines" and time.monotonic() - self._last >= _LINE_SECONDS:
            self._last = time.monotonic()
            self._emit(f"\n{describe(case, progress)}\n")

    def clear(self) -> None:
        """Remove a live line, and start the clock of the next case."""
        self._last = time.monotonic()
        if self._shown:
            self._overwrite("")

    def _overwrite(self, text: str) -> None:
        """Write behind what pytest has on its line, and step back to where pytest goes on."""
        assert self._reporter is not None
        writer = self._reporter._tw
        room = writer.fullwidth - writer.width_of_current_line - 2
        text = f" {text}"[: max(0, room)] if text else ""
        width = max(len(text), self._shown)
        self._emit(text.ljust(width) + "\b" * width)
        self._shown = len(text)

    def _emit(self, text: str) -> None:
        if self._capture is None:
            self._print(text)
            return
        with self._capture.global_and_fixture_disabled():
            self._print(text)

    def _print(self, text: str) -> None:
        # Past pytest's writer, which would count these characters as part of its own line.
        assert self._reporter is not None
        stream = self._reporter._tw._file
        stream.write(encodable(text, getattr(stream, "encoding", None)))
        stream.flush()


def take_any_text(stream: object) -> None:
    """Let a stream write escapes for characters that its encoding lacks, instead of failing."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None and getattr(stream, "errors", "") == "strict":
        reconfigure(errors="backslashreplace")


def describe(case: Case, progress: Progress) -> str:
    """One line: the case, its phase, and the newest score."""
    where = f"{line(case.name)} {case.task} seed {case.seed}: "
    if progress.phase == "load":
        return where + "loading"
    if progress.phase == "loaded":
        return where + "loaded"
    if progress.phase == "wait":
        return where + "waiting for another process that extracts the same features"
    if progress.phase == "search":
        return where + f"grid {progress.step + 1}/{progress.steps}"
    if progress.phase in ("extract", "fit"):
        return where + f"{progress.phase} {progress.step}/{progress.steps}"
    text = f"{where}epoch {progress.epoch + 1}/{progress.epochs}"
    if progress.phase == "train":
        text += f" step {progress.step}/{progress.steps}"
    if progress.phase == "evaluate":
        text += " evaluating"
    score = progress.metrics.get(case.metric)
    if score is not None:
        text += f" {case.metric} {score:.4f}"
    return text
