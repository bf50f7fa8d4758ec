"""Several datasets: what they weigh and under which terms first, then one behind the other."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

from bob.catalog import DatasetEntry
from bob.catalog.data_root import data_root
from bob.fetching.fetch import check_room, fetch
from bob.fetching.http import size_of
from bob.fetching.plan import planned
from bob.sizes import show_size

_EVERY = 0.5
"""Seconds between two lines of progress on a terminal."""


class Progress:
    """How far a download is, in one line of a terminal; silent elsewhere."""

    def __init__(self) -> None:
        self._last = 0.0
        self._live = sys.stderr.isatty()

    def __call__(self, done: int, length: int | None) -> None:
        """Show it, if the last time is long enough ago."""
        if not self._live or (time.monotonic() - self._last < _EVERY and done != length):
            return
        self._last = time.monotonic()
        of = f" of {show_size(length)} ({done / length:.0%})" if length else ""
        end = "\n" if done == length else ""
        print(f"\r  {show_size(done)}{of}\x1b[K", end=end, file=sys.stderr, flush=True)


def fetch_all(
    entries: Sequence[DatasetEntry], *, say: Callable[[str], None],
    told: Callable[[int, int | None], None], ask: Callable[[], None] | None,
) -> list[str]:  # fmt: skip
    """Fetch what datasets lack: sizes and licences first.

    Args:
        entries: The datasets.
        say: Told each line.
        told: Told how far a download is.
        ask: Called when all is said and before anything is fetched; raises to stop.

    Returns:
        For each dataset that has a rest to be fetched by hand: why, and what to do.

    Raises:
        BobError: A file cannot be had or written.
    """
    plans = [planned(entry) for entry in entries]
    known = 0
    for plan in plans:
        if not plan.files:
            if not plan.by_hand:
                say(f"{plan.entry.key}: nothing is missing")
            continue
        sizes = [size_of(wanted) for wanted in plan.files]
        size = sum(filter(None, sizes))
        known += size
        text = "size unknown" if None in sizes and not size else show_size(size)
        more = " and more of unknown size" if None in sizes and size else ""
        say(f"{plan.entry.key}: {text}{more} into {data_root()}; licence: {plan.entry.licence}")
        for wanted in plan.files:
            kind = "md5" if wanted.md5 else "sha256" if wanted.sha256 else "no digest published"
            say(f"  {wanted.urls[0]} ({kind})")
    if any(plan.files for plan in plans):
        check_room(known)
        if ask is not None:
            ask()
    for plan in plans:
        if plan.files:
            fetch(plan, say=say, told=told)
            say(f"{plan.entry.key}: fetched; `bob datasets verify {plan.entry.key}` pins it")
    return [plan.by_hand for plan in plans if plan.by_hand]
