"""Which published scores the package carries: the rules of ``scripts/published_references.py``."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from bob.references import published
from bob.references.published import published_scores
from tests.test_published import NAME, TIMM


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[1] / "scripts" / "published_references.py"
    spec = importlib.util.spec_from_file_location("published_references", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["published_references"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def row(**facts: str) -> dict[str, str]:
    return {
        "timm_name_or_checkpoint": NAME, "task": "classification", "dataset": "ImageNet-1k",
        "setting": "288px eval of released classifier weights, crop_pct 1.000, bicubic",
        "metric": "top1", "value": "81.244", "unit": "percent", "source_repo": TIMM,
        "source_path": "results/results-imagenet.csv", "source_commit": "a" * 40, **facts,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "kept"),
    [
        ({}, ("imagenet", "top1")),
        ({"dataset": "ImageNet-Sketch", "metric": "top5"}, ("imagenet_sketch", "top5")),
        (
            {"dataset": "ImageNet-1k-val (200-class subset of ImageNet-A)"},
            ("imagenet_a", "source_top1"),
        ),
        # another size, crop or filter than the checkpoint is tested at
        ({"setting": "224px eval of released classifier weights, crop_pct 0.950, bicubic"}, None),
        ({"setting": "288px eval of released classifier weights, crop_pct 0.950, bicubic"}, None),
        ({"setting": "288px eval of released classifier weights, crop_pct 1.000, bilinear"}, None),
        # another table, another dataset, another checkpoint
        ({"source_repo": "facebookresearch/ConvNeXt"}, None),
        ({"dataset": "ImageNet-ReaL"}, None),
        ({"timm_name_or_checkpoint": "convnext_base.fb_in22k"}, None),
        ({"timm_name_or_checkpoint": "torchhub:somebody/model"}, None),
        ({"setting": "288px fine-tuned"}, None),
    ],
)
def test_released_keeps_what_the_task_measures(
    script: ModuleType, facts: dict[str, str], kept: tuple[str, str] | None
) -> None:
    scores = list(script.released([row(**facts)], {NAME: "resnet50_a1_in1k"}))
    assert [(score.dataset, score.metric) for score in scores] == ([kept] if kept else [])
    for score in scores:
        assert score.checkpoint == f"timm:{NAME}"
        assert score.backbone == "resnet50_a1_in1k"
        assert score.image_size == 288
        assert score.value == pytest.approx(0.81244)


def test_neighbours_are_dinos_own(script: ModuleType) -> None:
    own = row(
        timm_name_or_checkpoint="vit_small_patch16_224.dino", task="knn", value="74.5",
        setting="frozen, weighted k-NN, T=0.07", source_repo="facebookresearch/dino",
    )  # fmt: skip
    strangers = [
        {**own, "setting": "vanilla 100ep 8-GPU reproduction run"},
        {**own, "source_repo": "bytedance/ibot", "setting": "frozen k-NN"},
        {**own, "timm_name_or_checkpoint": "vit_small_patch16_224.dino[100ep retrain]"},
    ]
    (score,) = script.neighbours([own, *strangers], {})
    assert (score.task, score.value, score.image_size) == ("knn", pytest.approx(0.745), 224)


def test_retrieval_leaves_out_other_normalisation_other_features_and_other_crops(
    script: ModuleType,
) -> None:
    def listed(key: str, checkpoint: str) -> dict[str, str]:
        return row(
            timm_name_or_checkpoint=checkpoint, task="retrieval", source_repo="a/b",
            setting=f"MRR (notebook table, row {key}, timm 0.6.12)",
        )  # fmt: skip

    def authors(key: str, **facts: str) -> dict[str, str]:
        return {
            "dataset": "CUB-200-2011", "metric": "MRR", "value": "0.604",
            "setting": f"frozen, no training; run_key={key}", **facts,
        }  # fmt: skip

    moco = "https://dl.fbaipublicfiles.com/moco-v3/vit-b-300ep/vit-b-300ep.pth.tar"
    vicreg = "torchhub:facebookresearch/vicreg:resnet50"
    notes = [
        {"key": "mocov3_vit_base", "timm_name": "", "note": f"NO timm checkpoint; {moco}"},
        {"key": "vicreg_resnet50", "timm_name": "",
         "note": "torch.hub facebookresearch/vicreg:main resnet50 = https://x.org/resnet50.pth"},
    ]  # fmt: skip
    keys = script._keys(notes)
    assert keys[moco] == "mocov3_vit_base"
    assert keys[vicreg] == "vicreg_resnet50"
    rows = [
        listed("timm-resnet50", NAME),
        listed("moco-vit_base_patch16_224", moco),
        listed("vicreg-resnet50", vicreg),
        listed("timm-vit_base_patch16_224_augreg_in1k", "vit_base_patch16_224.augreg_in1k"),
        listed("timm-swinv2_tiny_window8_256", "swinv2_tiny_window8_256.ms_in1k"),
    ]
    names = ["timm-resnet50", "moco-vit_base_patch16_224", "vicreg-resnet50",
             "timm-vit_base_patch16_224_augreg_in1k", "timm-swinv2_tiny_window8_256",
             "sscd-resnet50_im"]  # fmt: skip
    strange = [
        authors("timm-resnet50", metric="mAP(%)"),
        authors("timm-resnet50", dataset="all tasks"),
    ]
    scores = list(script.retrieval([*map(authors, names), *strange], rows, keys))
    assert [(score.checkpoint or score.backbone, score.image_size) for score in scores] == [
        (f"timm:{NAME}", 224),
        ("mocov3_vit_base", 224),
    ]
    assert {(score.dataset, score.metric) for score in scores} == {("cub200", "mrr_authors")}


def test_widths_follow_the_spread_where_enough_pairs_tell_it(script: ModuleType) -> None:
    rows = []
    for index in range(script.MIN_PAIRS):
        name = f"model{index}.tag"
        rows.append(row(timm_name_or_checkpoint=name, value="80.0"))
        facts = {"setting": "288px", "source_repo": "a/b", "value": f"{80 + 0.4 * (-1) ** index}"}
        rows.append(row(timm_name_or_checkpoint=name, **facts))
    rows.append(row(timm_name_or_checkpoint="model0.tag", setting="384px", source_repo="a/b"))
    rows.append(row(timm_name_or_checkpoint="model0.tag", setting="288px independent retrain",
                    source_repo="a/b", value="10"))  # fmt: skip
    pairs = script.spread(rows)
    assert len(pairs["imagenet", "top1"]) == script.MIN_PAIRS
    scores = list(script.released([row(), row(metric="top5")], {}))
    top1, top5 = script.widths(scores, pairs)
    assert top1[2:] == ("top1", "0.0040", "10", "0.00400", "spread")
    assert top5[2:] == ("top5", "0.0010", "0", "0.00000", "least")
    del pairs["imagenet", "top1"][0]
    assert script.widths(scores, pairs)[0][3:] == ("0.0010", "9", "0.00400", "least")


def test_the_script_writes_what_the_package_reads(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def write(name: str, rows: list[dict[str, str]]) -> None:
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)

    write("published_scores.csv", [row(), row(metric="top5", value="95.1"), row(task="detection",
          setting="")])  # fmt: skip
    write("bob_paper_scores.csv", [{"dataset": "", "metric": "", "value": "", "setting": ""}])
    write("backbones.csv", [{"key": "mine", "timm_name": NAME, "note": ""}])
    monkeypatch.setattr(script, "TARGET", tmp_path)
    script.main(tmp_path)
    assert "2 of 4 rows kept" in capsys.readouterr().out
    monkeypatch.setattr(published, "FOLDER", tmp_path)
    scores = published_scores.__wrapped__()
    assert [(score.metric, score.value, score.backbone) for score in scores] == [
        ("top1", 0.81244, "mine"),
        ("top5", 0.951, "mine"),
    ]
    write("published_scores.csv", [row(), row(value="70")])
    with pytest.raises(SystemExit, match="given twice"):
        script.main(tmp_path)
