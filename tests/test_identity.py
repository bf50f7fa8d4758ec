"""What each id holds: the case's, the protocol's, and the run key over what was loaded."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bob.case import Case, Context, Progress, run_key
from bob.catalog import Catalog
from bob.hashing import digest_of
from bob.plan import Plan, Selection
from bob.protocols import PROTOCOLS, ProtocolSpec, spec
from bob.protocols.spec import Extraction
from bob.run import run_case

GOLDEN = {
    "finetune": "ed2fefb14a96",
    "finetune_multilabel": "0678086f6c40",
    "linear_probe": "923e55cc90ec",
    "linear_probe_paper": "70efb6eb7d1a",
    "knn": "b65a49363a72",
    "low_shot": "77dda9e77818",
    "low_shot_finetune": "533a9fe5e47b",
    "retrieval": "9db5c8ce284e",
    "ood": "f5aa17bec0ae",
    "eval_released": "f655277d1d05",
    "detection": "4a209bea7d97",
    "detection_frozen": "dc0f617bb8c4",
    "ood_detection": "69dfdba4ae29",
}
"""Each protocol with its recipe's defaults. A value that changes means that recorded runs and
references of that protocol no longer match: if that is meant, raise its version and measure them
anew."""


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_protocols(name: str) -> None:
    declared = PROTOCOLS[name]
    facts = {**declared.identity, "recipe": declared.recipe().model_dump(mode="json")}
    assert digest_of(facts) == GOLDEN[name]


def test_every_protocol_of_this_package_is_golden() -> None:
    assert set(GOLDEN) == set(PROTOCOLS)


def protocols_of(catalog: Catalog) -> dict[str, str]:
    plan = Plan(catalog, Selection(backbones=("swin_micro_glyphs",)))
    return {f"{case.task} {case.dataset.key}": case.protocol for case in plan.all_cases()}


@pytest.mark.parametrize("changed", ["finetune", "knn", "detection"])
def test_a_new_version_makes_its_own_protocol_stale_and_no_other(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    before = protocols_of(catalog)
    declared: ProtocolSpec = PROTOCOLS[changed]
    found, problems = PROTOCOLS._found
    newer = {**found, changed: replace(declared, version=declared.version + 1)}
    monkeypatch.setattr(PROTOCOLS, "_found", (newer, problems))
    after = protocols_of(catalog)
    stale = {name for name in before if before[name] != after[name]}
    assert stale == {name for name in before if name.split()[0] == changed}


def test_another_extraction_makes_all_that_read_features_stale(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = protocols_of(catalog)
    found, problems = PROTOCOLS._found
    other = Extraction(version=spec.EXTRACTION.version, crop=1.0)
    newer = {
        name: replace(declared, extraction=other) if declared.extraction else declared
        for name, declared in found.items()
    }
    monkeypatch.setattr(PROTOCOLS, "_found", (newer, problems))
    after = protocols_of(catalog)
    stale = {name.split()[0] for name in before if before[name] != after[name]}
    assert stale == {
        "knn", "linear_probe", "linear_probe_paper", "low_shot", "ood", "retrieval",
    }  # fmt: skip


def test_golden_run_key(catalog: Catalog) -> None:
    """Weights and data of the package give this key on every machine."""
    plan = Plan(catalog, Selection(backbones=("resnet_micro_glyphs",)))
    case = plan.cases("knn")[0]
    told: list[Progress] = []
    result = run_case(case, Context(accelerator="cpu", workers=0), told.append)
    assert result.failure is None
    assert result.run_key == RUN_KEY
    assert [progress.run_key for progress in told if progress.phase == "loaded"] == [RUN_KEY]


RUN_KEY = "ce8179c7cd2fc724"


def test_a_run_key_follows_everything_that_was_loaded(tiny_case: Case) -> None:
    parts = {"weights": "w", "data": "d", "factory": "f"}
    keys = {run_key(tiny_case, **parts)}
    for name in parts:
        keys.add(run_key(tiny_case, **{**parts, name: "other"}))
    keys.add(run_key(tiny_case.with_seed(1), **parts))
    assert len(keys) == 5


FACTORY = """
from torch import nn

WIDTH = {width}

def make():
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())

def told():
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())

told.fingerprint = "{word}"
"""

KEY_OF = """
import sys
from bob.backbones.factory_code import factory_fingerprint
from bob.catalog.schema import BackboneEntry

for source in sys.argv[1:]:
    print(factory_fingerprint(BackboneEntry(key="x", family="x", source=source)))
"""


def fingerprints(folder: Path, *sources: str, **values: object) -> list[str]:
    """Those of factories, in a process of its own."""
    (folder / "some_net.py").write_text(FACTORY.format(**values))
    done = subprocess.run(
        [sys.executable, "-B", "-c", KEY_OF, *sources], cwd=folder, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def test_a_factory_is_known_by_its_code_or_by_its_own_word(tmp_path: Path) -> None:
    ours = ("some_net:make", "some_net:told")
    others = ("timm:resnet18", "bob.backbones.micro:pooled_pixels")
    first, own, *none = fingerprints(tmp_path, *ours, *others, width=4, word="v1")
    assert none == ["", ""]
    assert fingerprints(tmp_path, *ours, width=4, word="v1") == [first, own]
    wider, wider_own = fingerprints(tmp_path, *ours, width=8, word="v1")
    assert wider != first
    assert wider_own == own
    (newer,) = fingerprints(tmp_path, "some_net:told", width=4, word="v2")
    assert newer != own
