"""Every dataset of the catalog that has a plain address, fetched from a mirror and loaded.

Each is built in miniature in its owner's layout, packed as its owner packs it, and served under
its owner's address.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bob.catalog import Catalog, DatasetEntry, load_catalog
from bob.catalog.download import RemoteFile
from bob.cli import main
from bob.cli.datasets import state_of
from bob.datasets import RetrievalData, load_dataset
from bob.datasets.scenes import Glyphs, write_split
from bob.fetching import Wanted, fetch_all, planned
from bob.fetching.fetch import fetch
from tests import miniatures
from tests.file_server import FileServer, serving
from tests.miniatures import BUILDERS, SHARES
from tests.retrieval_layouts import MINIATURES
from tests.test_laptop import write_idx
from tests.test_library import SHIFTS, small

FASHION = ("fashion_mnist", "fashion_mnist_1k", "fashion_mnist_5k", "fashion_mnist_retrieval")
CLASSES = (
    "cifar10", "cifar100", "flowers102", "flowers102_paper", "aircraft", "eurosat", "inat2019",
    "inat2021", "inat2021_mini", "semi_inat", "visda2017", "dtd", "pets", "food101", "sun397",
    "pcam",
)  # fmt: skip
RETRIEVAL = ("cub200", "roxford5k", "rparis6k", "inat_retrieval", "gldv2", "copydays")
LISTS = ("imagenet_1pct", "imagenet_10pct")
SHIFTED = (*SHIFTS, "imagenet_ood", "imagenet_val_ood")
BY_HAND = {
    "imagenet": "image-net.org/download", "imagenet_val": "image-net.org/download",
    "chexpert": "stanfordmlgroup.github.io", "cars": "no plain address",
    "objectnet": "https://objectnet.dev", "instre": "http://123.57.42.89/instre",
    "sim10k_cityscapes": "https://www.cityscapes-dataset.com/login",
}  # fmt: skip


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A mirror of every owner's address."""
    with serving() as started:
        monkeypatch.setenv("BOB_MIRROR", started.url)
        yield started


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Where a miniature is built: not in the data root."""
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def test_no_dataset_is_left_out() -> None:
    entries = load_catalog().datasets.values()
    offered = {entry.key for entry in entries if entry.download and entry.download.files}
    tested = {*CLASSES, *RETRIEVAL, *LISTS, *SHIFTED, *FASHION, *SHARES, "coco"}
    assert offered == tested
    whole = load_catalog().dataset
    assert all(whole(share).download == whole(key).download for share, key in SHARES.items())
    needing = {entry.key for entry in entries if entry.needs}
    assert needing == tested | BY_HAND.keys()


def served(
    entry: DatasetEntry, source: Path, root: Path, server: FileServer,
    tops: Callable[[Wanted], list[str]] | None = None,
) -> DatasetEntry:  # fmt: skip
    """Put a miniature on the server; the entry with the digests and sizes of its archives."""
    assert entry.download is not None
    files = []
    for file in entry.download.files:
        local = file.model_copy(update={"gives": tuple(map(_local, file.gives))})
        alone = entry.model_copy(
            update={"download": entry.download.model_copy(update={"files": (local,)})}
        )
        for wanted in planned(alone).files:
            base = source / wanted.to.relative_to(root)
            content = packed(base, (tops or _tops)(wanted), wanted.name, flat=wanted.flatten)
            server.files[wanted.urls[0].removeprefix(server.url)] = content
            if wanted.md5_url:
                text = f"{_digest('md5', content)}  {wanted.name}\n".encode()
                server.files[wanted.md5_url.removeprefix(server.url)] = text
        files.append(_facts(local, content))
    return entry.model_copy(
        update={"download": entry.download.model_copy(update={"files": tuple(files)})}
    )


def _local(ways: str) -> str:
    """Without folders of this machine's own packages."""
    return "|".join(way for way in ways.split("|") if not way.startswith("/"))


def _facts(file: RemoteFile, content: bytes) -> RemoteFile:
    """Digests and size of the miniature wherever those of the real file are stated."""
    if file.count > 1:
        return file
    stated = file.md5 or file.torchvision
    return file.model_copy(
        update={
            "md5": _digest("md5", content) if stated else "",
            "sha256": _digest("sha256", content) if file.sha256 else "",
            "bytes": len(content) if file.bytes else None,
        }
    )


def _digest(kind: str, content: bytes) -> str:
    return hashlib.new(kind, content, usedforsecurity=False).hexdigest()


def _tops(wanted: Wanted) -> list[str]:
    """What an archive holds at its top, so that it gives what it promises."""
    gives = [
        path.relative_to(wanted.to)
        for ways in wanted.gives
        for path in ways
        if path.is_relative_to(wanted.to)
    ]
    return sorted({give.parts[0] if give.parts else "." for give in gives})


def packed(base: Path, tops: list[str], name: str, *, flat: bool) -> bytes:
    """Files and folders of a folder as the ending of a name says; deep ones if they are to be flat.

    ``paris_1-v1.tgz`` holds its photographs in a folder for each place.
    """
    paths = [base / top for top in tops if (base / top).exists()]
    assert paths, f"{name} would hold none of {tops}"
    stream = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(stream, "w") as archive:
            for top in paths:
                for path in sorted([top, *top.rglob("*")]):
                    archive.write(path, path.relative_to(base))
    elif ".tar" in name or name.endswith(".tgz"):
        with tarfile.open(fileobj=stream, mode="w" if name.endswith(".tar") else "w:gz") as tape:
            for top in paths:
                inside = top.relative_to(base).as_posix()
                tape.add(top, f"paris/{inside}" if flat and name.startswith("paris") else inside)
    else:
        content = paths[0].read_bytes()
        return gzip.compress(content) if name.endswith(".gz") else content
    return stream.getvalue()


def got(entry: DatasetEntry) -> DatasetEntry:
    """Fetch a dataset; it is listed as present and has nothing left to fetch."""
    assert state_of(entry) == "missing"
    lacking = fetch_all([entry], say=print, told=lambda done, length: None, ask=None)
    assert lacking == {}
    assert state_of(entry) == "present"
    assert planned(entry).files == ()
    return entry


@pytest.mark.parametrize("key", CLASSES)
def test_classes(
    key: str, root: Path, source: Path, catalog: Catalog, server: FileServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    mini = BUILDERS[key](source, monkeypatch)
    if key == "inat2021_mini":  # built as torchvision names it; the owner's archives say otherwise
        for ours, theirs in (("2021_train_mini", "train_mini"), ("2021_valid", "val")):
            (source / "inat2021" / ours).rename(source / "inat2021" / theirs)
    entry = got(served(small(catalog.dataset(key), mini), source, root, server))
    data = load_dataset(entry)
    assert data.train.targets.tolist() == list(mini.train)  # type: ignore[union-attr]
    assert data.test.targets.tolist() == list(mini.test)  # type: ignore[union-attr]


@pytest.mark.parametrize("key", [key for key in RETRIEVAL if key not in ("gldv2", "rparis6k")])
def test_retrieval(
    key: str, root: Path, source: Path, catalog: Catalog, server: FileServer
) -> None:
    update, expected = MINIATURES[key](source)
    whole = catalog.dataset(key).model_copy(update={"train_size": None, **update})
    data = load_dataset(got(served(whole, source, root, server)))
    assert isinstance(data, RetrievalData)
    assert (len(data.queries), len(data.database)) == tuple(map(len, expected[:2]))


def test_an_archive_in_two_parts(
    root: Path, source: Path, catalog: Catalog, server: FileServer
) -> None:
    update, expected = MINIATURES["rparis6k"](source)
    whole = catalog.dataset("rparis6k").model_copy(update={"train_size": None, **update})
    photographs = sorted(path.name for path in (source / "rparis6k/jpg").iterdir())

    def halves(wanted: Wanted) -> list[str]:
        if wanted.flatten:
            return photographs[wanted.name.startswith("paris_1") :: 2]
        return _tops(wanted)

    data = load_dataset(got(served(whole, source, root, server, halves)))
    assert isinstance(data, RetrievalData)
    assert (len(data.queries), len(data.database)) == tuple(map(len, expected[:2]))


def landmarks(
    root: Path, source: Path, catalog: Catalog, server: FileServer
) -> tuple[DatasetEntry, int]:
    """Google Landmarks with two and three archives in place of 20 and 100; its database's size."""
    update, expected = MINIATURES["gldv2"](source)
    whole = catalog.dataset("gldv2").model_copy(update={"train_size": None, **update})
    assert whole.download is not None
    counts = {"gldv2/test": 2, "gldv2/index": 3}
    files = tuple(
        file.model_copy(update={"count": counts.get(file.to, 1)}) for file in whole.download.files
    )
    less = whole.model_copy(update={"download": whole.download.model_copy(update={"files": files})})
    missing = [wanted.name for wanted in planned(catalog.dataset("gldv2")).files]
    assert len(missing) == 121
    assert "images_099.tar" in missing

    def share(wanted: Wanted) -> list[str]:
        if not wanted.part:
            return _tops(wanted)
        folder = source / wanted.to.relative_to(root)
        images = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))
        return images[int(wanted.name[7:10]) :: counts[wanted.to.relative_to(root).as_posix()]]

    return served(less, source, root, server, share), len(expected[1])


def test_a_hundred_archives_are_checked_by_their_own_lists(
    root: Path, source: Path, catalog: Catalog, server: FileServer
) -> None:
    entry, count = landmarks(root, source, catalog, server)
    mirrored = "/s3.amazonaws.com/google-landmark"
    whole = server.files[f"{mirrored}/index/images_002.tar"]
    server.files[f"{mirrored}/index/images_002.tar"] = whole[:-1] + b"x"
    lacking = fetch_all([entry], say=print, told=lambda done, length: None, ask=None)
    assert "its md5 is" in lacking["gldv2"]
    server.files[f"{mirrored}/index/images_002.tar"] = whole
    list_file = server.files.pop(f"{mirrored}/md5sum/index/md5.images_002.txt")
    lacking = fetch_all([entry], say=print, told=lambda done, length: None, ask=None)
    assert "Cannot check what is to be fetched" in lacking["gldv2"]
    server.files[f"{mirrored}/md5sum/index/md5.images_002.txt"] = list_file
    server.asked.clear()
    lacking = fetch_all([entry], say=print, told=lambda done, length: None, ask=None)
    assert lacking == {}
    # the parts that were there already were not fetched again
    assert [path for path, _ in server.asked] == [
        f"{mirrored}/md5sum/index/md5.images_002.txt", f"{mirrored}/index/images_002.tar",
    ]  # fmt: skip
    data = load_dataset(entry)
    assert isinstance(data, RetrievalData)
    assert len(data.database) == count


@pytest.mark.parametrize("key", SHIFTED)
def test_variants_of_imagenet(
    key: str, root: Path, source: Path, tmp_path: Path, catalog: Catalog, server: FileServer,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    mini = miniatures.imagenet_shifted(source, *(SHIFTS if key in SHIFTED[-2:] else [key]))
    entry = small(catalog.dataset(key), mini, complete=False)
    if key == "imagenet_val_ood":
        entry = entry.model_copy(update={"train_size": None})
    entry = served(entry, source, root, server)
    lacking = fetch_all([entry], say=print, told=lambda done, length: None, ask=None)
    # the variants came; ImageNet itself wants a person
    assert "sign in" in lacking[key] or "wants a login" in lacking[key]
    assert "imagenet/val" in lacking[key]
    shutil.copytree(source / "imagenet", root / "imagenet")
    assert fetch_all([entry], say=print, told=lambda done, length: None, ask=None) == {}
    assert state_of(entry) == "present"
    data = load_dataset(entry)
    names = [shift.name for shift in data.shifts]  # type: ignore[union-attr]
    assert names == list(SHIFTS if key in SHIFTED[-2:] else [key])


@pytest.mark.parametrize("key", LISTS)
def test_lists_of_imagenet(
    key: str, root: Path, source: Path, catalog: Catalog, server: FileServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    mini = BUILDERS[key](source, monkeypatch)
    entry = served(small(catalog.dataset(key), mini), source, root, server)
    for part in ("train", "val"):
        shutil.copytree(source / "imagenet" / part, root / "imagenet" / part)
    data = load_dataset(got(entry))
    assert data.train.targets.tolist() == list(mini.train)  # type: ignore[union-attr]


@pytest.mark.parametrize("key", FASHION)
def test_fashion(key: str, root: Path, source: Path, catalog: Catalog, server: FileServer) -> None:
    folder = "FashionMNIST/raw"
    for part, count in (("train", 60), ("t10k", 40)):
        write_idx(source / folder / f"{part}-images-idx3-ubyte", np.zeros((count, 28, 28)))
        write_idx(source / folder / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
    whole = catalog.dataset(key)
    counts = {"train": 2, "test": 1, "queries": 1, "database": 2}
    options = {name: counts.get(name, value) for name, value in whole.options.items()}
    sizes = {"train_size": None, "test_size": None}
    few = {"options": {**options, "folder": folder}, "needs": (folder,), **sizes}
    entry = got(served(whole.model_copy(update=few), source, root, server))
    data = load_dataset(entry)
    found = data.database if isinstance(data, RetrievalData) else data.train
    assert len(found) == (60 if key == "fashion_mnist" else 20)  # type: ignore[arg-type]


def test_what_a_package_of_the_system_has_is_not_fetched(
    root: Path, tmp_path: Path, catalog: Catalog
) -> None:
    entry = catalog.dataset("fashion_mnist")
    assert entry.download is not None
    (tmp_path / "packaged").mkdir()
    (tmp_path / "packaged/images").write_bytes(b"of a package")
    files = tuple(
        file.model_copy(update={"gives": (f"{_local(file.gives[0])}|{tmp_path}/packaged",)})
        for file in entry.download.files
    )
    ours = entry.model_copy(
        update={"download": entry.download.model_copy(update={"files": files}),
                "needs": (f"FashionMNIST/raw|{tmp_path}/packaged",)}
    )  # fmt: skip
    assert planned(ours).files == ()


def test_coco(root: Path, source: Path, catalog: Catalog, server: FileServer) -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    glyphs = Glyphs(bunch.images[:200].astype(np.uint8), bunch.target[:200].astype(np.int64))
    for seed, (part, count) in enumerate({"train2017": 4, "val2017": 2}.items()):
        write_split(source / "coco", part, glyphs, count=count, seed=seed)
    whole = catalog.dataset("coco").model_copy(
        update={"classes": 10, "test_size": 2, "train_size": 4}
    )
    data = load_dataset(got(served(whole, source, root, server)))
    assert (len(data.train), len(data.test)) == (4, 2)  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize("key", BY_HAND)
def test_what_only_its_owner_hands_out(
    key: str, root: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["datasets", "get", key, "--yes"]) == 2
    said = capsys.readouterr().err
    assert BY_HAND[key] in said, said
    entry = load_catalog().dataset(key)
    assert f"under the data root {root}: {entry.needs[0].replace('|', ' or ')}" in said
    assert entry.obtain in said
    assert server.asked == []


def test_a_set_that_is_fetched_twice_asks_once(
    root: Path, source: Path, catalog: Catalog, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini = BUILDERS["pets"](source, monkeypatch)
    entry = got(served(small(catalog.dataset("pets"), mini), source, root, server))
    count = len(server.asked)
    fetch(planned(entry), say=print, told=lambda done, length: None)
    assert len(server.asked) == count == 2
