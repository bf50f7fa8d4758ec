"""Every frozen protocol of every micro backbone through pytest: with an empty store, then warm.

Both sessions are whole processes, imports, MLflow and pictures included::

    python -m benchmarks.frozen_profile
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time

from benchmarks.common import parser

BOUNDS = {"empty store": 180.0, "warm store": 40.0}


def session(folder: str, match: str, accelerator: str, precision: str) -> tuple[float, str]:
    """Seconds of one session, and its last line."""
    start = time.perf_counter()
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "--pyargs", "suites", "-q",
            "-m", "features", "-k", match,
            f"--features={folder}/features", "--tracking-uri", f"sqlite:///{folder}/mlflow.db",
            "--accelerator", accelerator, "--precision", precision, "--progress", "off",
            "-p", "no:cacheprovider",
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    tail = [line for line in done.stdout.splitlines() if re.search(r"passed|failed|error", line)]
    return seconds, tail[-1] if tail else done.stdout[-500:] + done.stderr[-500:]


def main() -> int:
    """Command line; the exit status is 1 when a bound is broken or a case fails."""
    args = parser(__doc__).parse_args()
    broken = False
    with tempfile.TemporaryDirectory() as folder:
        for name, bound in BOUNDS.items():
            seconds, line = session(folder, args.match, args.accelerator, args.precision)
            broken |= seconds > bound or "failed" in line or "passed" not in line
            print(f"{name}: {seconds:.1f} s (at most {bound:.0f}); {line}", flush=True)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
