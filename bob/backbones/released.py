"""Weights as their publishers release them: downloaded once, into torch's hub cache."""

from __future__ import annotations

import os
import shutil
from http.client import HTTPException
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

import torch
from filelock import FileLock

from bob.backbones.network import TIMEOUT, reason, why_unreachable
from bob.catalog.schema import BackboneEntry
from bob.errors import BobError
from bob.hashing import digest_of_file, file_name


def weights_file(entry: BackboneEntry) -> Path:
    """Where the entry's checkpoint lies; a released one is downloaded if it is not in the cache.

    Raises:
        BobError: It is not in the cache and cannot be downloaded (``kind`` is ``unavailable``), or
            what came has another digest (``weights``).
    """
    weights = entry.weights
    assert weights is not None
    if weights.file:
        return Path(weights.file)
    path = cache_path(weights.url)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock")):
            if not path.is_file():
                _download(entry, weights.url, path)
    return path


def cache_path(url: str) -> Path:
    """Where a released file is kept.

    The folders are those of its address: several publishers call theirs ``resnet50.pth``, and
    ``torch.hub`` would take one for the other.
    """
    parts = urlsplit(url)
    names = [part for part in unquote(parts.path).split("/") if part not in ("", ".", "..")]
    return Path(torch.hub.get_dir(), "checkpoints", *map(file_name, (parts.netloc, *names)))


def _download(entry: BackboneEntry, url: str, path: Path) -> None:
    assert entry.weights is not None
    if problem := why_unreachable(url):
        raise _unavailable(entry, url, path, problem)
    part = path.with_name(path.name + ".part")
    try:
        with urlopen(url, timeout=TIMEOUT) as stream, part.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
            expected = stream.headers.get("Content-Length")
        if expected and part.stat().st_size != int(expected):
            raise ConnectionError(f"{part.stat().st_size} of {expected} bytes came")
        sha256 = entry.weights.sha256
        if sha256 and (found := digest_of_file(part)) != sha256:
            raise BobError(
                f"Backbone {entry.key!r}: {url} came with SHA-256 {found[:12]}..., the catalog "
                f"says {sha256[:12]}.... The release has changed; name a file of your own with "
                f"--backbone {entry.key},checkpoint=FILE.",
                kind="weights",
            )
        os.replace(part, path)
    except (OSError, HTTPException) as error:
        raise _unavailable(entry, url, path, reason(error)) from error
    finally:
        part.unlink(missing_ok=True)


def _unavailable(entry: BackboneEntry, url: str, path: Path, problem: str) -> BobError:
    return BobError(
        f"Backbone {entry.key!r}: its weights are not in the cache, and {url} cannot be downloaded "
        f"({problem}). Download it on a machine with network access and put the file at {path}, or "
        f"name a file: --backbone {entry.key},checkpoint=FILE.",
        kind="unavailable",
    )
