from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from benchmarks.gpu.counting import count
from benchmarks.gpu.measure import with_back_off
from benchmarks.gpu.roofline import bound
from benchmarks.gpu.settings import Settings
from benchmarks.gpu.smoke import ordered

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("smoke", "throughput", "roofline", "detection")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "benchmarks.gpu", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def positive(row: dict[str, Any], *keys: str) -> bool:
    return all(math.isfinite(row[key]) and row[key] > 0 for key in keys)


@pytest.mark.slow
def test_a_dry_run_fills_every_table_and_imports_no_mlflow(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    done = command("--tiny", "--accelerator", "cpu", "--json", str(path))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(path.read_text())
    assert found["status"] == "ok"
    assert found["environment"]["torch"] == torch.__version__.split("+")[0]
    assert found["machine"]["card"] == "cpu"
    assert "--tiny" in found["command"]
    assert list(found["parts"]) == list(PARTS)
    assert all(part["status"] == "ok" for part in found["parts"].values())

    rows = {name: part["rows"] for name, part in found["parts"].items()}
    assert [row["task"] for row in rows["smoke"]] == ["knn", "linear_probe"]
    assert all(row["verdict"] == "pass" for row in rows["smoke"])
    assert all(row["low"] <= row["score"] <= row["high"] for row in rows["smoke"])
    assert [(row["model"], row["work"]) for row in rows["throughput"]] == [
        (model, work)
        for model in ("test_resnet", "test_vit")
        for work in ("training", "extraction")
    ]
    ratios = ("suite", "bare", "timm", "suite/bare", "suite/timm", "suite_mb")
    assert all(positive(row, *ratios) for row in rows["throughput"])
    rates, *steps = rows["roofline"]
    assert positive(rates, "flops_per_second", "bytes_per_second")
    assert len(steps) == 4
    assert all(positive(row, "attained", "bound", "share", "suite_share") for row in steps)
    assert {row["binds"] for row in steps} <= {"compute", "memory"}
    assert rows["detection"][0]["engine"] == "torchvision"
    assert all(positive(row, "step_seconds", "memory_mb") for row in rows["detection"])

    for name in PARTS:
        assert f"== {name}: ok" in done.stdout
    assert "suite/bare (range)" in done.stdout
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "bob.run" in imported
    assert "bob.pytest_plugin" not in imported
    assert not {name.split(".")[0] for name in imported} & {"mlflow", "pytest", "_pytest"}


@pytest.mark.slow
def test_what_fails_is_named_and_the_rest_still_runs(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    done = command(
        "--tiny", "--accelerator", "cpu", "--json", str(path), "--models", "test_nothing,test_vit",
        "-k", "no such case", "--skip", "detection", "--precision", "32-true",
    )  # fmt: skip
    assert done.returncode == 1
    found = json.loads(path.read_text())
    parts = found["parts"]
    assert found["status"] == "failed"
    assert {name: part["status"] for name, part in parts.items()} == {
        "smoke": "failed", "throughput": "failed", "roofline": "failed", "detection": "skipped",
    }  # fmt: skip
    assert "no such case" in parts["smoke"]["errors"][0]
    assert [text.split(":")[0] for text in parts["throughput"]["errors"]] == [
        "training test_nothing",
        "extraction test_nothing",
    ]
    assert {row["model"] for row in parts["throughput"]["rows"]} == {"test_vit"}
    assert "FAILED test_nothing: BobError: Unknown timm model 'test_nothing'" in done.stdout
    assert "== smoke: failed" in done.stdout


def test_no_time_is_said_rather_than_taken(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    done = command("--tiny", "--accelerator", "cpu", "--json", str(path), "--minutes", "0.001")
    assert done.returncode == 0, done.stderr[-3000:]
    parts = json.loads(path.read_text())["parts"]
    for part in parts.values():
        assert any("no time for" in note for note in part["notes"])
    assert parts["throughput"]["rows"] == parts["smoke"]["rows"] == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_not_there_is_one_clear_error() -> None:
    done = command("--accelerator", "cuda")
    assert done.returncode == 2
    assert "no CUDA device is visible to torch" in done.stderr
    assert "Traceback" not in done.stderr


def settings(**changes: Any) -> Settings:
    return Settings(
        device=torch.device("cpu"), precision="32-true", models={}, channels_last=True, match="",
        **changes,
    )  # fmt: skip


def test_the_first_smoke_cases_cover_every_protocol_and_several_backbones() -> None:
    cases = ordered(settings())
    tasks = {case.task for case in cases}
    first = cases[: len(tasks)]
    assert {case.task for case in first} == tasks
    assert {"detection", "detection_frozen", "ood_detection", "finetune", "retrieval"} <= tasks
    assert len({case.backbone.key for case in first}) == 4
    assert len(cases) == len({case.id for case in cases}) == 48
    assert all(case.engine in ("", "torchvision") for case in cases)


def test_operations_and_bytes_of_known_steps() -> None:
    left, right = torch.ones(8, 16), torch.ones(16, 32)
    product = count(lambda: left @ right)
    assert product.flops == 2 * 8 * 16 * 32
    assert product.bytes == 4 * (8 * 16 + 16 * 32 + 8 * 32)
    assert count(lambda: left.t().reshape(2, 8, 8).detach()).flops == 0
    assert count(lambda: left.t().view(16, 8)).bytes == 0
    assert count(lambda: left.add_(1)).bytes == 4 * 2 * 8 * 16
    assert count(lambda: left + torch.ones(1, 16).expand(8, 16)).bytes == 4 * (2 * 8 * 16 + 2 * 16)


@pytest.mark.parametrize("groups", [1, 8])
def test_the_backward_pass_of_a_convolution_costs_two_forward_ones(groups: int) -> None:
    images = torch.ones(2, 8, 10, 10, requires_grad=True)
    weight = torch.ones(16, 8 // groups, 3, 3, requires_grad=True)

    def forward() -> torch.Tensor:
        return functional.conv2d(images, weight, groups=groups)

    assert count(forward).flops == 2 * 2 * 16 * (8 // groups) * 9 * 8 * 8
    assert count(lambda: forward().sum().backward()).flops == 3 * count(forward).flops


def test_attention_counts_two_products_forward_and_five_backward() -> None:
    query, key, value = (torch.ones(2, 3, 64, 16, requires_grad=True) for _ in range(3))

    def forward() -> torch.Tensor:
        return functional.scaled_dot_product_attention(query, key, value)

    product = 2 * 2 * 3 * 64 * 64 * 16
    assert count(forward).flops == 2 * product
    assert count(lambda: forward().sum().backward()).flops == (2 + 5) * product


def test_the_bound_is_the_lower_of_the_two_roofs() -> None:
    row = {"flops_per_image": 100.0, "bytes_per_image": 10.0, "images_per_second": 3.0}
    memory = bound(row, flops=1000.0, moved=50.0)
    assert (memory["binds"], memory["bound"], memory["share"]) == ("memory", 500.0, 0.6)
    compute = bound(row, flops=400.0, moved=50.0)
    assert (compute["binds"], compute["bound"], compute["share"]) == ("compute", 400.0, 0.75)


def test_a_batch_is_halved_until_it_fits() -> None:
    tried = []

    def attempt(batch: int) -> int:
        tried.append(batch)
        if batch > 3:
            raise torch.OutOfMemoryError("too large")
        return batch

    assert with_back_off(16, attempt) == 2
    assert tried == [16, 8, 4, 2]
    with pytest.raises(torch.OutOfMemoryError):
        with_back_off(8, lambda batch: attempt(batch + 8))
