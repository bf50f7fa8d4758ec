"""Bounded rounds of ``python -m benchmarks.fuzz``, and a check that it would tell."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks import fuzz


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(fuzz.TRIALS))
def test_nothing_but_a_bob_error_escapes(kind: str) -> None:
    outcome = fuzz.fuzz([kind], iter(range(60)), lambda: False)
    assert not outcome.escapes, "\n".join(outcome.escapes.values())
    assert outcome.tried[kind] == 60
    assert outcome.ended[kind, "read"], "no input was sound enough to be read"


def test_an_escape_is_told_with_its_seed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(chance: random.Random, folder: Path) -> str:
        return str(1 // (chance.random() < 2 and 0))

    monkeypatch.setitem(fuzz.TRIALS, "catalog", broken)
    assert fuzz.main(["--minutes", "0.001", "--only", "catalog", "--seed", "7"]) == 1
    printed = capsys.readouterr().out
    assert "ESCAPED catalog: ZeroDivisionError at test_fuzz.py:" in printed
    assert "seed 7" in printed
