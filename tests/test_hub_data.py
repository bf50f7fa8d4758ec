"""Datasets that the library ``datasets`` reads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bob.catalog import Catalog
from bob.datasets import ClassificationData, ImageSplit
from bob.errors import BobError
from tests.photos import COLOURS, picture, run_task


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same images as ``save_to_disk``, Parquet and WebDataset shards."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features(
        {"id": datasets.Value("int64"), "photo": datasets.Image(),
         "kind": datasets.ClassLabel(names=list(COLOURS))}
    )  # fmt: skip

    def table(count: int, first: int, *, labelled: bool = True):  # type: ignore[no-untyped-def]
        rows = range(first, first + count)
        images = [picture(list(COLOURS.values())[row % 3], row) for row in rows]
        labels = [row % 3 if labelled else -1 for row in rows]
        return datasets.Dataset.from_dict(
            {"id": list(rows), "photo": images, "kind": labels}, features=features
        )

    splits = {
        "train": table(60, 0),
        "validation": table(30, 300),
        "test": table(9, 900, labelled=False),
    }
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "disk"))
    table(60, 0).to_parquet(str(tmp_path / "all.parquet"))
    return tmp_path


def test_saved_datasets_are_read(saved: Path, loaded: Callable[[str], ClassificationData]) -> None:
    data = loaded(f"hf:{saved / 'disk'}")
    assert data.class_names == ("blue", "green", "red")
    assert [len(data.train), len(data.test)] == [60, 30]  # the test split has no labels
    assert isinstance(data.test, ImageSplit)
    assert data.test.targets.tolist() == [row % 3 for row in range(300, 330)]
    expected = picture(next(iter(COLOURS.values())), 300)
    assert np.array_equal(np.asarray(data.test.pil(0)), np.asarray(expected))
    assert data.notes == ()


def test_a_file_is_split_by_a_fixed_draw(
    saved: Path, loaded: Callable[[str], ClassificationData]
) -> None:
    data = loaded(f"hf:{saved / 'all.parquet'},test=0.25,seed=4")
    assert data.test.targets.bincount().tolist() == [5, 5, 5]
    again = loaded(f"hf:{saved / 'all.parquet'},test=0.25,seed=4")
    assert data.test.digest == again.test.digest
    assert data.test.digest != loaded(f"hf:{saved / 'all.parquet'},test=0.25").test.digest


def test_columns_may_be_named(saved: Path, loaded: Callable[[str], ClassificationData]) -> None:
    data = loaded(f"hf:{saved / 'disk'},image=photo,label=kind,split=validation")
    assert len(data.test) == 30
    with pytest.raises(BobError, match="no column 'colour'; there is 'id', 'photo', 'kind'"):
        loaded(f"hf:{saved / 'disk'},label=colour")
    with pytest.raises(BobError, match="9 of 9 rows of split 'test' have no label"):
        loaded(f"hf:{saved / 'disk'},split=test")
    with pytest.raises(BobError, match="no split 'dev' to score on; there is 'train', 'val"):
        loaded(f"hf:{saved / 'disk'},split=dev")


def test_leakage_in_tables_is_counted(
    saved: Path, loaded: Callable[[str], ClassificationData]
) -> None:
    (note,) = loaded(f"hf:{saved / 'disk'},train=validation,split=validation").notes
    assert note.startswith("leakage: 30 of 30 test images are exact copies")


def table_of(path: Path, grey: int) -> None:
    """A Parquet file of twelve images of one grey, of a time long ago."""
    import datasets

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
    )
    images = [Image.fromarray(np.full((8, 8, 3), grey, np.uint8)) for _ in range(12)]
    columns = {"image": images, "label": [row % 2 for row in range(12)]}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(str(path))
    os.utime(path, (1e9, 1e9))


@pytest.mark.parametrize("name", ["one.parquet", "many/train.parquet"])
def test_a_file_rewritten_under_its_old_time_is_read_again(
    saved: Path, loaded: Callable[[str], ClassificationData], name: str
) -> None:
    path = saved / "greys" / name
    path.parent.mkdir(parents=True)
    place = path if name == path.name else path.parent
    for grey in (10, 200, 10):
        table_of(path, grey)
        data = loaded(f"hf:{place}")
        assert np.asarray(data.train.pil(0)).max() == grey


def test_tables_run_and_beat_chance(saved: Path, catalog: Catalog) -> None:
    from bob.references.files import ReferenceStore
    from bob.references.judge import Gate

    result = run_task("knn", f"hf:{saved / 'disk'}", catalog)
    assert result.failure is None
    assert (result.classes, result.test_size) == (3, 30)
    verdict = Gate(ReferenceStore(saved / "references")).judge(result.case, [result])
    assert verdict.status == "no reference"
    assert "beats chance" in verdict.reason


def test_a_hub_out_of_reach_skips_with_the_remedy(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    result = run_task("knn", "hf:nobody/nothing_of_this_name", catalog)
    assert result.failure is not None
    assert result.failure.kind == "unavailable"
    assert "save_to_disk" in result.failure.message
    assert "fills" in result.failure.message


def test_without_the_library_the_command_is_told(tmp_path: Path) -> None:
    """In an interpreter where it cannot be found, beside a folder of its name."""
    (tmp_path / "datasets").mkdir()
    code = (
        "import sys\n"
        "from bob.catalog import load_catalog, parse_dataset\n"
        "catalog = load_catalog()\n"
        "sys.path[:] = ['.']\n"
        "sys.path_importer_cache.clear()\n"
        "parse_dataset('hf:some/name', catalog)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False,
    )  # fmt: skip
    assert "pip install 'battle-of-backbones[hf]'" in done.stderr.splitlines()[-1]
