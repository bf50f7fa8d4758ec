"""Tables that others published: what becomes of each column, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from bob.catalog import Catalog, load_catalog
from bob.cli import main
from bob.errors import BobError
from bob.exchange.bundle import read_bundle
from bob.exchange.published import read_csv
from bob.ledger import Ledger, Score
from bob.report.published import measured_first, published_remarks
from bob.report.sources import current
from tests.test_compare_command import ledger, ran, right

__all__ = ["ledger"]
TIMM = """\
model,top1,top1_err,top5,top5_err,param_count,img_size,crop_pct,interpolation
eva_giant_patch14_560.m30m_ft_in22k_in1k,89.786,10.214,98.992,1.008,"1,014.45",560,1.000,bicubic
convnext_base.fb_in22k_ft_in1k,86.274,13.726,98.092,1.908,88.59,288,1.000,bicubic
convnext_base.fb_in22k_ft_in1k,85.822,14.178,97.866,2.134,88.59,224,0.875,bicubic
"""
"""Rows of results-imagenet.csv of timm; the last one's setting is that of its older tables."""
SHIFTED = """\
model,top1,top1_err,top5,top5_err,param_count,img_size,cropt_pct,interpolation,top1_diff,top5_diff,\
rank_diff
eva02_large_patch14_448.mim_m38m_ft_in1k,87.107,12.893,96.280,3.720,305.08,448,1.000,bicubic,\
-11.623,-3.590,+5
"""
LONG = """\
backbone,pretraining,task,dataset,split,pooling,setting,metric,value,unit,seed,dataset_size,source
dinov2_vitb14,LVD-142M,knn,ImageNet-1k,val,cls,k 20,top1,82.1,percent,0,50000,a paper
dinov2_vitb14,LVD-142M,depth,nyu,test,cls,,rmse,0.41,metres,0,,a paper
ViT-B/16,DINO,retrieval,CUB-200-2011,,,,map,0.31,,,,a notebook
ViT-B/16,MAE,retrieval,CUB-200-2011,,,,map,0.11,proportion,,,a notebook
"""


@pytest.fixture(scope="module")
def everything() -> Catalog:
    return load_catalog()


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_of_timm(tmp_path: Path, everything: Catalog) -> None:
    taken = read_csv(written(tmp_path, "results-imagenet.csv", TIMM), everything)
    scores = taken.bundle.scores
    assert len(scores) == 6
    assert {row.backbone for row in scores} == {
        "timm:eva_giant_patch14_560.m30m_ft_in22k_in1k", "convnext_base_in21k_ft_in1k",
    }  # fmt: skip
    best = next(row for row in scores if row.value == 0.89786)
    assert (best.task, best.setting) == ("eval_released", "eval_released/imagenet_val_ood")
    assert (best.metric, best.is_score, best.unit, best.role) == (
        "top1", True, "proportion", "published",
    )  # fmt: skip
    assert (best.scale, best.time, best.test_size, best.seeded) == ("", "", 0, None)
    assert best.protocol == "published: 560px, crop_pct 1.000, bicubic"
    (counting,) = [
        row for row in measured_first(scores)
        if row.backbone.startswith("convnext") and row.is_score
    ]  # fmt: skip
    assert counting.value == 0.86274


def test_a_table_of_a_variant_is_set_apart(tmp_path: Path, everything: Catalog) -> None:
    taken = read_csv(written(tmp_path, "results-imagenet-a.csv", SHIFTED), everything)
    (top1, top5) = taken.bundle.scores
    assert {top1.metric, top5.metric} == {"shift/imagenet_a", "shift_top5/imagenet_a"}
    assert not any(row.is_score or row.unit for row in (top1, top5))
    assert sum(taken.apart.values()) == 2


def test_a_table_with_one_score_a_row(tmp_path: Path, everything: Catalog) -> None:
    taken = read_csv(written(tmp_path, "scores.csv", LONG), everything)
    by_metric = {(row.backbone, row.metric): row for row in taken.bundle.scores}
    knn = by_metric["dinov2_vitb14", "top1"]
    assert (knn.setting, knn.value, knn.test_size) == ("knn/imagenet", 0.821, 50_000)
    assert knn.protocol == "published: k 20, split val, pooling cls"
    assert knn.environment == "source=a paper"
    depth = by_metric["dinov2_vitb14", "rmse"]
    assert (depth.value, depth.unit, depth.is_score) == (0.41, "", False)
    assert list(taken.apart) == ["depth rmse is no metric that the suite judges"]
    assert by_metric["ViT-B/16 (DINO)", "map"].setting == "retrieval/cub200"
    assert by_metric["ViT-B/16 (MAE)", "map"].value == 0.11


PROTOCOLS = """\
backbone,task,dataset,setting,metric,value,dataset_size,source
a,knn,cub200,fine-tuned,top1,0.9,100,x
a,knn,cub200,frozen,top1,0.5,100,x
b,knn,cub200,frozen,top1,0.6,100,x
b,knn,cub200,"frozen, layer 3",top1,0.1,100,x
c,knn,cub200,fine-tuned,top1,0.8,100,x
c,knn,cub200,frozen,top1,0.4,100,x
d,knn,cub200,fine-tuned,top1,0.7,100,x
e,knn,cub200,fine-tuned,top1,0.6,100,x
"""


def test_of_several_protocols_the_one_of_most_backbones_counts(
    tmp_path: Path, everything: Catalog
) -> None:
    scores = read_csv(written(tmp_path, "scores.csv", PROTOCOLS), everything).bundle.scores
    counting = measured_first(scores)
    assert {row.backbone: row.value for row in counting} == {
        "a": 0.9, "b": 0.6, "c": 0.8, "d": 0.7, "e": 0.6,
    }  # fmt: skip
    # as many of either
    counting = measured_first(row for row in scores if row.backbone in "ac")
    assert {row.backbone: row.value for row in counting} == {"a": 0.5, "c": 0.4}
    assert list(published_remarks(scores, measured_first(scores))) == [
        "knn/cub200 top1: 5 scores are published by others and not measured here: 4 by "
        "'fine-tuned', 1 by 'frozen'; 3 of other protocols of the same backbones are not shown."
    ]


def test_a_board_tells_the_protocols_of_published_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "scores.csv", PROTOCOLS)
    assert main(["import", "scores.csv"]) == 0
    words = ["--from", "imported:scores", "--scale", "full"]
    assert main(["report", *words, "-o", "-", "-o", "b.csv", "-o", "b.html"]) == 0
    assert "4 by 'fine-tuned', 1 by 'frozen'; 3 of other" in capsys.readouterr().out
    table = (tmp_path / "b.csv").read_text(encoding="utf-8")
    assert ",published,published: fine-tuned," in table
    page = (tmp_path / "b.html").read_text(encoding="utf-8")
    assert "Published by others" in page
    assert "published: frozen" in page


@pytest.mark.parametrize(("mark", "word"), [(";", "semicolons"), ("\t", "tabs")])
def test_columns_parted_otherwise_are_named(
    tmp_path: Path, everything: Catalog, mark: str, word: str
) -> None:
    path = written(tmp_path, "scores.csv", PROTOCOLS.replace(",", mark))
    with pytest.raises(BobError, match=f"its columns are parted by {word}; save it with commas"):
        read_csv(path, everything)


def changed(old: str, new: str, text: str = TIMM) -> str:
    assert old in text
    return text.replace(old, new, 1)


WRONG = {
    "unknown column": ("results-imagenet.csv", changed("top5_err", "top5_er"),
                       "Unknown column 'top5_er'. Did you mean 'top5_err'"),
    "missing column": ("results-imagenet.csv", changed(",img_size", ",interpolation", changed(
        ",interpolation", ",crop_pct", changed("crop_pct,", "", TIMM))), "row 1: 9 cells for 8"),
    "no number": ("results-imagenet.csv", changed("86.274", "86,274"), "row 2: 10 cells for 9"),
    "words": ("results-imagenet.csv", changed("86.274", "n/a"),
              "row 2, column top1: 'n/a' is no number"),
    "infinite": ("results-imagenet.csv", changed("86.274", "inf"), "column top1: 'inf' is no"),
    "over 100": ("results-imagenet.csv", changed("86.274", "186.274"),
                 "row 2, column top1: 186.274 is no share of 100"),
    "sum": ("results-imagenet.csv", changed("13.726", "12.726"), "row 2, column top1_err"),
    "no name": ("results-imagenet.csv", changed("convnext_base.fb_in22k_ft_in1k", ""),
                "row 2, column model: it is empty"),
    "size": ("results-imagenet.csv", changed(",288,", ",-1,"), "row 2, column img_size: '-1'"),
    "contradiction": ("results-imagenet.csv", changed(",224,0.875", ",288,1.000"),
                      "row 3, column top1: row 2 is of the same run and metric and has 0.86274"),
    "labels": ("results-imagenet-real.csv", TIMM, "no dataset with ImageNet-ReaL's labels"),
    "table": ("results-imagnet.csv", TIMM, "Did you mean 'results-imagenet.csv'"),
    "empty": ("x.csv", "", "is empty"),
    "header alone": ("results-imagenet.csv", TIMM.splitlines()[0] + "\n", "holds no score"),
    "column of nobody": ("x.csv", changed(",source", ",sauce", LONG), "Unknown column 'sauce'"),
    "no task": ("x.csv", changed("task", "level", LONG), "column task: it is not there"),
    "percent": ("x.csv", changed(",percent", ",", LONG), "82.1 is no share of 1; give the column"),
    "unit": ("x.csv", changed(",percent", ",metres", LONG), "column unit: 'metres' is not the"),
    "seed": ("x.csv", changed("percent,0", "percent,a", LONG), "row 1, column seed: 'a' is no"),
    "nobody": ("x.csv", changed("dinov2_vitb14,", ",", LONG), "row 1, column backbone: it is"),
    "long": ("x.csv", changed("dinov2_vitb14", "x" * 10_001, LONG),
             "row 1, column backbone: it has 10,001 characters, and 10,000 are read"),
    "long number": ("x.csv", changed("82.1", "x" * 100_000, LONG), "xxxx' is no number"),
    "twice": ("x.csv", changed("source\n", "backbone\n", LONG), "column backbone: it is there 2"),
    "quote": ("x.csv", LONG + '"a', "cannot be read as CSV"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "text", "told"), WRONG.values(), ids=list(WRONG))
def test_a_wrong_table_is_refused(
    tmp_path: Path, name: str, text: str, told: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    written(tmp_path, name, text)
    assert main(["import", name]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"bob: {name}")
    assert told in error
    assert len(error) < 1000
    assert not (tmp_path / "mlruns").exists()


def test_bytes_that_are_no_text(tmp_path: Path, everything: Catalog) -> None:
    (tmp_path / "x.csv").write_bytes(LONG.encode() + b"\xff\n")
    with pytest.raises(Exception, match="no text in UTF-8"):
        read_csv(tmp_path / "x.csv", everything)


def test_published_scores_enter_no_board_unasked(
    ledger: Ledger, catalog: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(ledger, catalog, "first", 1, a=("knn", [right(597, 0.9)]), b=("knn", [right(597, 0.7)]))
    table = "backbone,task,dataset,metric,value\na,knn,digits,top1,0.99\nz,knn,digits,top1,0.95\n"
    written(tmp_path, "theirs.csv", table)
    assert main(["import", "theirs.csv"]) == 0
    assert main(["report", "-o", "-"]) == 0
    captured = capsys.readouterr()
    assert "imported:theirs: 2 rows of 2 backbones" in captured.err
    assert "| z |" not in captured.out
    assert main(["report", "-o", "-", "--from", "ledger", "--from", "imported:theirs"]) == 0
    asked = capsys.readouterr().out
    assert "| z |" in asked
    assert main(["profile", "--from", "imported:theirs"]) == 0
    assert "0.990" in capsys.readouterr().out
    # what was measured stands before what was published
    assert main(["compare", "a", "b", "--from", "ledger", "--from", "imported:theirs"]) == 1
    assert "0.99 " not in capsys.readouterr().out
    # and no published score passes for the same protocol
    assert main(["compare", "a@ledger", "a@imported:theirs"]) == 2
    assert "under different protocols" in capsys.readouterr().err


def test_all_seeds_of_a_published_score_count(tmp_path: Path, everything: Catalog) -> None:
    values = {"x": (0.5, 0.6, 0.61), "y": (0.55, 0.56, 0.54)}
    lines = [
        f"{key},knn,digits,top1,{value},{seed}"
        for key, row in values.items()
        for seed, value in enumerate(row)
    ]
    text = "\n".join(["backbone,task,dataset,metric,value,seed", *lines, ""])
    rows = current(read_csv(written(tmp_path, "seeds.csv", text), everything).bundle.scores)
    found = {key: sorted(row.value for row in rows if row.backbone == key) for key in values}
    assert found == {key: sorted(row) for key, row in values.items()}


def test_names_of_a_table_act_on_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "x.csv", "backbone,task,dataset,metric,value\n<b>|\x1b[2J,\x1b[1m,d,m,1\n")
    assert main(["import", "x.csv"]) == 0
    assert main(["export", "--from", "imported:x", "-o", "out"]) == 0
    assert "\x1b" not in capsys.readouterr().err
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "\x1b" not in card
    assert "<b>" not in card


def test_an_export_keeps_published_scores_of_no_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "results-imagenet.csv", TIMM)
    assert main(["import", "results-imagenet.csv", "--as", "timm"]) == 0
    for scale in ("smoke", "full"):
        assert main(["export", "--from", "imported:timm", "--scale", scale, "-o", scale]) == 0
        found = read_bundle(tmp_path / scale)
        assert {row.scale for row in found.scores} == {""}
        file = tmp_path / scale / "scores.parquet"
        theirs = tmp_path / "mlruns/imported/timm/scores.parquet"
        assert file.read_bytes() == theirs.read_bytes()


def test_a_published_score_never_replaces_a_measured_one() -> None:
    row = Score(
        backbone="a", task="knn", dataset="digits", scale="smoke", seed=0, metric="top1", value=0.5,
        unit="proportion", is_score=True, higher_is_better=True, protocol="p", time="2026-01-01",
    )  # fmt: skip
    from dataclasses import replace

    later = replace(
        row, role="published", value=0.99, protocol="published: 224px", time="2027-01-01"
    )
    assert current([later, row]) == [row]
    assert current([later]) == [later]
