"""A progress line that shows under pytest's capture."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bob.case import Case, Progress

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
        self._last = time.monotonic()
        self._shown = False

    def __call__(self, case: Case, progress: Progress) -> None:
        """Show where a case stands."""
        if self._mode == "off":
            return
        now = time.monotonic()
        if self._mode == "lines" and now - self._last < _LINE_SECONDS:
            return
        self._last = now
        self._write(describe(case, progress))

    def clear(self) -> None:
        """Remove a live line, and start the clock of the next case."""
        self._last = time.monotonic()
        if self._shown and self._mode == "live":
            self._emit("\r\x1b[2K")
        self._shown = False

    def _write(self, text: str) -> None:
        if self._mode == "live":
            assert self._reporter is not None
            width = self._reporter._tw.fullwidth - 1
            self._emit("\r\x1b[2K" + text[:width])
            self._shown = True
        else:
            self._emit(f"\n{text}\n")

    def _emit(self, text: str) -> None:
        if self._capture is None:
            self._print(text)
            return
        with self._capture.global_and_fixture_disabled():
            self._print(text)

    def _print(self, text: str) -> None:
        assert self._reporter is not None
        self._reporter.write(text, flush=True)


def describe(case: Case, progress: Progress) -> str:
    """One line: the case, its phase, and the newest score."""
    where = f"{case.name} {case.task} seed {case.seed}: "
    if progress.phase == "load":
        return where + "loading"
    text = f"{where}epoch {progress.epoch + 1}/{progress.epochs}"
    if progress.phase == "train":
        text += f" step {progress.step}/{progress.steps}"
    if progress.phase == "evaluate":
        text += " evaluating"
    score = progress.metrics.get(case.metric)
    if score is not None:
        text += f" {case.metric} {score:.4f}"
    return text
