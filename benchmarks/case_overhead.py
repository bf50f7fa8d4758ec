"""What pytest and MLflow cost per case beyond ``run_case``, plots included.

Runs a suite of quick cases through pytest with a real SQLite store and subtracts, case by case, the
time ``run_case`` itself took. Imports and the first creation of the schema happen once a session
and are printed apart::

    python -m benchmarks.case_overhead
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from bob.case import Result
from tests.conftest import SUITE, TINY


class Clock:
    """Times each test from outside and takes ``run_case``'s own time off."""

    def __init__(self) -> None:
        self.cases: list[float] = []
        self.inside = 0.0
        self.started = time.perf_counter()
        self.first: float | None = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        """Around set-up, call, tear-down and reports of one test."""
        start = time.perf_counter()
        if self.first is None:
            self.first = start - self.started
        self.inside = 0.0
        outcome = yield
        self.cases.append(time.perf_counter() - start - self.inside)
        return outcome

    def pytest_bob_evaluated(self, evaluation: Any) -> None:
        """Add up what ``run_case`` took for each seed."""
        results: tuple[Result, ...] = evaluation.results
        self.inside += sum(result.timings["total"] for result in results)


def main() -> int:
    """Command line."""
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("--cases", type=int, default=12)
    args = command.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tiny.yaml").write_text(TINY)
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "test_suite.py").write_text(SUITE)
        backbones = []
        for index in range(args.cases):
            backbones += ["--backbone", f"pixels_fine,name=pixels_{index:02d}"]
        clock = Clock()
        status = pytest.main(
            [
                "-q", "--rootdir", name, "--scale", "tiny", f"--catalog={name}/tiny.yaml",
                "--tracking-uri", f"sqlite:///{name}/mlflow.db", "-p", "no:cacheprovider",
                "--progress", "off", "-W", "ignore", str(folder / "test_suite.py"), *backbones,
            ],
            plugins=[clock],
        )  # fmt: skip
    first, rest = clock.cases[0], clock.cases[1:]
    print(f"once a session, before the first case: {clock.first:.2f} s")
    print(f"first case, with the imports it brings: {first:.2f} s beyond run_case")
    print(
        f"each further case: {statistics.median(rest):.3f} s beyond run_case "
        f"(median of {len(rest)}; {min(rest):.3f} to {max(rest):.3f})"
    )
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
