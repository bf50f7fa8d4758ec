"""Retrieval datasets in their official layouts, in miniature."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bob.catalog import Catalog, DatasetEntry
from bob.datasets import RetrievalData, load_dataset

Lists = list[list[int]]


Expected = tuple[list[str], list[str], Lists, Lists, Lists]


"""Names of queries and database; easy, hard and junk positions of each query."""


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
    queries, database = ([f"{name}.jpg" for name in REVISITED[of]] for of in ("qimlist", "imlist"))
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
    def path(image_id: str) -> str:
        return (
            f"{image_id}.jpg"
            if flat
            else f"{image_id[0]}/{image_id[1]}/{image_id[2]}/{image_id}.jpg"
        )

    query, database = ("query", "database") if flat else ("test", "index")
    for look, image_id in zip((0, 1, 2, 0), INDEX, strict=True):
        photograph(root / "gldv2" / database / path(image_id), look, variant=1)
    for look, image_id in zip((2, 0), (ASKED[0], ASKED[2]), strict=True):
        photograph(root / "gldv2" / query / path(image_id), look, variant=2)
    (root / "gldv2" / "retrieval_solution_v2.1.csv").write_text(SOLUTION)
    names = [path(ASKED[0]), path(ASKED[2])], [path(image_id) for image_id in INDEX]
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
