"""What is left of a selection: its hours, and the limit that they are held against."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bob.cli import main

NOTHING = ("--max-gpu-hours", "0")


def test_a_limit_counts_what_is_left(
    project: pytest.Pytester,
    own_store: tuple[str, str],
    tiny_catalog_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(project.path)
    project.runpytest(*own_store, "-k", "coarse").assert_outcomes(passed=1)
    resumed = project.runpytest(*own_store, *NOTHING, "--resume", "-k", "coarse")
    resumed.assert_outcomes(passed=1)
    resumed.stdout.fnmatch_lines(["1 of 1 result* reused."])
    for more in ((), ("--resume", "--seeds=2")):
        refused = project.runpytest(*own_store, *NOTHING, *more, "-k", "coarse")
        assert refused.ret == pytest.ExitCode.USAGE_ERROR
        refused.stderr.fnmatch_lines(["*more than --max-gpu-hours 0.*pixels_coarse*"])
    both = project.runpytest(*own_store, *NOTHING, "--resume")
    assert both.ret == pytest.ExitCode.USAGE_ERROR
    assert "coarse" not in both.stderr.str().partition("Largest")[2]

    check = ["check", "--catalog", str(tiny_catalog_file), "--scale=tiny", "--same-seed=off"]
    capsys.readouterr()
    assert main([*check, "-k", "coarse", *NOTHING]) == 0
    told = capsys.readouterr()
    assert "to run" not in told.out
    assert not told.err
    assert main([*check, *NOTHING]) == 1
    told = capsys.readouterr()
    assert re.search(r"^to run: 1 runs of 1 cases, about .+ \(.+ to .+\)$", told.out, re.MULTILINE)
    assert "more than --max-gpu-hours 0" in told.err
    assert main([*check, "--json", "--seeds=3"]) == 1
    coarse, fine = sorted(json.loads(capsys.readouterr().out), key=lambda case: case["name"])
    assert (coarse["to_run"], fine["to_run"]) == (2, 3)
    assert fine["gpu_hours"] > coarse["gpu_hours"] > 0


def test_what_only_a_store_has_takes_no_time(
    project: pytest.Pytester, own_store: tuple[str, str]
) -> None:
    words = (*own_store, "-k", "coarse")
    project.runpytest(*words).assert_outcomes(passed=1)
    ledger = project.path / "mlruns" / "ledger"
    ledger.rename(ledger.with_name("of-the-first-machine"))
    resumed = project.runpytest(*words, *NOTHING, "--resume")
    resumed.assert_outcomes(passed=1)
    resumed.stdout.fnmatch_lines(["1 of 1 result* reused."])
