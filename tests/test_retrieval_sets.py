"""The paper's retrieval datasets, as miniatures in their official layouts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bob.case import Case, Context
from bob.catalog import Catalog
from bob.datasets import load_dataset
from bob.datasets.images import Files, ImageSplit
from bob.datasets.retrieval_sets.parts import Seen
from bob.errors import BobError
from bob.plan import Plan, Selection
from bob.references.files import ReferenceStore
from bob.references.judge import Gate
from bob.run import run_case
from tests.retrieval_layouts import (
    ASKED,
    INDEX,
    MINIATURES,
    REVISITED,
    SOLUTION,
    copydays,
    cub,
    landmarks,
    loaded,
    photograph,
    revisited,
    small,
)

pytestmark = pytest.mark.usefixtures("root")


# --- miniatures ---------------------------------------------------------------------------------


def names_of(split: Any) -> list[str]:
    source = split.source.source if isinstance(split.source, Seen) else split.source
    return list(source.names)


@pytest.fixture(scope="module")
def case(catalog: Catalog) -> Case:
    selection = Selection(scale="smoke", backbones=("swin_micro_glyphs",))
    return Plan(catalog, selection).cases("retrieval")[0]


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(accelerator="cpu", features=str(tmp_path / "features"))


# --- every dataset ------------------------------------------------------------------------------


@pytest.mark.parametrize("key", MINIATURES)
def test_the_official_layout_gives_the_papers_queries(
    key: str, root: Path, catalog: Catalog, case: Case, context: Context
) -> None:
    update, (queries, database, *grades) = MINIATURES[key](root)
    entry = small(catalog, key, **update)
    data = loaded(entry)
    assert names_of(data.queries) == queries
    assert names_of(data.database) == database
    for grade, positions in zip(("easy", "hard", "junk"), grades, strict=True):
        assert [getattr(entry, grade).tolist() for entry in data.relevance] == positions, grade
    assert data.graded == (key in ("roxford5k", "rparis6k"))
    assert loaded(entry).sha256 == data.sha256

    result = run_case(replace(case, dataset=entry), context)
    assert result.failure is None, result.failure
    # a handful of drawn images says little, which is told
    assert all(text.startswith("the score says little") for text in result.remarks)
    assert result.metrics["queries"] == result.test_size == len(queries)
    assert result.metrics["images_extracted"] == len(queries) + len(database)
    assert result.metrics["map"] > 0.8
    assert ("map_hard" in result.metrics) == data.graded
    assert {"ranking.csv", "retrieval.png"} <= result.files.keys()


def test_the_catalog_covers_the_paper(catalog: Catalog) -> None:
    entries = [
        entry
        for entry in catalog.datasets.values()
        if entry.kind == "retrieval" and entry.needs and entry.key != "fashion_mnist_retrieval"
    ]
    assert {entry.key for entry in entries} == MINIATURES.keys()
    for entry in entries:
        assert all((entry.obtain, entry.licence, entry.note)), entry.key


@pytest.mark.parametrize("key", MINIATURES)
def test_nothing_is_decoded_on_loading(key: str, root: Path, catalog: Catalog) -> None:
    """Files that are no images load; reading them is what fails."""
    update, _ = MINIATURES[key](root)
    whole = loaded(small(catalog, key, **update))
    for path in root.rglob("*"):
        if path.suffix in (".jpg", ".png"):
            path.write_bytes(b"not an image")
    data = loaded(small(catalog, key, **update))
    assert len(data.database) == len(whole.database)
    assert data.sha256 != whole.sha256
    trouble = data.queries.attempt(0)[1]
    assert trouble is not None
    assert "cannot identify" in trouble.text


def test_without_the_data_the_case_is_skipped(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_suite="import pytest\n\n@pytest.mark.retrieval\n"
        "def test_retrieval(case, battle):\n    battle(case)\n"
    )
    names = [word for key in MINIATURES for word in ("--dataset", key)]
    result = project.runpytest("--scale", "smoke", "--backbone", "swin_micro_glyphs", "-rs", *names)
    result.assert_outcomes(skipped=8)
    text = " ".join(result.stdout.str().split())
    for told in (
        "CUB_200_2011.tgz of https://www.vision.caltech.edu", "objectnet-1.0.zip of",
        "123.57.42.89/instre", "val.tar.gz of", "oxbuild_images-v1.tgz of", "paris_2-v1.tgz of",
        "no gldv2/index or gldv2/database", "copydays_strong.tar.gz into copydays/strong",
        "`bob datasets get cub200` fetches what it can; by hand: Unpack",
    ):  # fmt: skip
        assert told in text, told
    assert "bob datasets get objectnet" not in text


# --- class folders ------------------------------------------------------------------------------


def test_class_folders_that_cannot_be_right(root: Path, catalog: Catalog) -> None:
    place = root / "CUB_200_2011" / "images"
    place.mkdir(parents=True)
    (place / "README.txt").touch()
    entry = small(catalog, "cub200", classes=1)
    with pytest.raises(BobError, match="holds no class folders"):
        load_dataset(entry)
    (place / "001.Empty").mkdir()
    with pytest.raises(BobError, match=r"001\.Empty holds no image"):
        load_dataset(entry)
    photograph(place / "001.Empty" / "only.jpg", 0)
    with pytest.raises(BobError, match="No class has images enough for a query"):
        load_dataset(entry)


def test_a_wrong_number_of_classes_is_told_even_where_queries_are_not_counted(
    root: Path, catalog: Catalog
) -> None:
    cub(root)
    with pytest.raises(BobError, match="has 3 classes and 3 test images; its entry says 200 and 3"):
        load_dataset(catalog.dataset("cub200"))


def test_a_reference_counts_queries_that_the_entry_does_not(
    root: Path, tmp_path: Path, catalog: Catalog, case: Case, context: Context
) -> None:
    update, _ = cub(root)
    small_case = replace(case, dataset=small(catalog, "cub200", **update))
    results = [run_case(small_case.with_seed(seed), context) for seed in (1000, 1001)]
    store = ReferenceStore(tmp_path / "references")
    assert "beats chance" in Gate(store).judge(small_case, results[:1]).reason
    _, reference = store.write(small_case, results)
    assert reference.test_size == 3


# --- Oxford and Paris ---------------------------------------------------------------------------


def test_images_are_reduced_as_the_papers_authors_do(root: Path, catalog: Catalog) -> None:
    update, _ = revisited(root, key="roxford5k")
    options = catalog.dataset("roxford5k").options
    plain = loaded(small(catalog, "roxford5k", **update))
    assert plain.queries.pil(0).size == (224, 194)
    assert plain.database.pil(0).size == (224, 194)
    whole = loaded(small(catalog, "roxford5k", **update, options={**options, "thumbnail": 0}))
    assert whole.queries.pil(0).size == (300, 260)
    by_hand = Image.open(root / "roxford5k" / "jpg" / "hall_000100.jpg").convert("RGB")
    by_hand.thumbnail((224, 224), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(plain.queries.pil(0)), np.asarray(by_hand))
    cropped = loaded(
        small(catalog, "roxford5k", **update, options={**options, "thumbnail": 0, "crop": True})
    )
    assert cropped.queries.pil(0).size == (26, 24)
    assert cropped.database.pil(0).size == (300, 260)
    assert len({data.queries.digest for data in (plain, whole, cropped)}) == 3


def test_a_thumbnail_of_any_mode_and_size(tmp_path: Path) -> None:
    Image.new("P", (500, 100), 3).save(tmp_path / "palette.png")
    Image.new("L", (20, 30)).save(tmp_path / "small.png")
    names = ["palette.png", "small.png"]
    split = ImageSplit(source=Seen(Files(tmp_path, names), 224), targets=torch.zeros(2).long())
    assert [split.pil(index).size for index in range(2)] == [(224, 45), (20, 30)]


@pytest.mark.parametrize("name", ["hall_000100", "hall_000003"])
def test_a_missing_image_is_named(
    name: str, root: Path, catalog: Catalog, case: Case, context: Context
) -> None:
    update, _ = revisited(root, key="roxford5k")
    (root / "roxford5k" / "jpg" / f"{name}.jpg").unlink()
    failure = run_case(
        replace(case, dataset=small(catalog, "roxford5k", **update)), context
    ).failure
    assert failure is not None
    assert failure.kind == "dataset"
    assert str(root / "roxford5k" / "jpg" / f"{name}.jpg") in failure.message
    assert ("queries" if name == "hall_000100" else "database") in failure.message


def test_settings_that_no_query_answers(
    root: Path, catalog: Catalog, case: Case, context: Context
) -> None:
    nothing = {"easy": [], "hard": [], "junk": []}
    content = {**REVISITED, "gnd": [{**nothing, "easy": [0, 2]}, nothing]}
    update, _ = revisited(root, key="roxford5k", content=content)
    entry = small(catalog, "roxford5k", **update)
    result = run_case(replace(case, dataset=entry), context)
    assert result.failure is None, result.failure
    assert result.metrics["queries_without_positives"] == 1
    assert result.metrics["map_easy"] == result.metrics["map_medium"] == result.metrics["map"]
    assert "map_hard" not in result.metrics
    hard = case.recipe.model_copy(update={"setting": "hard"})
    failure = run_case(replace(case, dataset=entry, recipe=hard), context).failure
    assert failure is not None
    assert (failure.kind, failure.traceback) == ("dataset", "")
    assert "None of the 2 queries has a positive" in failure.message


# --- landmarks ----------------------------------------------------------------------------------


def test_the_authors_flat_folders_are_the_same_data(root: Path, catalog: Catalog) -> None:
    update, (queries, database, easy, *_) = landmarks(root, flat=True)
    data = loaded(small(catalog, "gldv2", **update))
    assert (names_of(data.queries), names_of(data.database)) == (queries, database)
    assert [entry.easy.tolist() for entry in data.relevance] == easy
    assert data.class_names == (ASKED[0], ASKED[2])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "names no index image"),
        ("id,landmarks\n", r"v2\.1\.csv:1: expected the columns id, images and Usage"),
        (SOLUTION + "one,two\n", r"v2\.1\.csv:5: expected the columns"),
        (SOLUTION + "../x,None,Ignored\n", r"v2\.1\.csv:5: expected the columns"),
        ("id,images,Usage\n1111111111111111,None,Ignored\n", "names no index image for any query"),
        (SOLUTION.replace(INDEX[2], "feed"), r"index lacks feed\.jpg, .* query 1111111111111111"),
        (SOLUTION.replace(ASKED[0], "3333"), r"No file .*test/3/3/3/3333\.jpg of query 3333"),
    ],
)
def test_a_solution_that_does_not_fit(text: str, told: str, root: Path, catalog: Catalog) -> None:
    update, _ = landmarks(root)
    (root / "gldv2" / "retrieval_solution_v2.1.csv").write_text(text)
    with pytest.raises(BobError, match=told) as caught:
        load_dataset(small(catalog, "gldv2", **update))
    assert caught.value.kind == "dataset"


def test_long_answers_are_read_whole(root: Path, catalog: Catalog) -> None:
    """The csv module refuses fields of more than 131,072 characters."""
    update, _ = landmarks(root)
    answer = " ".join([INDEX[2]] * 10_000)
    file = root / "gldv2" / "retrieval_solution_v2.1.csv"
    file.write_text(SOLUTION.replace(INDEX[2], answer))
    data = loaded(small(catalog, "gldv2", **update))
    assert data.relevance[0].easy.tolist() == [2]


# --- copies -------------------------------------------------------------------------------------


def test_other_copies_are_an_option(root: Path, catalog: Catalog) -> None:
    update, _ = copydays(root)
    for queries, count in (("jpegqual/3", 3), ("jpegqual", 6)):
        options = {"folder": "copydays", "queries": queries}
        entry = small(catalog, "copydays", **{**update, "test_size": count}, options=options)
        data = loaded(entry)
        assert [entry.easy.tolist() for entry in data.relevance] == [[0], [1], [2]] * (count // 3)
        assert data.sha256 != loaded(small(catalog, "copydays", **update)).sha256
    with pytest.raises(BobError, match="holds no copydays/crops") as caught:
        load_dataset(entry.model_copy(update={"options": {**options, "queries": "crops"}}))
    assert caught.value.kind == "unavailable"


def test_copies_that_cannot_be_placed(root: Path, catalog: Catalog) -> None:
    update, _ = copydays(root)
    entry = small(catalog, "copydays", **update)
    photograph(root / "copydays" / "strong" / "200301.jpg", 3)
    with pytest.raises(BobError, match=r"200301\.jpg is a copy of .*200300\.jpg, which is not"):
        load_dataset(entry)
    (root / "copydays" / "strong" / "200301.jpg").rename(root / "copydays" / "strong" / "x.jpg")
    with pytest.raises(BobError, match=r"strong/x\.jpg has no name of six digits"):
        load_dataset(entry)
    for file in (root / "copydays" / "strong").iterdir():
        file.unlink()
    (root / "copydays" / "strong" / "README.txt").touch()
    with pytest.raises(BobError, match="strong holds no image"):
        load_dataset(entry)
