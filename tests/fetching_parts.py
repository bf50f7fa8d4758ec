"""A dataset of one archive on a server of this machine."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from bob.cli import main
from tests.file_server import FileServer

GOOD = {"birds/a.jpg": bytes(range(256)) * 400, "birds/b.jpg": b"b" * 99}


def tar(members: dict[str, bytes], *extra: tarfile.TarInfo) -> bytes:
    """A packed tape of files, and of members without content."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return stream.getvalue()


def catalog(
    folder: Path, server: FileServer, more: str = "", *, urls: tuple[str, ...] = (),
    name: str = "birds.tgz",
) -> Path:  # fmt: skip
    """A catalog with the dataset ``own_birds``.

    Args:
        folder: Where it is written.
        server: Where its archive is, unless ``urls`` says otherwise.
        more: Behind what is there afterwards, ``birds``: more fields of the file.
        urls: Its addresses.
        name: Its name on the server.
    """
    server.files.setdefault("/birds.tgz", tar(GOOD))
    addresses = ", ".join(map(repr, urls or (f"{server.url}/{name}",)))
    path = folder / "own.yaml"
    path.write_text(
        "datasets:\n  own_birds:\n    loader: bob.datasets.retrieval_sets.class_folders:load\n"
        "    kind: retrieval\n    sha256: null\n    needs: [birds]\n    licence: mine\n"
        f"    download: {{files: [{{urls: [{addresses}], gives: birds{more}}}]}}\n"
    )
    return path


def get(own: Path, *more: str) -> int:
    """``bob datasets get own_birds``; its status."""
    return main(["datasets", "--catalog", str(own), "get", "own_birds", "--yes", *more])


def holds(root: Path) -> bool:
    """Whether all of it is there, and right."""
    return all((root / name).read_bytes() == content for name, content in GOOD.items())


def kept(root: Path) -> list[str]:
    """What lies in ``.bob`` besides locks: endings of downloads, and names of what is half done."""
    state = root / ".bob"
    files = [path for path in state.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return sorted(path.name.split("-", 1)[-1] for path in files)
