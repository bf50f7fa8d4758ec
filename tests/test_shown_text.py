"""Text that comes from outside is shown without what acts, and cut where it is long."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bob.shown import BLOCK, block, elided, line, markdown_text, visible
from bob.tabular import aligned, markdown
from tests.store_parts import ledger_of, runs_of

LOUD_BACKBONE = """
def pooled_pixels(**arguments):
    raise RuntimeError("\\x1b[31mred\\x07 " + "long " * 5400 + "the end")
"""


@pytest.mark.slow
def test_a_long_message_with_escapes_is_cut_and_kept_whole_once(
    project: pytest.Pytester, own_store: tuple[str, str]
) -> None:
    project.makepyfile(loud_backbone=LOUD_BACKBONE)
    words = ["--backbone", "loud_backbone:pooled_pixels,name=lo|ud\x1b[32m", "-s", *own_store]
    result = project.runpytest_inprocess(*words, "--junitxml", "junit.xml")
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "characters are left out here; all of it: result.json of the run" in text
    assert len(text) < 40_000
    (entry,) = ledger_of(project).entries()
    assert entry.result.failure is not None
    assert len(entry.result.failure.message) > 27_000
    (run,) = runs_of(own_store[1])
    assert run.info.status == "FAILED"
    for value in (*run.data.tags.values(), run.info.run_name, *run.data.params.values()):
        assert "\x1b" not in value
        assert len(value) <= 500
    assert len((project.path / "junit.xml").read_text()) < 60_000
    (session,) = ledger_of(project).sessions()
    summary = ledger_of(project).summary(session)
    assert summary is not None
    assert "lo\\|ud\\\\x1b" in summary["table"]
    assert len(json.dumps(summary)) < 20_000


@pytest.mark.slow
def test_an_ascii_terminal_is_written_to(project: pytest.Pytester) -> None:
    project.makepyfile(loud_backbone="def pooled_pixels(**kw): raise RuntimeError('Δ 日本')")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    words = ["--backbone", "loud_backbone:pooled_pixels,name=Δ日本", "--backbone", "pixels_coarse"]
    found = subprocess.run(
        [sys.executable, "-m", "pytest", *words, "--progress", "lines"],
        cwd=project.path, env=environment, capture_output=True, check=False, timeout=300,
    )  # fmt: skip
    text = found.stdout.decode("ascii")
    assert "UnicodeEncodeError" not in text + found.stderr.decode("ascii")
    assert "INTERNALERROR" not in text
    assert found.returncode == 1
    assert "battle of the backbones" in text
    assert "\n\\u0394\\u65e5\\u672c " in text
    assert "1 failed, 1 passed" in text
    listed = subprocess.run(
        [sys.executable, "-m", "bob.cli", "list", "references"],
        cwd=project.path, env=environment, capture_output=True, check=False, timeout=300,
    )  # fmt: skip
    assert listed.returncode == 0, listed.stderr
    assert b"\\xb1" in listed.stdout


def test_text_is_shown_without_what_acts() -> None:
    assert visible("plain ünï 日本 😀") == "plain ünï 日本 😀"
    assert visible("a\x1b[31m\x07\x00\x9b\u202e\udcff") == "a\\x1b[31m\\x07\\x00\\x9b\\u202e\\udcff"
    assert line("a\r\nb\tc\u2028d") == "a b\\tc d"
    assert block("a\r\nb\tc\x1b") == "a\nb\tc\\x1b"
    assert elided("abcdefghij", 5) == "ab…ij"
    assert elided("abc", 3) == "abc"
    long = block("x" * 30_000, whole="there")
    assert len(long) < BLOCK + 100
    assert "[26,000 characters are left out here; all of it: there]" in long


def test_markdown_shows_cells_literally() -> None:
    assert markdown_text("a|b<i>`c`*d*[x](http://y)\n\x1b") == (
        "a\\|b&lt;i&gt;\\`c\\`\\*d\\*[x\\](http://y) \\\\x1b"
    )
    assert markdown_text("swin_micro_glyphs [0.9, 1.0]") == "swin_micro_glyphs [0.9, 1.0]"
    table = markdown([("a|b", "c"), ("d\ne", "f")])
    assert [row.count("|") - row.count("\\|") for row in table.splitlines()] == [3, 3, 3]
    assert aligned([("a\nb", "c\x1b")]) == ["a b  c\\x1b"]


@pytest.mark.parametrize("what", ["backbones", "datasets"])
def test_listed_tables_keep_their_columns(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bob.cli import main

    catalog = tmp_path / "loud.yaml"
    catalog.write_text(
        'backbones:\n  loud: {family: x, source: "timm:x", pretraining: "one|two\\nthree", '
        'scales: []}\ndatasets:\n  noisy: {loader: "a:b", sha256: null, classes: 2, test_size: 9, '
        'obtain: "from here\\n| or there", licence: "CC|BY"}\n'
    )
    command = ["list", what] if what == "backbones" else [what]
    assert main([*command, "--markdown", "--catalog", str(catalog)]) == 0
    table = capsys.readouterr().out.strip().splitlines()
    words = {"backbones": "| one\\|two three |", "datasets": "| from here \\| or there | CC\\|BY |"}
    assert any(words[what] in row for row in table)
    columns = {len(re.findall(r"(?<!\\)\|", row)) for row in table if row.startswith("|")}
    assert len(columns) == 1
    assert all(row.startswith("|") for row in table)


def test_the_command_writes_nothing_that_acts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bob.cli import main

    catalog = tmp_path / "loud.yaml"
    catalog.write_text(
        'backbones:\n  loud: {family: x, source: "timm:x", pretraining: "\\e[31mred", '
        'note: "\\e]0;title\\a", scales: []}\n'
    )
    assert main(["list", "backbones", "--catalog", str(catalog)]) == 0
    text = capsys.readouterr().out
    assert "loud" in text
    assert "\\x1b[31mred" in text
    assert "\x1b" not in text
    assert main(["profile", "--catalog", str(tmp_path / "no\x1b[31m.yaml")]) == 2
    assert "\x1b" not in capsys.readouterr().err
