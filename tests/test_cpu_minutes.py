"""Minutes on this CPU: the model of them, and the calibration it reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bob.case import Case
from bob.catalog import Catalog
from bob.cli import main
from bob.cost.calibration import Calibration, Heads, Network, calibration_path, kept_calibration
from bob.cost.cpu import estimate_on_cpu, total_on_cpu
from bob.plan import Plan, Selection
from bob.protocols.detection import DetectionRecipe
from bob.protocols.linear_probe import ProbeRecipe
from tests.cost_parts import HOUR, case_of

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
    seconds = 7 + 3 * 0.5 + (50 + 25) * 0.01 + (1200 + 597) * 0.001
    assert whole.hours * HOUR == pytest.approx(seconds, rel=0.001)
    assert (whole.low, whole.high) == pytest.approx((whole.hours / 2, whole.hours * 2))
    assert total_on_cpu([], BY_HAND).hours == 0


def test_cpu_time_of_detection_follows_the_recipe(swin: dict[str, Case]) -> None:
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
