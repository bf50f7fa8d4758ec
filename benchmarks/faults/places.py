"""Root folder, reference files, feature store and secrets: what a session may touch, and tell."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.faults.project import PATIENCE_SECONDS, Project, ended
from benchmarks.faults.tally import Tally
from bob.case import Case, Result
from bob.options.declaration import OPTIONS
from bob.plan import Plan, Selection

_WRITERS = 4
_FOREIGN = "not of the suite"
_SECRET = "s3cr3t-w0rd"  # not a secret of anybody


def roots(folder: Path, tries: int, draw: random.Random) -> Tally:
    """Every option with a value: the path of a folder outside, behind a space and behind a sign.

    pytest may refuse it, or read the project's ini file; anything else is wrong.
    """
    del tries, draw
    tally = Tally("root folder")
    project = Project(folder / "project")
    outside = folder / "outside"
    outside.mkdir()
    (outside / "test_other.py").write_text("def test_other(): pass\n")
    for option in OPTIONS:
        if option.kind == "bool":
            continue
        for words in ([option.flag, str(outside)], [f"{option.flag}={outside}"]):
            done = ended(project.start("--collect-only", "-q", *words), PATIENCE_SECONDS)
            tally.tries += 1
            refused = done.returncode == pytest.ExitCode.USAGE_ERROR
            own = "scale faults" in done.stdout and "test_other" not in done.stdout
            if not (refused or own):
                tally.bad(f"{' '.join(words)}: status {done.returncode}: {done.stdout[-200:]}")
            if "Traceback" in done.stdout:
                tally.bad(f"{' '.join(words)}: a traceback")
    return tally


def references(folder: Path, tries: int, draw: random.Random) -> Tally:
    """Processes with temporary folders of their own write one reference file at the same time."""
    del draw
    tally = Tally("references")
    for number in range(tries):
        place = folder / f"references-{number}"
        writers = []
        for writer in range(_WRITERS):
            temporary = folder / f"temporary-{number}-{writer}"
            temporary.mkdir()
            writers.append(
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.faults.places", str(place), str(writer)],
                    env={**os.environ, "TMPDIR": str(temporary)},
                )
            )
        for process in writers:
            if process.wait(PATIENCE_SECONDS):
                tally.bad(f"try {number}: a writer ended with {process.returncode}")
        tally.tries += 1
        (path,) = (place / "smoke").glob("*.json")
        kept = len(json.loads(path.read_text())["settings"])
        tally.lost += len(_cases()) - kept
        left = [found.name for found in path.parent.iterdir() if found != path]
        if left:
            tally.bad(f"try {number}: left behind: {left}")
    return tally


def _cases() -> list[Case]:
    from bob.catalog import load_catalog

    selection = Selection(backbones=("swin_micro_random",))
    return [case for case in Plan(load_catalog(), selection).all_cases() if not case.engine]


def write_share(place: Path, writer: int) -> None:
    """Write every so-manyth case's reference, of scores that are made up."""
    from bob.references.files import ReferenceStore

    store = ReferenceStore(place)
    for case in _cases()[writer::_WRITERS]:
        metrics = {judged.name: 0.5 for judged in case.judged}
        results = [
            Result(case=replace(case, seed=1000 + seed), metrics=metrics, weights_digest="w")
            for seed in range(3)
        ]
        store.write(case, results)


def features(folder: Path, tries: int, draw: random.Random) -> Tally:
    """A feature store in a folder that holds other things; cleaning and trimming leave these."""
    tally = Tally("feature store")
    for number in range(tries):
        place = folder / f"store-{number}"
        foreign = [
            place / "en" / "en_US" / "words.txt",
            place / "ab" / ("ab" + "0" * 38) / "mine.txt",
            place / "ab" / f"{draw.getrandbits(160):040x}" / "manifest.json",
            place / "notes.txt",
        ]
        for path in foreign:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_FOREIGN)
        project = Project(folder / f"project-{number}")
        words = ["--backbone=pixels_coarse", f"--features={place}", "--features-limit=1"]
        command = [sys.executable, "-m", "bob.cli", "features", "verify", "--remove"]
        done = ended(project.start(*words, seeds=1), PATIENCE_SECONDS)
        cleaned = subprocess.run(
            [*command, f"--features={place}"], capture_output=True, text=True, check=False
        )
        tally.tries += 1
        what = f"try {number}"
        if done.returncode == -9:
            tally.hung += 1
        if "Traceback" in done.stdout + cleaned.stdout + cleaned.stderr:
            tally.bad(f"{what}: a traceback: {cleaned.stderr[-300:]}")
        gone = [path for path in foreign if not path.exists() or path.read_text() != _FOREIGN]
        if gone:
            tally.bad(f"{what}: foreign files are gone or changed: {gone}", wrong=len(gone))
    return tally


def secrets(folder: Path, tries: int, draw: random.Random) -> Tally:
    """Passwords in tracking addresses and tokens in the environment, where the store is away."""
    del tries, draw
    tally = Tally("secrets")
    addresses = (
        f"http://user:{_SECRET}@127.0.0.1:9",
        f"http://user:{_SECRET}%40%2F@127.0.0.1:9",
        f"postgresql://user:{_SECRET}@127.0.0.1:9/runs",
        f"mysql+pymysql://user:{_SECRET}@127.0.0.1:9/runs",
        f"http://127.0.0.1:9?token={_SECRET}",
    )
    for number, address in enumerate(addresses):
        project = Project(folder / f"secret-{number}")
        junit = project.folder / "junit.xml"
        environment = {"MLFLOW_TRACKING_URI": address, "MLFLOW_TRACKING_TOKEN": _SECRET}
        for words in ([f"--tracking-uri={address}"], []):
            process = project.start(*words, f"--junitxml={junit}", environment=environment, seeds=1)
            done = ended(process, PATIENCE_SECONDS)
            tally.tries += 1
            tally.hung += done.returncode == -9
            written = "".join(
                path.read_text(encoding="utf-8", errors="replace")
                for path in project.folder.rglob("*")
                if path.is_file()
            )
            for where, text in (("the output", done.stdout), ("a file", written)):
                if _SECRET in text:
                    at = text.index(_SECRET)
                    tally.bad(f"{address}: told in {where}: ...{text[max(0, at - 100) : at + 20]}")
    return tally


if __name__ == "__main__":
    write_share(Path(sys.argv[1]), int(sys.argv[2]))
