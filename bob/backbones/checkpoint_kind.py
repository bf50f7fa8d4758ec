"""Files that are named as checkpoints and are something else."""

from __future__ import annotations

from pathlib import Path

from bob.errors import some
from bob.json_data import parse_json

_OTHER_FILES = {
    b"version https://git-lfs": "the pointer of a file in Git LFS: fetch it with `git lfs pull`",
    b"\x1f\x8b": "a gzip archive: unpack it",
    b"BZh": "a bzip2 archive: unpack it",
    b"\xfd7zXZ": "an xz archive: unpack it",
    b"\x89HDF": "an HDF5 file, as Keras writes: convert it",
    b"\x93NUMPY": "a NumPy array, not a state dict",
    b"%PDF": "a PDF document",
}


class UnreadableError(Exception):
    """A file that gives no weights; the message says what it is and what to do."""


def checked_head(path: Path) -> bytes:
    """The first bytes of a file that may be a checkpoint.

    Raises:
        UnreadableError: They are those of another kind of file.
        OSError: It cannot be read.
    """
    with path.open("rb") as stream:
        head = stream.read(512)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    kind = next((word for start, word in _OTHER_FILES.items() if head.startswith(start)), "")
    if not head:
        kind = "empty: copy or download it again"
    elif text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        kind = "a web page, not weights: the download failed, fetch the file itself"
    elif head[257:262] == b"ustar":
        kind = "a tar archive: unpack it"
    elif text.startswith((b"{", b"[")) and head[8:9] != b"{":
        kind = _kind_of_json(path)
    if kind:
        raise UnreadableError(f"{path} is {kind}")
    return head


def _kind_of_json(path: Path) -> str:
    try:
        shards = sorted(set(parse_json(path.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        return "a JSON or text file, not weights"
    line = (
        "python -c \"import json, torch; from safetensors.torch import load_file, save_file; "
        f"save_file({{k: v for f in sorted(set(json.load(open('{path.name}'))['weight_map']"
        ".values())) for k, v in load_file(f).items()}, 'joined.safetensors')\""
    )  # fmt: skip
    return (
        f"the index of a checkpoint in {len(shards)} files ({some(shards)}), not weights. Join "
        f"them in their folder and name the joined file: {line}"
    )
