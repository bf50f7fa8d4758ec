"""What a short case imports, and packages whose ``__init__`` waits."""

from __future__ import annotations

import gc
import importlib
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bob import startup
from bob.datasets import digits

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str, **options: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True, text=True, timeout=180, check=False, **options,
    )  # type: ignore[call-overload]  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done


LISTING = """
import sys
from pathlib import Path

def pytest_sessionfinish():
    Path(__file__).with_name("modules.txt").write_text("\\n".join(sorted(sys.modules)))
"""


@pytest.mark.slow
def test_a_case_of_neighbours_imports_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "listing.py").write_text(LISTING)
    done = run(
        "-m", "pytest", "suites", "-k", "swin_micro_glyphs and knn", "-p", "no:cacheprovider",
        "-p", "listing", "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db",
        cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
    )  # fmt: skip
    assert "1 passed" in done.stdout
    imported = set((tmp_path / "modules.txt").read_text().split())
    real = {"torch", "timm", "mlflow", "torchmetrics.functional.classification.accuracy"}
    assert real <= imported
    others = {"torchmetrics.functional.text", "torchmetrics.functional.image", "scipy.signal",
              "scipy.stats"}  # fmt: skip
    assert not imported & others
    packages = {name.split(".", 1)[0] for name in imported}
    assert not packages & {
        "sklearn", "transformers", "diffusers", "detectron2", "hydra", "faster_coco_eval",
        "pycocotools", "datasets", "h5py", "tensorboard", "IPython",
    }  # fmt: skip


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package that leaves a file behind when its ``__init__`` runs."""
    folder = tmp_path / "waiting_package"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text(
        "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"
        "from waiting_package.inner import part\nvalue = 3\n"
    )
    (folder / "inner" / "__init__.py").write_text("inside = 5\n")
    (folder / "inner" / "part.py").write_text("from waiting_package import known\ndouble = known\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder.name
    for name in [name for name in sys.modules if name.startswith(folder.name)]:
        del sys.modules[name]


def test_a_deferred_package_waits_until_it_is_asked(package: str, tmp_path: Path) -> None:
    startup.defer(package, known=7)
    startup.defer(f"{package}.inner")
    part = importlib.import_module(f"{package}.inner.part")
    assert part.double == 7
    whole = importlib.import_module(package)
    assert not hasattr(whole, "__warningregistry__")
    assert not (tmp_path / package / "ran").exists()
    assert whole.inner.inside == 5
    assert not (tmp_path / package / "ran").exists()

    assert whole.value == 3
    assert (tmp_path / package / "ran").exists()
    assert whole.inner.part is part
    assert type(whole) is type(sys)
    with pytest.raises(AttributeError, match=r"waiting_package.*no attribute 'absent'"):
        _ = whole.absent


def test_a_deferred_package_gives_all_its_names(package: str) -> None:
    startup.defer(package, known=7)
    names: dict[str, object] = {}
    exec(f"from {package} import *", names)
    assert names["value"] == 3


def test_a_package_that_is_imported_stays_as_it_is() -> None:
    startup.defer("importlib", import_module=None)
    assert sys.modules["importlib"] is importlib
    assert callable(importlib.import_module)
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        startup.defer("no_such_package")


WHOLE = """
import sys
from bob.startup import import_torchmetrics

import_torchmetrics()
from torchmetrics.functional.classification.accuracy import multiclass_accuracy
import lightning_fabric
assert "scipy.signal" not in sys.modules
before = set(sys.modules)
import torchmetrics
assert torchmetrics.Accuracy(task="multiclass", num_classes=3).num_classes == 3
import torch
assert torchmetrics.functional.mean_squared_error(torch.ones(2), torch.zeros(2)) == 1
from torchmetrics.functional import accuracy
assert torchmetrics.functional.classification.multiclass_accuracy is multiclass_accuracy
"""


def test_who_asks_for_more_of_torchmetrics_gets_it() -> None:
    assert run("-c", WHOLE + "print('whole')", cwd=ROOT).stdout.strip() == "whole"


def test_a_torchmetrics_that_cannot_be_imported_in_part_is_imported_whole(tmp_path: Path) -> None:
    folder = tmp_path / "torchmetrics" / "functional" / "classification"
    folder.mkdir(parents=True)
    (tmp_path / "torchmetrics" / "__init__.py").write_text(
        "from torchmetrics import functional\nneeded = functional.classification.accuracy\n"
    )
    (folder.parent / "__init__.py").write_text("from torchmetrics.functional import classification")
    (folder / "__init__.py").write_text(
        "from torchmetrics.functional.classification import accuracy\n"
    )
    (folder / "accuracy.py").write_text(
        "import sys\nimport torchmetrics\n"
        "if not hasattr(sys.modules['torchmetrics.functional'], '__path__') or "
        "type(torchmetrics) is not type(sys):\n    raise ImportError('the package comes first')\n"
    )
    run(
        "-c",
        "from bob.startup import import_torchmetrics\nimport_torchmetrics()\nimport torchmetrics\n"
        f"assert torchmetrics.__file__.startswith({str(tmp_path)!r})\n"
        "assert torchmetrics.needed\n",
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )  # fmt: skip


class Cycle:
    def __init__(self) -> None:
        self.own = self


def test_imports_are_frozen_and_earlier_garbage_is_not(package: str) -> None:
    garbage = weakref.ref(Cycle())
    gc.disable()
    try:
        with startup.importing():
            assert garbage() is None
        assert not gc.isenabled()
    finally:
        gc.enable()
    frozen = gc.get_freeze_count()
    with startup.importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen
    try:
        with pytest.raises(ValueError, match="broken"), startup.importing():  # noqa: PT012
            startup.defer(package)
            raise ValueError("broken")
        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()
        gc.collect()
        gc.freeze()


def test_what_training_had_looked_at_again_is_left_alone_behind_the_case() -> None:
    with startup.settled_objects():
        assert gc.get_freeze_count() > 10_000
    assert gc.get_freeze_count() == 0
    garbage = weakref.ref(Cycle())
    startup.settle_again()
    assert garbage() is None
    frozen = gc.get_freeze_count()
    assert frozen > 10_000
    kept = [[number] for number in range(1000)]
    startup.settle_again()  # nothing has thawed it
    assert gc.get_freeze_count() < frozen + len(kept)


def test_digits_are_those_that_scikit_learn_reads() -> None:
    from sklearn.datasets import load_digits

    counts, labels = digits.read()
    bunch = load_digits()
    assert counts.dtype == np.uint8
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(counts, bunch.images)
    np.testing.assert_array_equal(labels, bunch.target)
