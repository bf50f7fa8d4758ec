"""How long collecting a large catalog takes, beside collecting as many empty tests.

python -m benchmarks.collection --cases 3000
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import SUITE

PLAIN = """
import pytest

@pytest.mark.parametrize("case", range({cases}), ids=lambda i: f"backbone_{{i:05d}}-digits")
def test_plain(case):
    pass
"""


def seconds(folder: Path, *arguments: str) -> float:
    """Wall time of a whole ``pytest --collect-only``."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-qq", "--rootdir", str(folder),
         "-p", "no:cacheprovider", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return time.perf_counter() - start


def main() -> int:
    """Command line."""
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("--cases", type=int, default=3000)
    command.add_argument("--turns", type=int, default=3)
    args = command.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\nmarkers = finetune\n")
        entries = "".join(
            f"  backbone_{i:05d}: {{family: f{i % 40}, source: 'timm:model_{i}', "
            f"arguments: {{pretrained: false}}, scales: [smoke]}}\n"
            for i in range(args.cases - 8)
        )
        (folder / "many.yaml").write_text("backbones:\n" + entries)
        (folder / "test_suite.py").write_text(SUITE)
        (folder / "test_plain.py").write_text(PLAIN.format(cases=args.cases))
        pairs = [
            (
                seconds(folder, "test_suite.py", "--catalog", "many.yaml"),
                seconds(folder, "test_plain.py"),
            )
            for _ in range(args.turns)
        ]
    suite, plain = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"collecting {args.cases} cases: {suite:.2f} s; as many empty tests: {plain:.2f} s; "
        f"ratio {statistics.median(a / b for a, b in pairs):.2f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
