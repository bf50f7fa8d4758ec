"""Archives that are damaged or hostile: refused, thrown away, and nothing is written anywhere."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bob.errors import BobError
from bob.fetching import archives
from tests.fetching_parts import GOOD, catalog, get, holds, kept, tar
from tests.file_server import FileServer, serving

OUTSIDE = "would write outside its folder"
DAMAGED = "cut off or damaged"
BOMB = "which no dataset does"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as started:
        yield started


def zipped(members: dict[str, bytes], *, mode: int = 0, method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip; ``mode`` is what Unix would say of its last member."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            if mode and name == list(members)[-1]:
                info.create_system, info.external_attr = 3, mode << 16
            archive.writestr(info, content, compresslevel=1)
    return stream.getvalue()


def member(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def claiming(size: int) -> bytes:
    """A zip whose directory says that its only file has a size that it has not."""
    whole = bytearray(zipped({"birds/a.jpg": b"a" * 100}, method=zipfile.ZIP_DEFLATED))
    for mark, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", whole, whole.index(mark) + place, size)
    return bytes(whole)


def locked() -> bytes:
    """A zip that says it is encrypted."""
    whole = bytearray(zipped({"birds/a.jpg": b"a" * 100}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        struct.pack_into("<H", whole, whole.index(mark) + place, 1)
    return bytes(whole)


ZEROS = bytes(archives._BOMB_FROM // 4 + 1)
LED_OUT = OUTSIDE if hasattr(tarfile, "data_filter") else "does not tell where it leads"

TARS = {
    "dots": (tar({"birds/../../a": b"x"}), OUTSIDE),
    "dots first": (tar({"../birds/a": b"x"}), OUTSIDE),
    "absolute": (tar({"/tmp/birds/a": b"x"}), OUTSIDE),
    "backslashes": (tar({"..\\birds\\a": b"x"}), OUTSIDE),
    "drive": (tar({"C:/birds/a": b"x"}), OUTSIDE),
    "link out": (tar(GOOD, member("birds/link", tarfile.SYMTYPE, "/etc/passwd")), LED_OUT),
    "link up": (tar(GOOD, member("birds/link", tarfile.SYMTYPE, "../../x")), LED_OUT),
    "hard link out": (tar(GOOD, member("birds/link", tarfile.LNKTYPE, "/etc/passwd")), LED_OUT),
    "device": (tar(GOOD, member("birds/null", tarfile.CHRTYPE)), OUTSIDE),
    "pipe": (tar(GOOD, member("birds/pipe", tarfile.FIFOTYPE)), OUTSIDE),
    "truncated": (tar(GOOD)[:-200], DAMAGED),
    "half": (tar(GOOD)[: len(tar(GOOD)) // 2], DAMAGED),
    "flipped": (tar(GOOD)[:300] + b"\0" * 60 + tar(GOOD)[360:], DAMAGED),
    "no archive": (b"not an archive at all", DAMAGED),
    "empty": (b"", DAMAGED),
}
ZIPS = {
    "dots": (zipped({"birds/a": b"x", "birds/../../a": b"x"}), OUTSIDE),
    "absolute": (zipped({"/tmp/birds/a": b"x"}), OUTSIDE),
    "backslashes": (zipped({"..\\birds\\a": b"x"}), OUTSIDE),
    "drive": (zipped({"C:\\birds\\a": b"x"}), OUTSIDE),
    "link": (zipped({**GOOD, "birds/link": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777), OUTSIDE),
    "device": (zipped({**GOOD, "birds/null": b""}, mode=stat.S_IFCHR | 0o666), OUTSIDE),
    "truncated": (zipped(GOOD)[:-30], DAMAGED),
    "flipped": (zipped(GOOD).replace(b"b" * 99, b"c" * 99), DAMAGED),
    "claims gigabytes": (claiming(3 << 30), BOMB),
    "claims too little": (claiming(50), DAMAGED),
    "encrypted": (locked(), "encrypted"),
}


def refused(
    own: Path, root: Path, content: bytes, server: FileServer,
    capsys: pytest.CaptureFixture[str], name: str = "birds.tgz",
) -> str:  # fmt: skip
    """What is said of an archive of which nothing is left; the true one is fetched afterwards."""
    server.files[f"/{name}"] = content
    before = {path for path in root.parent.rglob("*") if root not in path.parents}
    assert get(own) == 2
    told = capsys.readouterr().err
    assert kept(root) == []
    assert [path.name for path in root.iterdir()] == [".bob"]
    assert {path for path in root.parent.rglob("*") if root not in path.parents} == before
    server.files[f"/{name}"] = zipped(GOOD) if name.endswith("zip") else tar(GOOD)
    assert get(own) == 0
    assert holds(root)
    return told


@pytest.mark.parametrize(("content", "words"), TARS.values(), ids=TARS.keys())
def test_tapes(
    tmp_path: Path, root: Path, server: FileServer, content: bytes, words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert words in refused(catalog(tmp_path, server), root, content, server, capsys)


@pytest.mark.parametrize(("content", "words"), ZIPS.values(), ids=ZIPS.keys())
def test_zips(
    tmp_path: Path, root: Path, server: FileServer, content: bytes, words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    own = catalog(tmp_path, server, name="birds.zip")
    assert words in refused(own, root, content, server, capsys, name="birds.zip")


@pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="Python before 3.11.4")
def test_a_file_behind_a_link_is_refused(
    tmp_path: Path, root: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """A link inside the folder is harmless; what is written through it has fooled unpackers."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for info in (member("birds", tarfile.DIRTYPE), member("way", tarfile.SYMTYPE, "birds")):
            info.mode = 0o755
            archive.addfile(info)
        info = tarfile.TarInfo("way/a.jpg")
        archive.addfile(info, io.BytesIO())
    told = refused(catalog(tmp_path, server), root, stream.getvalue(), server, capsys)
    assert "lies behind a link" in told


def bombs() -> dict[str, bytes]:
    """Archives that unpack to more than a hundred times their size, of each kind."""
    four = {f"birds/{number}.jpg": ZEROS for number in range(4)}
    tape = io.BytesIO()
    with tarfile.open(fileobj=tape, mode="w") as archive:
        info = tarfile.TarInfo("birds/a.jpg")
        info.size = len(ZEROS) * 4
        archive.addfile(info, io.BytesIO(ZEROS * 4))
    return {
        "birds.zip": zipped(four, method=zipfile.ZIP_DEFLATED),
        "birds.tgz": gzip.compress(tape.getvalue(), 1),
        "birds.tar.xz": lzma.compress(tape.getvalue(), preset=0),
        "birds.gz": gzip.compress(ZEROS * 4, 1),
    }


def test_bombs(
    tmp_path: Path, root: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in bombs().items():
        server.files[f"/{name}"] = content
        assert get(catalog(tmp_path, server, name=name)) == 2
        said = capsys.readouterr().err
        assert BOMB in said, said
        assert kept(root) == []
        assert [path.name for path in root.iterdir()] == [".bob"]


def test_labels_that_shrink_to_very_little_are_no_bomb(
    tmp_path: Path, root: Path, server: FileServer
) -> None:
    server.files["/birds.tgz"] = tar({**GOOD, "birds/labels.txt": b"0\n" * 1_000_000})
    assert len(server.files["/birds.tgz"]) < 20_000
    assert get(catalog(tmp_path, server)) == 0
    assert holds(root)


def test_what_the_disk_cannot_hold_is_not_begun(
    tmp_path: Path, root: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The archive is honest as far as anybody can tell, so it stays for when there is room."""
    free = os.statvfs(root).f_bavail * os.statvfs(root).f_frsize
    info = tarfile.TarInfo("birds/a.jpg")
    info.size = free + (1 << 40)
    file = tmp_path / "birds.tar"
    with file.open("wb") as stream:  # takes no room itself
        stream.write(info.tobuf(tarfile.GNU_FORMAT))
        stream.truncate(info.size // 50)
    with pytest.raises(BobError, match=r"disk has .* left\. Make room") as caught:
        archives.place(file, "birds.tar", root, work=root / ".bob/work")
    assert not isinstance(caught.value, archives.ArchiveRefused)
    assert file.exists()
    assert list(root.rglob("*")) == [root / ".bob"]


def test_what_holds_something_else_is_told(
    tmp_path: Path, root: Path, server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files["/birds.tgz"] = tar({"fish/a.jpg": b"x"})
    assert get(catalog(tmp_path, server)) == 2
    assert "laid it out anew" in capsys.readouterr().err
    assert kept(root) == []


@pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="Python before 3.11.4")
def test_links_inside_and_odd_names_are_fine(
    tmp_path: Path, root: Path, server: FileServer
) -> None:
    odd = {"birds/ä ö.jpg": b"x", "./birds/dots..jpg": b"y", "birds/-rf": b"z"}
    server.files["/birds.tgz"] = tar(
        {**GOOD, **odd}, member("birds/c.jpg", tarfile.SYMTYPE, "b.jpg")
    )
    assert get(catalog(tmp_path, server)) == 0
    assert holds(root)
    assert (root / "birds/c.jpg").read_bytes() == GOOD["birds/b.jpg"]
    assert all((root / name).read_bytes() == content for name, content in odd.items())
