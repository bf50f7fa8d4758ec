"""What ``bob export`` writes comes back through ``bob import``, to the last digit."""

from __future__ import annotations

import math
import struct
from dataclasses import astuple, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bob.case import ImageList
from bob.catalog import Catalog
from bob.cli import main
from bob.errors import BobError
from bob.exchange.bundle import Bundle, bundle_of, read_bundle, write_bundle
from bob.exchange.checks import key_of
from bob.ledger import Ledger, Score
from bob.ledger.units import Units
from tests.board_parts import made_up
from tests.test_compare_command import ledger, ran, right

__all__ = ["ledger"]
MEASURED = Path(__file__).parents[1] / "bob" / "references" / "measured"
ODD = "模型 é/ñ@a,b|c"
TABLES = ("scores.parquet", "outcomes.parquet")


@pytest.fixture
def run(ledger: Ledger, catalog: Catalog) -> Ledger:
    """Three backbones of several seeds, one of an odd name with metrics that are no numbers."""
    good, bad = right(597, 0.9), right(597, 0.7, 1)
    ran(ledger, catalog, "first", 1, a=("knn", [good]), b=("knn", [bad]))
    ran(ledger, catalog, "first", 1, c=("finetune", [right(597, 0.8, n) for n in range(3)]))
    (recorded,) = [entry for entry in ledger.entries() if entry.result.case.backbone.key == "b"]
    backbone = recorded.result.case.backbone.model_copy(update={"key": ODD})
    metrics = {**recorded.result.metrics, "test_loss": math.inf, "odd": math.nan, "low": -math.inf}
    result = replace(
        recorded.result, case=replace(recorded.result.case, backbone=backbone), metrics=metrics,
        run_key="another",
    )  # fmt: skip
    ledger.write(replace(recorded, entry=recorded.entry.replace("-b-", "-odd-"), result=result))
    return ledger


def exactly(bundle: Bundle) -> tuple[object, ...]:
    rows = [
        tuple(
            struct.pack("<d", value) if isinstance(value, float) else value
            for value in astuple(row)
        )
        for row in bundle.scores
    ]
    units = {
        run: (found.of, found.lists, found.values.tobytes()) for run, found in bundle.units.items()
    }
    return rows, units


def test_export_import_export_is_the_identity(
    run: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = ["--from", "ledger", "--from", "references", "--references", str(MEASURED)]
    assert main(["export", *sources, "-o", "one"]) == 0
    assert main(["import", "one", "--as", "theirs"]) == 0
    assert main(["export", "--from", "imported:theirs", "-o", "two"]) == 0
    assert main(["export", "--from", "one", "-o", "three"]) == 0
    first = read_bundle(tmp_path / "one")
    names = {row.backbone for row in first.scores}
    assert {"a", "b", "c", ODD, "swin_micro_glyphs"} <= names
    odd = {row.metric: row.value for row in first.scores if row.backbone == ODD}
    assert math.isnan(odd["odd"])
    assert (odd["low"], odd["test_loss"]) == (-math.inf, math.inf)
    assert {row.seed for row in first.scores if row.backbone == "c"} == {0, 1, 2}
    assert {run[3] for run in first.units} == {"check", "reference"}
    for name in ("two", "three", "mlruns/imported/theirs"):
        for file in TABLES:
            assert (tmp_path / name / file).read_bytes() == (tmp_path / "one" / file).read_bytes()
    assert "outcomes of" in capsys.readouterr().err


def test_any_bundle_comes_back_as_it_was(tmp_path: Path) -> None:
    rows = [
        replace(
            row, session=session, value=value, unit="" if value != value else "real",
            higher_is_better=None if value != value else index % 2 == 0, is_score=False,
            metric=f"m{index}", task="ein anderer", seeded=(None, True, False)[index % 3], time="",
        )
        for session in ("", "ß", "b\u0000c")
        for index, (row, value) in enumerate(
            zip(made_up(3, 2), (math.nan, math.inf, -0.0, 5e-324, 1 / 3, -1e308), strict=True)
        )
    ]  # fmt: skip
    runs = sorted({row.run for row in rows})
    units = {
        run: Units(
            values=np.random.default_rng(n).random(n * 20_000 + 1), of=f"query d {n}",
            lists=() if n % 3 == 0 else (
                ImageList(count=n * 15_000, digest=f"{n}", share=1 / 3, step=4),
                ImageList(count=n * 2_500, digest="same", share=1 / 3 + 2e-16),
                ImageList(count=n * 2_500 + 1, digest="same", share=1 / 3 + 2e-16),
            ),
        )
        for n, run in enumerate(runs)
    }  # fmt: skip
    units["nobody", "x", "check"] = units[runs[0]]
    bundle = bundle_of([*rows, *rows], units)
    assert len(bundle.scores) == len(rows)
    assert len(bundle.units) == len(runs)
    assert write_bundle(tmp_path, bundle) == TABLES
    assert exactly(read_bundle(tmp_path)) == exactly(bundle)
    assert list(bundle.scores) == sorted(bundle.scores, key=key_of)


def test_columns_are_typed_and_the_file_says_what_it_is(run: Ledger, tmp_path: Path) -> None:
    assert main(["export", "-o", "out"]) == 0
    schema = pq.read_schema(tmp_path / "out" / "scores.parquet")
    assert schema.names == list(Score.__dataclass_fields__)
    kinds = {name: str(schema.field(name).type) for name in ("value", "seed", "seeded", "task")}
    assert kinds == {"value": "double", "seed": "int64", "seeded": "bool", "task": "string"}
    assert schema.metadata[b"bob.schema"] == b"1"
    assert schema.metadata[b"bob.version"]
    outcomes = pq.read_table(tmp_path / "out" / "outcomes.parquet")
    assert outcomes.num_rows == 597 * 6
    assert outcomes.slice(0, 1).to_pylist()[0].keys() >= {"backbone", "run", "kind", "index"}


def test_every_command_tells_the_same_of_an_import(
    run: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "-o", "out"]) == 0
    assert main(["import", "out"]) == 0
    capsys.readouterr()
    for words in (
        ["compare", "a", "b"], ["compare", "a", "b", "--json"], ["report", "-o", "-"],
        ["report", "a", "b", "-o", "-", "-k", "knn"], ["profile"],
    ):  # fmt: skip
        told = []
        for source in ("ledger", "imported:out", "out", "mlruns/imported/out", "mlruns/ledger"):
            status = main([*words, "--from", source])
            told.append((status, capsys.readouterr().out))
        assert told[0][1]
        assert told[1:] == told[:1] * 4, words
    assert main(["compare", "a@ledger", "a@imported:out"]) == 0
    assert "1 identical" in capsys.readouterr().out
    assert main(["compare", "ledger", "out"]) == 0
    assert main(["profile", "--from", "out", "--session", "nobody"]) == 2
    assert "no score of scale 'smoke' in out" in capsys.readouterr().err


def test_names_and_words_choose(run: Ledger, tmp_path: Path) -> None:
    assert main(["export", "a", "b", "-k", "knn", "--no-outcomes", "-o", "some"]) == 0
    some = read_bundle(tmp_path / "some")
    assert {(row.backbone, row.task) for row in some.scores} == {("a", "knn"), ("b", "knn")}
    assert not (tmp_path / "some" / "outcomes.parquet").exists()


def test_an_import_is_not_overwritten(
    run: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "-o", "one"]) == 0
    assert main(["export", "a", "-o", "two"]) == 0
    assert main(["import", "one", "--as", "x"]) == 0
    assert main(["import", "one/scores.parquet", "--as", "x"]) == 0
    assert "imported:x: was there already: " in capsys.readouterr().err
    before = (tmp_path / "mlruns/imported/x/scores.parquet").read_bytes()
    assert main(["import", "two", "--as", "x"]) == 2
    assert "holds another import" in capsys.readouterr().err
    assert (tmp_path / "mlruns/imported/x/scores.parquet").read_bytes() == before
    assert [path.name for path in (tmp_path / "mlruns/imported").iterdir()] == ["x"]


def test_an_export_that_fails_leaves_nothing(
    run: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    before = sorted(path.name for path in tmp_path.iterdir())
    with monkeypatch.context() as patched:
        patched.setattr("bob.exchange.croissant.croissant", full)
        assert main(["export", "-o", "out"]) == 2
    assert "Cannot write out (No space left on device)" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    (tmp_path / "out").mkdir()
    assert main(["export", "-o", "out"]) == 0
    assert (tmp_path / "out" / "croissant.json").is_file()


texts = st.text(max_size=8)
names = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8
).filter(str.strip)
scores = st.builds(
    Score,
    backbone=names, family=texts, pretraining=texts, task=names.map("{} of others".format),
    dataset=names, variant=texts, scale=names, seed=st.integers(0, 2**63 - 1), metric=names,
    value=st.floats(), test_size=st.integers(0, 2**63 - 1), seeded=st.none() | st.booleans(),
    protocol=texts, case=texts, run_key=texts, role=st.sampled_from(["check", "reference"]),
    version=texts, weights=texts, data=texts, environment=texts, seconds=st.floats(0, 1e300),
    device=texts, gpu_hours=st.floats(0, 1e300), session=texts, mlflow_run=texts,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(scores, min_size=1, max_size=6, unique_by=key_of))
def test_any_text_and_number_comes_back(rows: list[Score]) -> None:
    units = {row.run: Units(values=np.array([0.25, 1.0]), of=f"query {row.data}") for row in rows}
    bundle = bundle_of(rows, units)
    with TemporaryDirectory() as folder:
        write_bundle(Path(folder), bundle)
        assert exactly(read_bundle(Path(folder))) == exactly(bundle)


def test_what_is_no_text_in_utf_8_is_told(tmp_path: Path) -> None:
    (row, *_) = made_up(1, 1)
    with pytest.raises(BobError, match="column backbone holds what Parquet cannot"):
        write_bundle(tmp_path, bundle_of([replace(row, backbone="a\udc80")], {}))


def test_what_the_commands_refuse(
    run: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "-o", "out"]) == 0
    assert main(["import", "out", "--as", "theirs"]) == 0
    capsys.readouterr()
    (tmp_path / "text.txt").write_text("x")
    for words, told in (
        (["export", "-o", "out"], "out is not an empty folder"),
        (["export", "-o", "text.txt"], "text.txt is not an empty folder"),
        (["export", "-o", "text.txt/x"], "Cannot write text.txt/x"),
        (["export", "aa", "-o", "x"], "Unknown measured backbone 'aa'"),
        (["export", "--scale", "full", "-o", "x"], "There is no score of scale 'full'"),
        (["export", "--from", "imported:their", "-o", "x"], "Did you mean 'theirs'?"),
        (["export", "--from", "imported:../theirs", "-o", "x"], "is no name of an import"),
        (["export", "--from", "importd:x", "-o", "x"], "Did you mean 'imported:'?"),
        (["report", "--from", "imported:", "-o", "-"], "'' is no name of an import"),
        (["import", "outt"], "Did you mean 'out'?"),
        (["import", "mlruns/ledger"], "is no export"),
        (["import", "text.txt"], "neither a folder of `bob export` nor a file .csv or .jsonl"),
        (["import", "out", "--as", "../x"], "'../x' is no name of an import"),
        (["import", "out", "--as", ".x"], "such as 'x'"),
        (["import", "out", "--as", "a b"], "is no name of an import"),
    ):
        assert main(words) == 2, words
        assert told in capsys.readouterr().err, words
    assert not (tmp_path / "x").exists()
    for words in (
        ["export"], ["profile", "--from", "legder"], ["export", "-o", "x", "--benchmark", "knn"],
        ["export", "-o", "x", "--format", "tabels"],
    ):  # fmt: skip
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
    assert "Did you mean 'ledger'" in capsys.readouterr().err
