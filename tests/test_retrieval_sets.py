"""The paper's retrieval datasets, as miniatures in their official layouts."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bob.case import Case, Context
from bob.catalog import Catalog, DatasetEntry
from bob.datasets import RetrievalData, load_dataset
from bob.datasets.images import Files, ImageSplit
from bob.datasets.retrieval_sets.parts import Seen
from bob.datasets.retrieval_sets.plain_pickle import read_plain_pickle
from bob.errors import BobError
from bob.plan import Plan, Selection
from bob.references.judge import Gate
from bob.references.store import ReferenceStore
from bob.run import run_case

Lists = list[list[int]]
Expected = tuple[list[str], list[str], Lists, Lists, Lists]
"""Names of queries and database; easy, hard and junk positions of each query."""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("BOB_DATA", str(folder))
    return folder


def photograph(
    path: Path, look: int, *, size: tuple[int, int] = (40, 32), variant: int = 0
) -> None:
    """Shapes that are one look's own, under light that differs by variant."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shapes = np.random.default_rng(look).integers(0, 2, (4, 5, 1)) * 200
    light = 20 + np.random.default_rng(1000 * look + variant).integers(0, 30, (4, 5, 1))
    image = Image.fromarray(np.repeat(shapes + light, 3, axis=2).astype(np.uint8))
    image.resize(size, Image.Resampling.NEAREST).save(path, quality=95)


def small(catalog: Catalog, key: str, **update: Any) -> DatasetEntry:
    return catalog.dataset(key).model_copy(update={"train_size": None, **update})


def loaded(entry: DatasetEntry) -> RetrievalData:
    data = load_dataset(entry)
    assert isinstance(data, RetrievalData)
    return data


# --- miniatures ---------------------------------------------------------------------------------


def class_folders(root: Path, *, place: str, suffix: str, counts: dict[str, int]) -> None:
    for look, (name, count) in enumerate(counts.items()):
        for number in range(1, count + 1):
            photograph(root / place / name / f"{number:03d}{suffix}", look, variant=number)
            if "INSTRE" in place:
                (root / place / name / f"{number:03d}.txt").write_text("1 2 30 30")
        (root / place / name / "._001.jpg").write_bytes(b"of another file system")
    (root / place / ".DS_Store").mkdir()


def cub(root: Path) -> tuple[dict[str, Any], Expected]:
    counts = {"001.Black_footed_Albatross": 11, "002.Laysan_Albatross": 9, "003.Sooty": 4}
    class_folders(root, place="CUB_200_2011/images", suffix=".jpg", counts=counts)
    first, second, third = counts
    database = [
        *(f"{first}/{number:03d}.jpg" for number in range(3, 12)),
        *(f"{second}/{number:03d}.jpg" for number in range(2, 10)),
        *(f"{third}/{number:03d}.jpg" for number in range(1, 5)),
    ]
    queries = [f"{first}/001.jpg", f"{first}/002.jpg", f"{second}/001.jpg"]
    easy = [list(range(9)), list(range(9)), list(range(9, 17))]
    return {"classes": 3}, (queries, database, easy, [[]] * 3, [[]] * 3)


def capped(
    root: Path, *, place: str, suffix: str, cap: int, names: tuple[str, str]
) -> tuple[dict[str, Any], Expected]:
    """One class of more images than the cap, one of five."""
    class_folders(root, place=place, suffix=suffix, counts={names[0]: cap + 3, names[1]: 5})
    cut = cap // 5
    queries = [f"{names[0]}/{number:03d}{suffix}" for number in range(1, cut + 1)]
    database = [f"{names[0]}/{number:03d}{suffix}" for number in range(cut + 1, cap + 1)]
    easy = [list(range(cap - cut))] * cut + [list(range(cap - cut, cap - cut + 4))]
    database += [f"{names[1]}/{number:03d}{suffix}" for number in range(2, 6)]
    queries.append(f"{names[1]}/001{suffix}")
    none: Lists = [[]] * len(queries)
    update = {"classes": 2, "test_size": len(queries)}
    return update, (queries, database, easy, none, none)


REVISITED = {
    "imlist": [f"hall_00000{number}" for number in range(8)],
    "qimlist": ["hall_000100", "tower_000200"],
    "gnd": [
        {
            "bbx": [4.0, 2.0, 30.4, 26.0],
            "easy": np.array([2, 0], dtype=np.int64),
            "hard": np.array([5]),
            "junk": np.array([7]),
        },
        {"bbx": np.array([0.0, 0.0, 20.0, 20.0]), "easy": [], "hard": [1, 3], "junk": []},
    ],
}
LOOKS = (0, 1, 0, 1, 2, 0, 3, 0)


def revisited(
    root: Path, *, key: str, content: Any = REVISITED, protocol: int = 2
) -> tuple[dict[str, Any], Expected]:
    for name, look in zip(REVISITED["imlist"], LOOKS, strict=True):
        photograph(root / key / "jpg" / f"{name}.jpg", look, size=(300, 260), variant=1)
    for look, name in enumerate(REVISITED["qimlist"]):
        photograph(root / key / "jpg" / f"{name}.jpg", look, size=(300, 260), variant=9)
    file = root / key / f"gnd_{key}.pkl"
    file.write_bytes(pickle.dumps(content, protocol=protocol))
    queries, database = ([f"{one}.jpg" for one in REVISITED[of]] for of in ("qimlist", "imlist"))
    return {"classes": 2, "test_size": 2}, (
        queries, database, [[0, 2], []], [[5], [1, 3]], [[7], []],
    )  # fmt: skip


INDEX = ("0a1b2c3d4e5f6071", "0a1fffffffffffff", "90cccccccccccccc", "f00d00d00d00d00d")
ASKED = ("1111111111111111", "2222222222222222", "abcabcabcabcabca")
SOLUTION = (
    "id,images,Usage\n"
    f"{ASKED[2]},{INDEX[3]} {INDEX[0]},Private\n"
    f"{ASKED[1]},None,Ignored\n"
    f"{ASKED[0]},{INDEX[2]},Public\n"
)


def landmarks(root: Path, *, flat: bool = False) -> tuple[dict[str, Any], Expected]:
    def path(one: str) -> str:
        return f"{one}.jpg" if flat else f"{one[0]}/{one[1]}/{one[2]}/{one}.jpg"

    query, database = ("query", "database") if flat else ("test", "index")
    for look, one in zip((0, 1, 2, 0), INDEX, strict=True):
        photograph(root / "gldv2" / database / path(one), look, variant=1)
    for look, one in zip((2, 0), (ASKED[0], ASKED[2]), strict=True):
        photograph(root / "gldv2" / query / path(one), look, variant=2)
    (root / "gldv2" / "retrieval_solution_v2.1.csv").write_text(SOLUTION)
    names = [path(ASKED[0]), path(ASKED[2])], [path(one) for one in INDEX]
    return {"classes": 2, "test_size": 2}, (*names, [[2], [0, 3]], [[]] * 2, [[]] * 2)


def copydays(root: Path) -> tuple[dict[str, Any], Expected]:
    folder = root / "copydays"
    for look, block in enumerate(("2000", "2001", "2002")):
        photograph(folder / "original" / f"{block}00.jpg", look)
        photograph(folder / "jpegqual" / "3" / f"{block}00.jpg", look, variant=3)
        photograph(folder / "jpegqual" / "75" / f"{block}00.jpg", look, variant=4)
    for name, look in (("200001", 0), ("200002", 0), ("200201", 2)):
        photograph(folder / "strong" / f"{name}.jpg", look, variant=2)
    return {"classes": 3, "test_size": 3}, (
        ["200001.jpg", "200002.jpg", "200201.jpg"],
        ["200000.jpg", "200100.jpg", "200200.jpg"],
        [[0], [0], [2]], [[]] * 3, [[]] * 3,
    )  # fmt: skip


MINIATURES: dict[str, Callable[[Path], tuple[dict[str, Any], Expected]]] = {
    "cub200": cub,
    "objectnet": partial(
        capped, place="objectnet-1.0/images", suffix=".png", cap=50, names=("air_freshener", "wok")
    ),
    "instre": partial(
        capped, place="INSTRE/INSTRE-S1", suffix=".jpg", cap=50, names=("01a_canada", "47b_fish")
    ),
    "inat_retrieval": partial(
        capped,
        place="inat2021/val",
        suffix=".jpg",
        cap=5,
        names=("00000_Animalia", "00001_Plantae"),
    ),
    "roxford5k": partial(revisited, key="roxford5k"),
    "rparis6k": partial(revisited, key="rparis6k", protocol=5),
    "gldv2": landmarks,
    "copydays": copydays,
}


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
        assert [getattr(one, grade).tolist() for one in data.relevance] == positions, grade
    assert data.graded == (key in ("roxford5k", "rparis6k"))
    assert loaded(entry).sha256 == data.sha256

    result = run_case(replace(case, dataset=entry), context)
    assert result.failure is None, result.failure
    assert not result.remarks
    assert result.metrics["queries"] == result.test_size == len(queries)
    assert result.metrics["images_extracted"] == len(queries) + len(database)
    assert result.metrics["map"] > 0.8
    assert ("map_hard" in result.metrics) == data.graded
    assert {"ranking.csv", "retrieval.png"} <= result.files.keys()


def test_the_catalog_covers_the_paper(catalog: Catalog) -> None:
    entries = [one for one in catalog.datasets.values() if one.kind == "retrieval" and one.needs]
    assert {one.key for one in entries} == MINIATURES.keys()
    for one in entries:
        assert all((one.obtain, one.licence, one.note)), one.key


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
    assert "cannot identify" in data.queries.attempt(0)[1]


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
        "123.57.42.89/instre", "val.tar.gz of", "oxbuild_images.tgz of", "paris_2.tgz of",
        "no gldv2/index or gldv2/database", "copydays_strong.tar.gz into copydays/strong",
    ):  # fmt: skip
        assert told in text, told


# --- class folders ------------------------------------------------------------------------------


def test_class_folders_that_cannot_be_right(root: Path, catalog: Catalog) -> None:
    place = root / "CUB_200_2011" / "images"
    place.mkdir(parents=True)
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
    one = replace(case, dataset=small(catalog, "cub200", **update))
    results = [run_case(one.with_seed(seed), context) for seed in (1000, 1001)]
    store = ReferenceStore(tmp_path / "references")
    assert "beats chance" in Gate(store).judge(one, results[:1]).reason
    _, reference = store.write(one, results)
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
    assert len({one.queries.digest for one in (plain, whole, cropped)}) == 3


def test_a_thumbnail_of_any_mode_and_size(tmp_path: Path) -> None:
    Image.new("P", (500, 100), 3).save(tmp_path / "palette.png")
    Image.new("L", (20, 30)).save(tmp_path / "small.png")
    names = ["palette.png", "small.png"]
    split = ImageSplit(source=Seen(Files(tmp_path, names), 224), targets=torch.zeros(2).long())
    assert [split.pil(index).size for index in range(2)] == [(224, 45), (20, 30)]


class _Calls:
    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.pair = (call, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.pair


def hostile(tmp_path: Path) -> dict[str, tuple[bytes, str]]:
    mark = f"touch {tmp_path / 'ran'}"
    attribute = (
        b"\x80\x04cnumpy._core.numeric\n_frombuffer\nN}\x8c\x08_callingX\x01\x00\x00\x00xs\x86b."
    )
    return {
        "a command": (pickle.dumps(_Calls(os.system, mark)), "posix.system"),
        "code": (
            pickle.dumps({**REVISITED, "more": _Calls(eval, f"__import__('os').system({mark!r})")}),
            "builtins.eval",
        ),
        "a function of numpy": (pickle.dumps(_Calls(np.load, str(tmp_path))), "numpy.load"),
        "a class": (pickle.dumps([Path("x")]), "pathlib"),
        "an attribute of numpy": (
            b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", r"numpy\.ndarray\.tofile"),
        "a persistent object": (b"Pelsewhere\n.", "persistent object 'elsewhere'"),
        "another codec": (
            b"c_codecs\nencode\n(X\x02\x00\x00\x00hiX\x05\x00\x00\x00rot13tR.", "codec 'rot13'"),
        "changes to a function": (attribute, "no attribute '_calling' may be set"),
    }  # fmt: skip


@pytest.mark.parametrize("what", hostile(Path()))
def test_a_pickle_that_is_more_than_data_is_refused(
    what: str, root: Path, tmp_path: Path, catalog: Catalog
) -> None:
    update, _ = revisited(root, key="roxford5k")
    content, named = hostile(tmp_path)[what]
    file = root / "roxford5k" / "gnd_roxford5k.pkl"
    file.write_bytes(content)
    with pytest.raises(BobError, match=named) as caught:
        load_dataset(small(catalog, "roxford5k", **update))
    assert str(file) in str(caught.value)
    assert caught.value.kind == "dataset"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_of_every_protocol_are_read(protocol: int, tmp_path: Path) -> None:
    content = {
        "floats": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "scalar": np.int64(7),
        "objects": np.array(["a", None], dtype=object),
        "words": np.array(["one", "two"]),
        "nested": [("x", {1: 2}), b"\xff\x00", 1.5, True],
    }
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    read = read_plain_pickle(tmp_path / "file.pkl")
    assert read.keys() == content.keys()
    for key in ("floats", "fortran", "scalar", "objects", "words"):
        np.testing.assert_array_equal(read[key], content[key])
    assert read["nested"] == content["nested"]
    # NumPy before 2 names its modules otherwise.
    older = pickle.dumps(content, protocol=0).replace(b"numpy._core", b"numpy.core")
    (tmp_path / "file.pkl").write_bytes(older)
    assert np.array_equal(read_plain_pickle(tmp_path / "file.pkl")["floats"], content["floats"])


def changed(**entry: Any) -> dict[str, Any]:
    return {**REVISITED, "gnd": [{**REVISITED["gnd"][0], **entry}, REVISITED["gnd"][1]]}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([1, 2], "no dictionary with imlist, qimlist and gnd"),
        ({**REVISITED, "gnd": REVISITED["gnd"][:1]}, "one entry for each of 2 queries"),
        ({**REVISITED, "gnd": [{"ok": [1], "junk": []}] * 2}, r"gnd\[0\] does not grade"),
        ({**REVISITED, "imlist": "hall"}, "imlist is no list of image names"),
        ({**REVISITED, "qimlist": ["a", "../../b"]}, r"qimlist holds '\.\./\.\./b'"),
        (changed(easy=[8]), r"gnd\[0\]\['easy'\] is no list of positions among 8 images"),
        (changed(junk=[-1]), r"gnd\[0\]\['junk'\] is no list of positions"),
        (changed(hard=[0.5]), r"gnd\[0\]\['hard'\] is no list of positions"),
        (changed(hard=[[1], [2, 3]]), r"gnd\[0\]\['hard'\] is no list of positions"),
        (changed(bbx=[1, 2, 3]), r"gnd\[0\]\['bbx'\] is no box of four numbers"),
        (changed(bbx=[5, 5, 5, 9]), r"gnd\[0\]\['bbx'\] is a box without area"),
        (changed(bbx=[0, 0, float("nan"), 9]), r"gnd\[0\]\['bbx'\] is a box without area"),
    ],
)
def test_a_malformed_ground_truth_names_the_place(
    content: Any, told: str, root: Path, catalog: Catalog
) -> None:
    update, _ = revisited(root, key="rparis6k", content=content)
    with pytest.raises(BobError, match=told) as caught:
        load_dataset(small(catalog, "rparis6k", **update))
    assert "gnd_rparis6k.pkl" in str(caught.value)


def test_a_cut_pickle_is_no_ground_truth(root: Path, catalog: Catalog) -> None:
    update, _ = revisited(root, key="rparis6k")
    file = root / "rparis6k" / "gnd_rparis6k.pkl"
    for content in (file.read_bytes()[:-20], b"", b"<html>not found</html>"):
        file.write_bytes(content)
        with pytest.raises(BobError, match="is not a whole pickle"):
            load_dataset(small(catalog, "rparis6k", **update))


def test_crop_needs_boxes(root: Path, catalog: Catalog) -> None:
    bare = [{key: one[key] for key in ("easy", "hard", "junk")} for one in REVISITED["gnd"]]
    update, _ = revisited(root, key="roxford5k", content={**REVISITED, "gnd": bare})
    load_dataset(small(catalog, "roxford5k", **update))
    options = {**catalog.dataset("roxford5k").options, "crop": True}
    with pytest.raises(BobError, match="no box"):
        load_dataset(small(catalog, "roxford5k", **update, options=options))


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
    assert [one.easy.tolist() for one in data.relevance] == easy
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
    many = " ".join([INDEX[2]] * 10_000)
    file = root / "gldv2" / "retrieval_solution_v2.1.csv"
    file.write_text(SOLUTION.replace(INDEX[2], many))
    data = loaded(small(catalog, "gldv2", **update))
    assert data.relevance[0].easy.tolist() == [2]


# --- copies -------------------------------------------------------------------------------------


def test_other_copies_are_an_option(root: Path, catalog: Catalog) -> None:
    update, _ = copydays(root)
    for queries, count in (("jpegqual/3", 3), ("jpegqual", 6)):
        options = {"folder": "copydays", "queries": queries}
        entry = small(catalog, "copydays", **{**update, "test_size": count}, options=options)
        data = loaded(entry)
        assert [one.easy.tolist() for one in data.relevance] == [[0], [1], [2]] * (count // 3)
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
    with pytest.raises(BobError, match="strong holds no image"):
        load_dataset(entry)
