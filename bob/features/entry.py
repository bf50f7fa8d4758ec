"""One entry of the feature store on disk: shards and a manifest that says what they must be."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from bob.features.matrix import Features
from bob.features.ownership import MANIFEST
from bob.hashing import digest_of_file
from bob.json_data import parse_json
from bob.record import Record
from bob.regular_files import read_regular

SHARD_BYTES = 256 * 2**20
SCHEMA = 1
_HALF_MAX = float(np.finfo(np.float16).max)


class Shard(Record):
    """One file of an entry.

    Attributes:
        sha256: Of the file's bytes.
    """

    name: str = Field(pattern=r"^shard-\d{5,}\.npy$")
    rows: int = Field(ge=1)
    size: int = Field(ge=1)
    sha256: str


class Manifest(Record):
    """What an entry holds and how it came to be.

    Attributes:
        key: Digest of ``facts``; the entry's folder is named so.
        facts: Everything the features depend on.
        about: Backbone, dataset and split, in words.
        rows: Images behind the features.
        width: Features per image.
        fingerprint: What the backbone made of a fixed input when the entry was written.
        seconds: Time the extraction took.
        shards: Files, in the order of their rows.
        remarks: What the extraction found out about the images.
    """

    schema_version: int = Field(alias="schema", ge=SCHEMA, le=SCHEMA)
    key: str
    facts: dict[str, Any]
    about: str
    rows: int = Field(ge=1)
    width: int = Field(ge=1)
    dtype: str
    fingerprint: tuple[float, ...]
    created: float
    seconds: float
    shards: tuple[Shard, ...] = Field(min_length=1)
    remarks: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all shards."""
        return sum(shard.size for shard in self.shards)


class Damaged(Exception):
    """An entry is not what its manifest says; the message says how."""


class Newer(Exception):
    """An entry is of a later version of bob, which alone knows what it holds."""


class TooWide(Exception):
    """A value does not fit half precision."""


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an entry.

    Raises:
        Damaged: It is missing or malformed.
        Newer: It is of a later schema.
        PermissionError: It may not be read, which says nothing of the entry.
    """
    try:
        data = parse_json(read_regular(folder / MANIFEST))
        schema = data.get("schema") if isinstance(data, dict) else None
        if type(schema) is int and schema > SCHEMA:
            raise Newer(f"it is of schema {schema}, and this version of bob reads {SCHEMA}")
        return Manifest.model_validate(data)
    except FileNotFoundError:
        raise Damaged("it has no manifest") from None
    except PermissionError:
        raise
    except (OSError, ValueError, ValidationError) as error:
        raise Damaged(f"its manifest cannot be read ({type(error).__name__})") from None


def check(folder: Path, manifest: Manifest) -> None:
    """Hold every shard against the manifest, byte by byte.

    Raises:
        Damaged: A file is missing, shorter or longer, or has other bytes.
    """

    def problem(shard: Shard) -> str:
        path = folder / shard.name
        try:
            size = path.stat().st_size
            if size != shard.size:
                return f"{shard.name} has {size} bytes instead of {shard.size}"
            if digest_of_file(path) != shard.sha256:
                return f"{shard.name} has other bytes than were written"
        except OSError as error:
            return f"{shard.name}: {error.strerror or error}"
        return ""

    if sum(shard.rows for shard in manifest.shards) != manifest.rows:
        raise Damaged("its shards do not add up to its rows")
    with ThreadPoolExecutor(max_workers=4) as pool:
        for text in pool.map(problem, manifest.shards):
            if text:
                raise Damaged(text)


def stamp(folder: Path, manifest: Manifest) -> tuple[tuple[int, int, int], ...]:
    """What changes when a shard is written to: inode, size and time of each."""
    stats = [(folder / shard.name).stat() for shard in manifest.shards]
    return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)


def load(folder: Path, manifest: Manifest) -> Features:
    """The entry's features, memory-mapped.

    Raises:
        Damaged: A shard is of another shape or type than its manifest says.
    """
    arrays = []
    for shard in manifest.shards:
        array = np.load(folder / shard.name, mmap_mode="r", allow_pickle=False)
        if (array.shape, str(array.dtype)) != ((shard.rows, manifest.width), manifest.dtype):
            raise Damaged(f"{shard.name} is of shape {array.shape} and type {array.dtype}")
        arrays.append(array)
    return Features(arrays)


def write(
    folder: Path,
    batches: Iterable[NDArray[np.float32]],
    *,
    rows: int,
    half: bool,
    facts: dict[str, Any],
    key: str,
    about: str,
    fingerprint: tuple[float, ...],
    found_out: Callable[[], Sequence[str]] = tuple,
) -> Manifest:
    """Write batches of features as shards and a manifest into an existing empty folder.

    Args:
        folder: Where to write.
        batches: Float32 ``(b, width)``; together ``rows`` rows.
        rows: Number of rows to come.
        half: Whether to store in float16.
        facts: See ``Manifest``.
        key: See ``Manifest``.
        about: See ``Manifest``.
        fingerprint: See ``Manifest``.
        found_out: Asked for remarks after the last batch.

    Raises:
        TooWide: ``half`` is set and a value is beyond float16.
        OSError: The disk is full or cannot be written.
    """
    start = time.perf_counter()
    dtype = np.dtype(np.float16 if half else np.float32)
    shards: list[Shard] = []
    # One block that is filled: small arrays kept until there are enough would lie between those of
    # the network and keep the memory around them from being used again.
    block: NDArray[np.floating] | None = None
    filled, done, width = 0, 0, 0
    for batch in batches:
        width = batch.shape[1]
        if half and float(np.abs(batch).max(initial=0.0)) > _HALF_MAX:
            raise TooWide
        while len(batch) and done < rows:
            if block is None:
                per_shard = max(1, SHARD_BYTES // (width * dtype.itemsize))
                block, filled = np.empty((min(per_shard, rows - done), width), dtype), 0
            taken = min(len(batch), len(block) - filled)
            block[filled : filled + taken] = batch[:taken]
            filled, batch = filled + taken, batch[taken:]
            if filled == len(block):
                shards.append(_write_shard(folder, len(shards), block))
                done, block = done + filled, None
    manifest = Manifest(
        schema=SCHEMA,
        key=key,
        facts=facts,
        about=about,
        rows=rows,
        width=width,
        dtype=str(dtype),
        fingerprint=fingerprint,
        created=time.time(),
        seconds=time.perf_counter() - start,
        shards=tuple(shards),
        remarks=tuple(found_out()),
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1, by_alias=True) + "\n")
    return manifest


def _write_shard(folder: Path, index: int, block: NDArray[np.floating]) -> Shard:
    name = f"shard-{index:05d}.npy"
    block = np.ascontiguousarray(block)
    head = io.BytesIO()
    npy.write_array_header_1_0(head, npy.header_data_from_array_1_0(block))
    digest = hashlib.sha256(head.getvalue())
    digest.update(block.data)
    with (folder / name).open("wb") as stream:
        stream.write(head.getvalue())
        stream.write(block.data)
        size = stream.tell()
    return Shard(name=name, rows=len(block), size=size, sha256=digest.hexdigest())
