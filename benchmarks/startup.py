"""Time to the first result: a whole pytest process of one short case beside the imports it needs.

Both are whole processes and take turns; the case's features and every compiled module are there
already. The ratio is taken pair by pair, and the bound is 1.3 beyond the case's own work. Then the
same run is taken apart: by what pytest does, and by the packages that are imported::

    python -m benchmarks.startup

Packages import one another; each module counts for the nearest package of the list that asked for
it, so that pandas is MLflow's and SymPy is torch's. Being watched makes imports a little slower.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

IMPORTS = ("-c", "import torch, timm, mlflow")
CASE = ("-m", "pytest", "suites", "-k", "swin_micro_glyphs and knn")
PACKAGES = ("torch", "torchvision", "timm", "torchmetrics", "lightning_fabric", "mlflow",
            "sqlalchemy", "matplotlib", "scipy", "_pytest", "hypothesis", "bob")  # fmt: skip
BOUND = 1.3
_MARKS = "BOB_STARTUP_MARKS"


@dataclass(frozen=True)
class Run:
    """A process that ended: wall and processor time in seconds, and what it wrote to stderr."""

    wall: float
    processor: float
    stderr: str


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> Run:
    """Run Python with these arguments to its end."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        env=dict(environment), capture_output=True, text=True, check=False,
    )  # fmt: skip
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(wall, processor, done.stderr)


def imports_by_package(report: str) -> dict[str, float]:
    """Seconds by package, from what ``python -X importtime`` writes."""
    seconds: Counter[str] = Counter()
    owners: list[str] = []
    # Inner imports stand above the one that asked for them: read from below, outer ones come first.
    for line in reversed(report.splitlines()):
        _, found, columns = line.partition("import time:")
        own, _, indented = columns.replace("|", " | ").partition(" | ")
        if not found or not own.strip().isdigit():
            continue
        name = indented.rpartition(" | ")[2]
        depth = (len(name) - len(name.lstrip())) // 2
        package = name.strip().split(".", 1)[0]
        outer = owners[depth - 1] if 0 < depth <= len(owners) else "others"
        owner = package if package in PACKAGES else outer
        owners[depth:] = [owner]
        seconds[owner] += int(own) / 1e6
    return dict(seconds.most_common())


class Marks:
    """When a pytest session passes from one part to the next, written down at its end."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.times: dict[str, float] = {}
        self.work = 0.0

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Options and plugins have been read."""
        self.times["pytest and its plugins"] = time.time()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> None:
        """Tests are collected."""
        self.times["collection"] = time.time()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        """The store is open; the case runs."""
        self.times["MLflow and its store"] = time.time()
        yield
        self.times["case: imports, pictures, record"] = time.time()

    def pytest_bob_evaluated(self, evaluation: Any) -> None:
        """What ``run_case`` took behind its imports."""
        self.work += sum(result.timings["total"] for result in evaluation.results)

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Everything is reported."""
        self.times["summary"] = time.time()
        self.file.write_text(json.dumps({"times": self.times, "work": self.work}))


def pytest_configure(config: pytest.Config) -> None:
    """Hold on to the times; this module is a plugin of the runs it takes apart."""
    if _MARKS in os.environ:
        config.pluginmanager.register(Marks(Path(os.environ[_MARKS])))


def parts(arguments: Sequence[str], environment: Mapping[str, str], file: Path) -> dict[str, float]:
    """Seconds of each part of one pytest process, in order."""
    start = time.time()
    wall = run([*arguments, "-p", "benchmarks.startup"], {**environment, _MARKS: str(file)}).wall
    record = json.loads(file.read_text())
    found, last = {}, start
    for name, moment in record["times"].items():
        found[name], last = moment - last, moment
    found["case: imports, pictures, record"] -= record["work"]
    found["case: its work"] = record["work"]
    found["end of the process"] = start + wall - last
    return found


def main() -> int:
    """Command line."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--turns", type=int, default=7)
    args = command.parse_args()
    # compiled modules are kept, as they are for every user who does not say otherwise
    environment = {key: value for key, value in os.environ.items()
                   if key not in ("PYTHONDONTWRITEBYTECODE", "MLFLOW_TRACKING_URI")}  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        store = f"sqlite:///{name}/mlflow.db"
        case = (*CASE, "-p", "no:cacheprovider", "--tracking-uri", store)
        for arguments in (IMPORTS, case):
            run(arguments, environment)
        pairs, split = [], []
        for _ in range(args.turns):
            pairs.append((run(IMPORTS, environment), run(case, environment)))
            split.append(parts(case, environment, Path(name) / "marks.json"))
        watched = [run(["-X", "importtime", *case, "-s"], environment) for _ in range(3)]
    medians = {part: statistics.median(turn[part] for turn in split) for part in split[0]}
    work = medians["case: its work"]

    print(f"{args.turns} turns, load average {os.getloadavg()[0]:.1f}")
    for title, column in ((f"python {' '.join(IMPORTS)}", 0), (f"python {' '.join(CASE)}", 1)):
        wall = statistics.median(pair[column].wall for pair in pairs)
        processor = statistics.median(pair[column].processor for pair in pairs)
        print(f"{wall:6.2f} s, processor {processor:.2f} s: {title}")
    whole = statistics.median(case.wall / imports.wall for imports, case in pairs)
    least = statistics.median((case.wall - work) / imports.wall for imports, case in pairs)
    print(f"ratio {whole:.2f}; without the case's work {least:.2f}, bound {BOUND}")
    print("\nparts, seconds:")
    for part, seconds in medians.items():
        print(f"{seconds:6.2f}  {part}")
    print("\nimports among them, seconds:")
    tables = [imports_by_package(done.stderr) for done in watched]
    by_package = {package: statistics.median(table.get(package, 0.0) for table in tables)
                  for package in tables[0]}  # fmt: skip
    for package, seconds in sorted(by_package.items(), key=lambda item: -item[1]):
        print(f"{seconds:6.2f}  {package}")
    return int(least > BOUND)


if __name__ == "__main__":
    sys.exit(main())
