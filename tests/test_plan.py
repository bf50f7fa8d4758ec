"""What ``bob plan`` tells: cases, what is there, and what they will cost."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bob.case import Case
from bob.catalog import BackboneEntry, Catalog, DatasetEntry
from bob.catalog.schema import Weights
from bob.cli import main
from bob.cost import DEFAULT_GPU, Speeds, describe, estimate, gpus, total
from bob.cost.calibration import Calibration, Heads, Network, calibration_path, kept_calibration
from bob.cost.cpu import estimate_on_cpu, total_on_cpu
from bob.cost.model import ROUGH, TRAIN, UNCERTAINTY
from bob.cost.present import Shelf, data_state, weights_state
from bob.cost.speed import ArchitectureFacts, activation_bytes
from bob.cost.table import Row, family_of, rows
from bob.cost.total import refusal
from bob.datasets import load_dataset
from bob.errors import BobError
from bob.plan import Plan, Selection
from bob.protocols.detection import DetectionRecipe
from bob.protocols.detection_frozen import FrozenDetectionRecipe
from bob.protocols.finetune import FinetuneRecipe
from bob.protocols.knn import KnnRecipe
from bob.protocols.linear_probe import ProbeRecipe
from bob.protocols.linear_probe_paper import PaperProbeRecipe

IMAGENET = DatasetEntry(
    key="photographs", loader="a:b", sha256=None, classes=1000, test_size=50_000,
    train_size=1_281_167,
)  # fmt: skip
VIT = BackboneEntry(key="vit", family="vit", source="timm:vit_base_patch16_224.mae")
HOUR = 3600


def case_of(recipe: Any, task: str = "finetune", **changes: Any) -> Case:
    return Case(backbone=VIT, task=task, dataset=IMAGENET, scale="full", recipe=recipe, **changes)


def measured(mode: str) -> list[Row]:
    return [one for one in rows() if one.mode == mode]


def vit_speed(gpu: str = DEFAULT_GPU) -> float:
    return next(
        one.images_per_second
        for one in measured("infer")
        if (one.gpu, one.architecture, one.image_size) == (gpu, "vit_base_patch16_224", 224)
    )


def test_every_row_of_the_table_is_given_back() -> None:
    for row in measured("infer"):
        facts = ArchitectureFacts(row.architecture, family_of(row.architecture), row.parameters_m)
        speed = Speeds(row.gpu).forward(facts, row.image_size)
        assert speed.images_per_second == row.images_per_second
        assert (speed.basis, speed.rough) == (row.architecture, False)


def test_rows_name_their_source() -> None:
    for row in rows():
        repository, path, commit = row.source.replace(" @ ", " ").split()
        assert "/" in repository
        assert path.endswith((".csv", ".md"))
        assert len(commit) == 40


def test_default_gpu_has_most_measurements() -> None:
    assert next(iter(gpus())) == DEFAULT_GPU


def test_an_update_is_four_forward_passes_within_the_stated_factor() -> None:
    forward = {
        (r.gpu, r.architecture, r.image_size): r.images_per_second for r in measured("infer")
    }
    ratios = [
        forward[row.gpu, row.architecture, row.image_size] / row.images_per_second
        for row in measured("train")
    ]
    assert len(ratios) == 40
    assert statistics.median(ratios) == pytest.approx(TRAIN, rel=0.05)
    assert max(max(one / TRAIN, TRAIN / one) for one in ratios) < UNCERTAINTY


def test_another_resolution_scales_with_pixels() -> None:
    """Every pair of resolutions that was measured, within the documented eleven per cent."""
    for row in measured("infer"):
        others = [
            one for one in measured("infer")
            if (one.gpu, one.architecture) == (row.gpu, row.architecture)
            and one.image_size != row.image_size
        ]  # fmt: skip
        for other in others:
            predicted = other.images_per_second * (other.image_size / row.image_size) ** 2
            assert predicted / row.images_per_second == pytest.approx(1, rel=0.115)
    vit = describe(VIT)
    assert vit is not None
    at_448 = Speeds("RTX 3090").forward(vit, 448)
    assert at_448.images_per_second == pytest.approx(vit_speed("RTX 3090") / 4)
    assert "at 224 px" in at_448.basis


def test_what_the_table_lacks_is_marked() -> None:
    lacking = ArchitectureFacts("swin_huge_unknown", "swin", 400.0)
    speed = Speeds().forward(lacking, 224)
    assert speed.rough
    assert speed.basis.startswith("nearest: swin_base")
    base = next(
        one
        for one in measured("infer")
        if (one.gpu, one.architecture) == (DEFAULT_GPU, "swin_base_patch4_window7_224")
    )
    assert base.images_per_second / 5 < speed.images_per_second < base.images_per_second / 2
    vit = describe(VIT)
    assert vit is not None
    elsewhere = Speeds("a100").forward(vit, 224)  # the table has Hiera only on this one
    assert elsewhere.rough
    assert elsewhere.images_per_second == pytest.approx(vit_speed(), rel=0.1)


def test_finetuning_costs_epochs_of_updates_and_scoring() -> None:
    one = estimate(case_of(FinetuneRecipe(epochs=100)), Speeds())
    images = 100 * (TRAIN * 1_281_167 + 50_000)
    assert one.hours == pytest.approx(images / vit_speed() / HOUR)
    assert not one.rough
    three = estimate(case_of(FinetuneRecipe(epochs=100)), Speeds(), runs=3)
    assert three.hours == pytest.approx(3 * images / vit_speed() / HOUR)


def test_frozen_protocols_share_their_pass() -> None:
    speeds = Speeds()
    cases = [case_of(KnnRecipe(), "knn"), case_of(ProbeRecipe(), "linear_probe")]
    each = [estimate(case, speeds) for case in cases]
    one_pass = (1_281_167 + 50_000) / vit_speed() / HOUR
    assert [one.hours for one in each] == pytest.approx([one_pass, one_pass])
    whole = total(each, speeds.gpu)
    assert whole.hours == pytest.approx(one_pass)
    assert (whole.low, whole.high) == pytest.approx((one_pass / 2, one_pass * 2))
    views = estimate(case_of(PaperProbeRecipe(epochs=90), "linear_probe_paper"), speeds)
    assert total([*each, views], speeds.gpu).hours == pytest.approx(
        one_pass + 90 * 1_281_167 / vit_speed() / HOUR
    )
    kept = estimate(cases[0], speeds, stored=frozenset({"train"}))
    assert kept.hours == pytest.approx(50_000 / vit_speed() / HOUR)


def test_random_weights_are_extracted_anew_for_each_seed(catalog: Catalog) -> None:
    frozen = case_of(KnnRecipe(), "knn")
    random = VIT.model_copy(update={"arguments": {"pretrained": False}})
    from dataclasses import replace

    once = estimate(frozen, Speeds(), runs=2).hours
    twice = estimate(replace(frozen, backbone=random), Speeds(), runs=2).hours
    assert once is not None
    assert twice == pytest.approx(2 * once)


def test_detection_follows_area_and_heads() -> None:
    small, large = (
        estimate(
            case_of(DetectionRecipe(augmentation="lsj", image_size=size), "detection"), Speeds()
        )
        for size in (512, 1024)
    )
    frozen = estimate(
        case_of(FrozenDetectionRecipe(augmentation="lsj", image_size=1024), "detection_frozen"),
        Speeds(),
    )
    assert small.hours
    assert large.hours
    assert frozen.hours
    assert large.hours == pytest.approx(4 * small.hours, rel=0.12)
    assert frozen.hours < large.hours
    assert frozen.memory_gib
    assert large.memory_gib
    assert frozen.memory_gib < large.memory_gib


def test_memory_of_a_published_training_fills_its_card() -> None:
    for row in measured("train"):
        facts = ArchitectureFacts(row.architecture, family_of(row.architecture), row.parameters_m)
        held = activation_bytes(facts, row.image_size) * row.batch_size
        assert held + 16e6 * row.parameters_m == pytest.approx(24 * 2**30)
    whole, half = (
        estimate(case_of(FinetuneRecipe(batch_size=size)), Speeds()).memory_gib
        for size in (1024, 512)
    )
    assert whole
    assert half
    assert half < whole < 2 * half


def test_unknown_costs_are_said_and_refuse_nothing() -> None:
    from dataclasses import replace

    unsized = IMAGENET.model_copy(update={"train_size": None})
    one = estimate(replace(case_of(KnnRecipe(), "knn"), dataset=unsized), Speeds())
    assert (one.hours, one.basis) == (None, "the dataset's sizes are not known")
    broken = VIT.model_copy(update={"source": "no_such_package:net"})
    other = estimate(replace(case_of(KnnRecipe(), "knn"), backbone=broken), Speeds())
    assert other.hours is None
    whole = total([one, other], DEFAULT_GPU)
    assert (whole.hours, whole.unknown) == (0, 2)
    assert not refusal([one, other], DEFAULT_GPU, 0.0)


def test_parameters_are_counted_without_weights_where_nothing_tells_them() -> None:
    import timm

    found = describe(VIT.model_copy(update={"source": "timm:vgg11.tv_in1k"}))
    assert found is not None
    whole = timm.create_model("vgg11", pretrained=False, num_classes=0)
    assert found.parameters_m * 1e6 == sum(one.numel() for one in whole.parameters())


def test_sizes_of_shipped_data(catalog: Catalog) -> None:
    for entry in catalog.datasets.values():
        if entry.needs:
            continue
        assert entry.train_size
        data: Any = load_dataset(entry)
        train = data.database if entry.kind == "retrieval" else data.train
        assert len(train) == entry.train_size
        if entry.kind == "shift":
            assert sum(len(one.split) for one in data.shifts) == entry.shift_size


def test_parameters_of_micro_backbones(catalog: Catalog) -> None:
    from bob.cost.meta import parameters_m

    for entry in catalog.backbones.values():
        if entry.source.startswith("bob.backbones.micro:"):
            counted = parameters_m(entry)
            assert counted is not None
            if entry.parameters_m is not None:
                assert entry.parameters_m == pytest.approx(counted, abs=0.001)


def test_smoke_costs_next_to_nothing(catalog: Catalog) -> None:
    cases = Plan(catalog, Selection()).all_cases()
    estimates = [estimate(case, Speeds("A100"), runs=case.reference_seeds) for case in cases]
    whole = total(estimates, "A100")
    assert whole.unknown == 0
    assert whole.hours > 0
    assert whole.high < 0.5
    assert not refusal(estimates, "A100", 0.5)


def test_presence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, catalog: Catalog) -> None:
    monkeypatch.setenv("BOB_DATA", str(tmp_path / "data"))
    coco = catalog.dataset("coco")
    for need in coco.needs:
        place = tmp_path / "data" / need.split("|")[0]
        assert data_state(coco) == f"no {tmp_path / 'data'}/{need.replace('|', ' or ')}"
        place.mkdir(parents=True)
    assert data_state(coco) == "there"
    assert data_state(catalog.dataset("digits")) == "there"
    assert weights_state(catalog.backbone("vit_micro_glyphs")) == "file"
    assert weights_state(catalog.backbone("vit_micro_random")) == "random"
    missing = catalog.backbone("vit_micro_glyphs").model_copy(
        update={"weights": Weights(file=str(tmp_path / "gone.safetensors"))}
    )
    assert weights_state(missing) == "missing"


def test_weights_in_the_hubs_cache(tmp_path: Path) -> None:
    """A fresh process, because the hub's library reads its folder once."""
    snapshot = tmp_path / "hub" / "models--timm--vit_base_patch16_224.mae" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"x")
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    code = (
        "from bob.cost.present import weights_state\n"
        "from bob.catalog import BackboneEntry\n"
        "for name in ('vit_base_patch16_224.mae', 'vit_base_patch16_224', 'resnet50.a1_in1k'):\n"
        "    print(weights_state(BackboneEntry(key='x', family='x', source='timm:' + name)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"HF_HOME": str(tmp_path), "PATH": "", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split("\n")[:3] == ["cached", "cached", "to download"]


def test_kept_features_are_seen_and_save_their_pass(tmp_path: Path, catalog: Catalog) -> None:
    from bob.case import Context
    from bob.run import run_case

    plan = Plan(catalog, Selection(backbones=("vit_micro_glyphs", "vit_micro_random")))
    fixed, random = (
        next(one for one in plan.cases("knn") if one.backbone.key == key)
        for key in ("vit_micro_glyphs", "vit_micro_random")
    )
    shelf = Shelf(tmp_path / "references", tmp_path / "features")
    assert shelf.look(fixed).features == frozenset()
    for case in (fixed, random):
        result = run_case(case, Context(features=str(tmp_path / "features")))
        assert result.failure is None
    shelf = Shelf(tmp_path / "references", tmp_path / "features")
    assert shelf.look(fixed).features == {"train", "test"}
    assert shelf.look(random).features == frozenset()  # their weights are not known beforehand
    other = plan.cases("ood")[0]
    assert shelf.look(other).features == frozenset()
    assert estimate(fixed, Speeds(), stored=shelf.look(fixed).features).hours == 0


def test_references_are_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["--references", str(tmp_path), "--json", "--no-cpu"]
    assert main(["plan", "-k", "knn[VIT", *arguments]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in record["cases"]] == [
        "vit_micro_glyphs-digits", "vit_micro_random-digits",
    ]  # fmt: skip
    assert {one["reference"] for one in record["cases"]} == {"yes"}
    assert record["total"]["cases"] == 2
    assert record["gpu"] == DEFAULT_GPU


def test_selection_and_total_line(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", "--scale", "full", "--backbone", "timm:resnet50.a1_in1k"]
    assert main([*arguments, "--task", "detection", "--gpu", "rtx 3090"]) == 0
    *_, case, last = capsys.readouterr().out.splitlines()
    assert case.split()[1] == "detection"
    assert last.startswith("scale full: 1 cases, ")
    assert "GPU-hours on RTX 3090 (" in last
    assert main([*arguments, "--max-gpu-hours", "1"]) == 1
    refused = capsys.readouterr().err
    assert "more than --max-gpu-hours 1" in refused
    assert "detection[timm:resnet50.a1_in1k-coco-detectron2]" in refused
    assert main([*arguments, "--max-gpu-hours", "1e6"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "RTX 4091"], "Did you mean 'RTX 4090'"),
        (["--task", "finetun"], "Did you mean 'finetune'"),
        (["--seeds", "0"], "--seeds '0'"),
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_pytest_refuses_before_anything_runs(project: pytest.Pytester) -> None:
    done = project.runpytest_subprocess("--max-gpu-hours", "0", "--progress", "off")
    done.stderr.fnmatch_lines(
        ["*takes about * GPU-hours on RTX 4090*more than --max-gpu-hours 0.*"]
    )
    done.stderr.fnmatch_lines(["*Largest: finetune[[]pixels_*"])
    done.assert_outcomes()
    assert done.ret == pytest.ExitCode.USAGE_ERROR


def test_pytest_starts_within_the_limit(project: pytest.Pytester) -> None:
    done = project.runpytest_subprocess("--max-gpu-hours", "0.5", "-k", "coarse")
    done.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--max-gpu-hours", "many"), "*--max-gpu-hours 'many': expected a number of hours*"),
        (("--reference-gpu", "RTX 4091"), "*Unknown GPU*Did you mean 'RTX 4090'*"),
    ],
)
def test_pytest_options_are_checked(
    project: pytest.Pytester, arguments: tuple[str, ...], message: str
) -> None:
    done = project.runpytest_subprocess(*arguments)
    done.stderr.fnmatch_lines([message])
    assert done.ret == pytest.ExitCode.USAGE_ERROR


def test_ranges() -> None:
    assert 1 < UNCERTAINTY < ROUGH


def test_bad_gpu_is_one_error() -> None:
    with pytest.raises(BobError, match="The table has: RTX 4090"):
        Speeds("Voodoo")


# minutes on this CPU

BY_HAND = Calibration(
    cpu="a CPU", torch="2", threads=1, date="2026-01-01",
    networks=(
        Network(name="net", family="swin", parameters_m=0.302562, side=32, forward=0.001,
                update=0.02, trained=0.002),
        Network(name="large", family="resnet", parameters_m=11.0, side=224, forward=0.04,
                update=0.1, trained=0.12),
    ),
    trained_heads=Heads(image=0.006, mac=1e-10), tested_heads=Heads(image=0.003, mac=2e-10),
    view=0.0005, view_side=32, fit=0.01, case=0.5, start=7.0,
)  # fmt: skip


def on_cpu(case: Case, **changes: Any) -> float:
    """Seconds of a case."""
    found = estimate_on_cpu(case, BY_HAND, **changes).hours
    assert found is not None
    return found * HOUR


@pytest.fixture
def swin(catalog: Catalog) -> dict[str, Case]:
    """The smoke cases of the micro Swin; of several datasets the last one's."""
    plan = Plan(catalog, Selection(backbones=("swin_micro_glyphs",), engine="torchvision"))
    return {case.task: case for case in plan.all_cases()}


def test_cpu_time_of_updates_images_and_views(swin: dict[str, Case]) -> None:
    # 4 epochs of 50 updates of 24 digits, each scored on 597
    fine = 200 * 0.02 + 4800 * 0.002 + 4 * 597 * 0.001
    assert on_cpu(swin["finetune"]) == pytest.approx(0.5 + fine, rel=0.001)
    assert on_cpu(swin["finetune"], runs=3) == pytest.approx(3 * (0.5 + fine), rel=0.001)
    passes = (1200 + 597) * 0.001
    assert on_cpu(swin["knn"]) == pytest.approx(0.5 + passes, rel=0.001)
    assert on_cpu(swin["knn"], stored=frozenset({"train"})) == pytest.approx(1.097, rel=0.001)
    views = 6 * 1200 * (0.001 + 0.0005)
    assert on_cpu(swin["linear_probe_paper"]) == pytest.approx(0.5 + views + 0.597, rel=0.001)


def test_cpu_time_counts_shared_passes_and_imports_once(swin: dict[str, Case]) -> None:
    cases = [swin["knn"], swin["linear_probe"], swin["low_shot"]]
    whole = total_on_cpu([estimate_on_cpu(case, BY_HAND) for case in cases], BY_HAND)
    seconds = 7 + 3 * 0.5 + (46 + 25) * 0.01 + (1200 + 597) * 0.001
    assert whole.hours * HOUR == pytest.approx(seconds, rel=0.001)
    assert (whole.low, whole.high) == pytest.approx((whole.hours / 2, whole.hours * 2))
    assert total_on_cpu([], BY_HAND).hours == 0


def test_cpu_time_of_detection_follows_the_recipe(swin: dict[str, Case]) -> None:
    from dataclasses import replace

    case = swin["detection"]
    recipe = case.recipe
    assert isinstance(recipe, DetectionRecipe)

    def changed(**fields: Any) -> float:
        return on_cpu(replace(case, recipe=recipe.model_copy(update=fields)))

    whole = changed()
    assert changed(epochs=2 * recipe.epochs) == pytest.approx(2 * whole, rel=0.15)
    assert changed(roi_batch=4 * recipe.roi_batch) > whole
    assert changed(channels=2 * recipe.channels) > whole
    assert changed(image_size=2 * recipe.image_size) > 1.5 * whole
    assert changed(masks=False) < whole
    assert changed(frozen=True) < whole
    assert changed(head_convs=4) > changed(head_convs=1) > whole
    assert changed(engine="detectron2") > whole


def test_cpu_time_of_another_network_is_scaled_and_marked(swin: dict[str, Case]) -> None:
    from dataclasses import replace

    recipe = ProbeRecipe()
    case = replace(case_of(recipe, "linear_probe"), dataset=swin["knn"].dataset)
    one_image = estimate_on_cpu(case, BY_HAND)
    # 86 million parameters at 224 pixels: 7.8 times the large network, of another family
    assert one_image.basis == "large"
    assert one_image.rough
    assert one_image.hours is not None
    forward = 0.04 * 85.8 / 11
    assert one_image.hours * HOUR == pytest.approx(0.5 + 0.46 + 1797 * forward, rel=0.01)
    known = estimate_on_cpu(swin["knn"], BY_HAND)
    assert (known.basis, known.rough) == ("net", False)


PLAN = [sys.executable, "-X", "importtime", "-m", "bob.cli", "plan", "--json"]


def planned_apart(root: Path, *arguments: str) -> tuple[dict[str, Any], str, set[str]]:
    """What ``bob plan`` prints in a process of its own, says on stderr, and imports."""
    import os

    environment = {**os.environ, "BOB_CALIBRATION": str(root)}
    done = subprocess.run(
        [*PLAN, *arguments], env=environment, capture_output=True, text=True, check=True
    )
    lines = done.stderr.splitlines()
    imported = {line.rsplit("|", 1)[1].strip() for line in lines if line.startswith("import time")}
    said = "\n".join(line for line in lines if line.startswith("bob: "))
    return json.loads(done.stdout), said, {name.split(".")[0] for name in imported}


@pytest.mark.slow
def test_the_cpu_is_measured_once_and_a_damaged_file_again(tmp_path: Path) -> None:
    first, said, imported = planned_apart(tmp_path, "-k", "swin_micro_glyphs")
    assert "measuring this CPU" in said
    assert not imported & {"torch", "timm"}  # it is measured in a process of its own
    (path,) = tmp_path.iterdir()
    kept = Calibration.model_validate_json(path.read_bytes())
    by_name = {network.name: network for network in kept.networks}
    assert by_name["resnet18"].forward > 5 * by_name["resnet_micro"].forward
    for network in kept.networks:
        assert network.trained > network.forward
    assert kept.trained_heads.image + kept.trained_heads.mac > 0
    assert 0 < kept.case < 60
    assert first["cpu"]["cpu"] == kept.cpu
    minutes = {case["task"]: case["cpu_minutes"] for case in first["cases"]}
    assert minutes["low_shot_finetune"] > minutes["finetune"] > minutes["knn"] > 0
    assert minutes["detection"] > minutes["detection_frozen"] > minutes["knn"]
    shared = sum(case["cpu_minutes"] for case in first["cases"]) + kept.start / 60
    assert 0.3 * shared < first["cpu"]["minutes"] < shared

    before = path.read_bytes()
    second, said, imported = planned_apart(tmp_path, "-k", "swin_micro_glyphs")
    assert second == first
    assert not said
    assert not imported & {"torch", "timm"}
    assert path.read_bytes() == before

    path.write_bytes(before[: len(before) // 2])
    third, said, _ = planned_apart(tmp_path, "-k", "swin_micro_glyphs")
    assert f"{path} is damaged; it is ignored." in said
    assert "measuring this CPU" in said
    assert Calibration.model_validate_json(path.read_bytes()).networks
    assert third["cpu"]["minutes"] > 0


@pytest.fixture
def calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds a calibration of this CPU, written down by hand."""
    monkeypatch.setenv("BOB_CALIBRATION", str(tmp_path))
    path = calibration_path()
    path.write_text(BY_HAND.model_dump_json())
    return path


def test_minutes_stand_in_for_no_gpu_hours(
    calibrated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "-k", "swin_micro_glyphs-digits"]) == 0
    header, *cases, last = capsys.readouterr().out.splitlines()
    assert "CPU-min" in header
    assert "GPU-hours" not in header
    assert cases[0].split()[-2:] == ["0.27", "net"]  # 16.5 seconds
    assert " minutes on this CPU (" in last
    assert last.endswith(
        "estimated on a CPU, 1 thread, calibrated 2026-01-01; --calibrate measures again"
    )


def test_minutes_stand_beside_gpu_hours(
    calibrated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["plan", "--scale", "full", "--backbone", "timm:resnet50.a1_in1k"]
    arguments += ["--task", "detection"]
    assert main([*arguments, "--cpu"]) == 0
    header, *_, gpu, cpu = capsys.readouterr().out.splitlines()
    assert "GPU-hours" in header
    assert "CPU-min" in header
    assert "GPU-hours on RTX 4090" in gpu
    assert "minutes on this CPU" in cpu
    assert main(arguments) == 0
    assert "CPU" not in capsys.readouterr().out
    assert main(["plan", "-k", "knn[swin", "--no-cpu"]) == 0
    assert "CPU" not in capsys.readouterr().out
    assert main(["plan", "-k", "knn[swin", "--no-cpu", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["cpu"] is None
    assert {case["cpu_minutes"] for case in record["cases"]} == {None}


def test_calibrating_and_leaving_out_contradict(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--no-cpu", "--calibrate"]) == 2
    assert "--calibrate measures what --no-cpu leaves out" in capsys.readouterr().err


def test_another_number_of_threads_is_another_calibration(
    calibrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    assert kept_calibration(heard.append) == BY_HAND
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert kept_calibration(heard.append) is None
    assert not heard


def test_a_cpu_that_cannot_be_measured_leaves_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BOB_CALIBRATION", str(tmp_path / "none"))
    broken = tmp_path / "torch"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('torch is broken here')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[1]}")
    assert main(["plan", "-k", "knn[swin_micro_glyphs"]) == 0
    out, err = capsys.readouterr()
    assert "could not be calibrated: " in err
    assert "torch is broken here. " in err
    assert "Minutes are left out" in err
    assert "GPU-hours on" in out
