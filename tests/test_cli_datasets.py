from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from bob.catalog import Catalog
from bob.catalog.schema import DatasetEntry
from bob.cli import main
from bob.cli.datasets import metrics_of, places, state_of
from bob.datasets import RetrievalData, load_dataset
from tests.test_imports import HEAVY, ROOT

DOCUMENT = ROOT / "docs" / "datasets.md"
OWN = """
datasets:
  own_birds:
    kind: retrieval
    loader: bob.datasets.retrieval_sets.class_folders:load
    options: {folder: birds}
    sha256: null
    classes: 3
    needs: [birds|vögel, "list.txt"]
    obtain: Ask me.
  own_boxes:
    kind: detection
    loader: bob.datasets.detection:load_coco
    options: {path: /nowhere/boxes}
    sha256: null
    classes: 2
    test_size: 9
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BOB_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "own.yaml").write_text(OWN, encoding="utf-8")
    return str(tmp_path / "own.yaml")


def filled(folder: Path) -> None:
    """A folder with something in it; an empty one holds nothing."""
    folder.mkdir(parents=True)
    (folder / "a.jpg").touch()


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["datasets", *arguments]) == 0
    return capsys.readouterr().out


def outside(entry: DatasetEntry) -> bool:
    """Whether a package of the system has brought all that a dataset needs."""
    ways = [[way for way in need.split("|") if way.startswith("/")] for need in entry.needs]
    return bool(ways) and all(any(Path(way).exists() for way in need) for need in ways)


def test_every_dataset_says_where_it_stands(
    capsys: pytest.CaptureFixture[str], catalog: Catalog, root: Path, own: str
) -> None:
    filled(root / "birds")
    (root / "list.txt").write_text("")
    text = told(capsys, "--catalog", own)
    lines = text.splitlines()
    cells = {line.split("  ")[0]: line.split() for line in lines[: len(catalog.datasets) + 3]}
    assert cells.keys() >= {*catalog.datasets, "own_birds", "own_boxes"}
    assert cells["digits"][1:8] == [
        "classification", "10", "1,200", "597", "top1", "built", "in",
    ]  # fmt: skip
    assert cells["roxford5k"][1:7] == ["retrieval", "70", "4,993", "70", "map", "missing"]
    assert cells["cub200"][1:7] == ["retrieval", "200", "?", "?", "map", "missing"]
    assert cells["own_birds"][1:] == ["retrieval", "3", "?", "?", "map", "present"]
    assert "  own_birds: birds, list.txt" in lines[lines.index(f"present under {root}:") :]
    absent = "\n".join(lines[lines.index(f"missing under {root}:") :])
    assert "  gldv2: no gldv2/retrieval_solution_v2.1.csv, no gldv2/test or gldv2/query" in absent
    assert "  own_boxes: no /nowhere/boxes." in absent
    assert "https://cocodataset.org/#download" in absent
    entries = [*catalog.datasets.values()]
    kept = sum(not entry.needs for entry in entries)
    packaged = sum(outside(entry) for entry in entries)
    rest = len(entries) - kept + 1 - packaged
    assert lines[-1] == (
        f"{len(entries) + 2} datasets: {kept} built in, {packaged + 1} present, {rest} missing"
    )


def test_one_dataset_in_full(
    capsys: pytest.CaptureFixture[str], catalog: Catalog, root: Path
) -> None:
    filled(root / "roxford5k" / "jpg")
    text = told(capsys, "roxford5k")
    entry = catalog.dataset("roxford5k")
    for part in (
        "roxford5k\n", "database       4,993\n", "queries        70\n", "map (retrieval)",
        "gnd_roxford5k.pkl: missing", "jpg: present", entry.obtain, entry.licence, entry.note,
        "thumbnail: 224",
    ):  # fmt: skip
        assert part in text, part
    text = told(capsys, "digits", "cub200")
    assert "top1 (finetune, linear_probe, linear_probe_paper, knn" in text
    assert "queries        not known for certain" in text


def test_an_unknown_dataset_names_its_neighbours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets", "roxfrd5k"]) == 2
    assert "Did you mean 'roxford5k'?" in capsys.readouterr().err


def test_missing_only(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    text = told(capsys, "--missing")
    assert "built in" not in text.splitlines()[1]
    assert "\ndigits " not in text
    assert "\ncopydays " in text
    for name in ("original", "strong"):
        filled(root / "copydays" / name)
    assert "\ncopydays " not in told(capsys, "--missing")
    assert told(capsys, "--missing", "copydays", "digits") == f"Nothing is missing under {root}.\n"
    assert json.loads(told(capsys, "--missing", "copydays", "--json")) == []


def test_json_has_everything(
    capsys: pytest.CaptureFixture[str], catalog: Catalog, root: Path
) -> None:
    filled(root / "gldv2" / "database")
    printed = {row["key"]: row for row in json.loads(told(capsys, "--json"))}
    assert printed.keys() == catalog.datasets.keys()
    for key, row in printed.items():
        entry = catalog.dataset(key).model_dump(mode="json")
        for field in (row.keys() & entry.keys()) - {"needs"}:
            assert row[field] == entry[field], (key, field)
        there = "present" if outside(catalog.dataset(key)) else "missing"
        assert row["state"] in ("built in", there)
    assert printed["gldv2"]["needs"][2] == {
        "any_of": ["gldv2/index", "gldv2/database"], "found": "gldv2/database",
    }  # fmt: skip
    assert printed["font_scenes"]["metrics"] == {"ood_detection": "shifted_box_ap"}
    with pytest.raises(SystemExit):
        main(["datasets", "--json", "--markdown"])


def test_the_document_has_the_table(capsys: pytest.CaptureFixture[str], root: Path) -> None:
    table = told(capsys, "--markdown")
    text = DOCUMENT.read_text(encoding="utf-8")
    start, end = "<!-- bob datasets --markdown -->\n", "<!-- end -->"
    assert text.count(start) == text.count(end) == 1
    written = text.partition(start)[2].partition(end)[0]
    assert written == table, f"put what `bob datasets --markdown` prints into {DOCUMENT}"
    filled(root / "coco" / "train2017")
    assert told(capsys, "--markdown") == table


def test_a_key_that_is_a_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    images = [{"id": 1, "file_name": "a.png", "height": 8, "width": 8}]
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4]}
    content = {"images": images, "annotations": [box], "categories": [{"id": 1, "name": "cat"}]}
    for split in ("train", "val"):
        filled(folder / split)
        Image.new("RGB", (8, 8)).save(folder / split / "a.png")
        (folder / f"{split}.json").write_text(json.dumps(content))
    text = told(capsys, f"coco:{folder}")
    assert f"path           {folder}" in text
    assert "state          present" in text


def test_a_table_whose_classes_only_loading_tells(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "all.parquet").write_bytes(b"")
    assert "not known for certain" in told(capsys, f"hf:{tmp_path / 'all.parquet'}")


def test_built_in_datasets_have_the_sizes_their_entries_state(catalog: Catalog) -> None:
    entries = [entry for entry in catalog.datasets.values() if state_of(entry) == "built in"]
    assert len(entries) >= 6
    for entry in entries:
        data = load_dataset(entry)
        train = data.database if isinstance(data, RetrievalData) else data.train
        assert (len(train), data.test_size) == (entry.train_size, entry.test_size), entry.key


def test_what_is_not_built_in_says_how_to_get_it(catalog: Catalog) -> None:
    for entry in catalog.datasets.values():
        assert entry.licence, entry.key
        assert metrics_of(entry) or entry.kind == "multilabel", entry.key
        if state_of(entry) != "built in":
            assert places(entry), entry.key
            assert entry.obtain.endswith("."), entry.key


def test_the_command_imports_nothing_heavy() -> None:
    for arguments in ([], ["roxford5k"], ["--markdown"], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "bob.cli", "datasets", *arguments],
            cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        imported = {
            line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "|" in line
        }
        assert "bob.cli.datasets" in imported
        assert not {name.split(".", 1)[0] for name in imported} & {*HEAVY, "numpy"}


def test_what_lies_outside_the_data_root_is_present_too(
    capsys: pytest.CaptureFixture[str], catalog: Catalog, root: Path, tmp_path: Path
) -> None:
    """As a system's package puts it."""
    elsewhere = tmp_path / "share" / "photographs"
    filled(elsewhere)
    entry = catalog.dataset("fashion_mnist").model_copy(
        update={"needs": (f"FashionMNIST/raw|{elsewhere}",)}
    )
    assert state_of(entry) == "present"
    assert [place.found for place in places(entry)] == [str(elsewhere)]
