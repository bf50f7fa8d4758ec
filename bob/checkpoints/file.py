"""A checkpoint as one file: whole or not there, and checked when it is read.

Eight bytes that name the format, the SHA-256 of all that follows, the length of a header, the
header (JSON: facts and the states' structure), and the bytes of its tensors.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from bob.checkpoints.encoding import (
    State,
    block_bytes,
    block_size,
    block_value,
    decode,
    encode,
)
from bob.regular_files import open_regular, sync_folder

_FORMAT = b"bobcase1"
_DIGEST = 32
_LENGTH = 8
_LONGEST_HEADER = 2**31

Facts = Mapping[str, str]


class Damaged(Exception):
    """A file is no checkpoint, or not as it was written; the message says what is wrong."""


def write(path: Path, state: State, facts: Facts, *, unfinished: Path) -> None:
    """Write a checkpoint; one that is there is replaced in one step.

    Args:
        path: Where it is to be.
        state: See ``bob.checkpoints.encoding``.
        facts: What a reader asks before it takes the state up.
        unfinished: Where it is written first, on the same disk.

    Raises:
        OSError: The disk is full or the folder is not writable; what was there stays.
        TypeError: The state holds something else than data.
    """
    encoded = encode(state)
    header = {"facts": dict(facts), "tree": encoded.tree, "blocks": encoded.blocks}
    text = json.dumps(header, separators=(",", ":")).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with unfinished.open("wb") as stream:
            stream.write(_FORMAT + bytes(_DIGEST))
            digest = hashlib.sha256()
            for part in (len(text).to_bytes(_LENGTH, "little"), text):
                digest.update(part)
                stream.write(part)
            for value in encoded.values:
                content = block_bytes(value)
                digest.update(content)
                stream.write(content)
            stream.seek(len(_FORMAT))
            stream.write(digest.digest())
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


_MALFORMED = (
    AttributeError, IndexError, KeyError, MemoryError, OverflowError, RecursionError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip
"""What parsing raises where bytes are whole and mean something else."""


def read(path: Path) -> tuple[State, dict[str, str]]:
    """The state and the facts of a checkpoint.

    Raises:
        FileNotFoundError: There is none.
        OSError: It cannot be read.
        Damaged: It is not as it was written.
    """
    with open_regular(path) as stream:
        if stream.read(len(_FORMAT)) != _FORMAT:
            raise Damaged("it is no checkpoint of this format")
        kept = stream.read(_DIGEST)
        start = stream.tell()
        if hashlib.file_digest(stream, "sha256").digest() != kept:
            raise Damaged("its bytes are not those that were written")
        stream.seek(start)
        try:
            return _parsed(stream)
        except _MALFORMED as error:
            raise Damaged(f"its content cannot be read: {type(error).__name__}: {error}") from None


def _parsed(stream: BinaryIO) -> tuple[State, dict[str, str]]:
    length = int.from_bytes(stream.read(_LENGTH), "little")
    if length > _LONGEST_HEADER:
        raise ValueError(f"a header of {length} bytes")
    header = json.loads(stream.read(length))
    values = [_value(stream, block) for block in header["blocks"]]
    facts = {str(name): str(text) for name, text in header["facts"].items()}
    state: State = decode(header["tree"], values)
    if not isinstance(state, dict):
        raise ValueError("no dict of states")
    return state, facts


def _value(stream: BinaryIO, block: dict[str, Any]) -> Any:
    size = block_size(block)
    content = bytearray(size)
    if stream.readinto(content) != size:  # type: ignore[attr-defined]
        raise ValueError("it ends early")
    return block_value(block, content)
