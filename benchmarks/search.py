"""Exact search beside faiss's ``IndexFlatIP``: seconds, memory and agreement, in one run.

Both search the same unit vectors with the same number of threads, in turns; the ratio is taken pair
by pair. Peak memory is the resident process's, beyond what it held before the call, in a process of
its own::

    python -m benchmarks.search                                # against faiss
    python -m benchmarks.search --rows 1000000 --stream        # streamed from the feature store

The status is 1 if search is slower than faiss, either needs more memory than the bound, or scores
differ by more than rounding; 2 if faiss is not installed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bob.features import Features, FeatureStore
from bob.features.store import Request
from bob.retrieval.search import Rows, TensorRows, ranks, search, unit_rows
from bob.training.environment import peak_memory_mb, reset_peak

MEMORY_BOUND_MB = 512
SCORE_BOUND = 1e-5
PART = 100_000


def vectors(count: int, width: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return unit_rows(torch.randn(count, width, generator=generator))


def stored(folder: Path, rows: int, width: int) -> Features:
    """Rows of unit vectors in a feature store, in half precision; written once."""
    request = Request(
        facts={"rows": rows, "width": width},
        about="unit vectors",
        rows=rows,
        width=width,
        half=True,
        fingerprint=(),
    )

    def batches() -> Iterator[NDArray[np.float32]]:
        for part, first in enumerate(range(0, rows, PART)):
            yield vectors(min(PART, rows - first), width, seed=1 + part).numpy()

    return FeatureStore(folder).get(request, batches)[0]


def measure(what: str, args: argparse.Namespace, folder: Path | None) -> tuple[float, float]:
    """Seconds and peak MiB beyond the inputs of one call, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measured, (what, args, folder))


def _measured(what: str, args: argparse.Namespace, folder: Path | None) -> tuple[float, float]:
    torch.set_num_threads(args.threads)
    cpu = torch.device("cpu")
    queries = vectors(args.queries, args.width, seed=0)
    database: Rows = (
        stored(folder, args.rows, args.width)
        if folder
        else TensorRows(vectors(args.rows, args.width, seed=1))
    )
    generator = torch.Generator().manual_seed(2)
    wanted = torch.randint(0, args.rows, (args.queries, 100), generator=generator)
    search(queries[:64], TensorRows(queries[:64]), 1)
    reset_peak(cpu)
    before = peak_memory_mb(cpu)
    start = time.perf_counter()
    if what == "search":
        search(queries, database, args.k)
    else:
        ranks(queries, database, list(wanted))
    return time.perf_counter() - start, peak_memory_mb(cpu) - before


def memory(args: argparse.Namespace, folder: Path | None = None) -> bool:
    """Print what search and ranks need; whether both keep to the bound."""
    kept = True
    for what in ("search", "ranks"):
        seconds, peak = measure(what, args, folder)
        detail = f"top {args.k}" if what == "search" else "100 wanted per query"
        print(
            f"{what} ({detail}): {seconds:.2f} s, peak {peak:.0f} MiB beyond the inputs "
            f"(bound {MEMORY_BOUND_MB})",
            flush=True,
        )
        kept &= peak < MEMORY_BOUND_MB
    return kept


def against_faiss(args: argparse.Namespace, faiss: Any) -> bool:
    """Print times and agreement; whether search is as fast and scores are the same."""
    torch.set_num_threads(args.threads)
    faiss.omp_set_num_threads(args.threads)
    queries, database = (
        vectors(count, args.width, seed) for count, seed in ((args.queries, 0), (args.rows, 1))
    )
    index = faiss.IndexFlatIP(args.width)
    start = time.perf_counter()
    index.add(database.numpy())
    adding = time.perf_counter() - start

    def timed(call: Any) -> tuple[float, Any]:
        start = time.perf_counter()
        result = call()
        return time.perf_counter() - start, result

    pairs = []
    for turn in range(args.pairs):
        calls = {
            "ours": lambda: search(queries, database, args.k),
            "faiss": lambda: index.search(queries.numpy(), args.k),
        }
        order = ("faiss", "ours") if turn % 2 else ("ours", "faiss")
        taken = {name: timed(calls[name]) for name in order}
        scores, found = taken["ours"][1]
        their_scores, their_found = taken["faiss"][1]
        pairs.append((taken["ours"][0], taken["faiss"][0]))
    ratios = [ours / theirs for ours, theirs in pairs]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(ratios)
    print(
        f"ours {ours:.2f} s, faiss {theirs:.2f} s (and {adding:.2f} s to add), ratio {ratio:.3f} "
        f"(median of {args.pairs}; {min(ratios):.3f} to {max(ratios):.3f}), {args.threads} threads"
    )
    same = float(np.mean(found.numpy() == their_found))
    difference = float(np.abs(scores.numpy() - their_scores).max())
    print(f"positions equal {same:.6f}, largest difference of scores {difference:.1e}", flush=True)
    return ratio <= 1 and difference <= SCORE_BOUND


def main() -> int:
    """Command line."""
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--queries", type=int, default=5_000)
    command.add_argument("--rows", type=int, default=100_000)
    command.add_argument("--width", type=int, default=384)
    command.add_argument("-k", type=int, default=100)
    command.add_argument("--threads", type=int, default=2)
    command.add_argument("--pairs", type=int, default=3)
    command.add_argument(
        "--stream", action="store_true", help="read the database from a feature store"
    )
    args = command.parse_args()
    print(f"{args.queries} queries x {args.rows} rows x {args.width}, top {args.k}", flush=True)
    if args.stream:
        with tempfile.TemporaryDirectory() as folder:
            stored(Path(folder), args.rows, args.width)
            return 0 if memory(args, Path(folder)) else 1
    try:
        import faiss
    except ImportError:
        print("faiss is not installed: pip install faiss-cpu", file=sys.stderr)
        return 2
    kept = against_faiss(args, faiss)
    return 0 if memory(args) and kept else 1


if __name__ == "__main__":
    sys.exit(main())
