"""Several datasets: what they weigh and under which terms first, then one behind the other."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bob.catalog import DatasetEntry
from bob.catalog.data_root import data_root
from bob.errors import BobError, first_line
from bob.fetching.answers import size_of
from bob.fetching.fetch import check_room, fetch
from bob.fetching.plan import Plan, planned
from bob.sizes import show_size

_ASKED_AT_ONCE = 8
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
) -> dict[str, str]:  # fmt: skip
    """Fetch what datasets lack: sizes and licences first.

    One that cannot be fetched does not keep the others from it.

    Args:
        entries: The datasets.
        say: Told each line.
        told: Told how far a download is.
        ask: Called when all is said and before anything is fetched; raises to stop.

    Returns:
        By its key, for each dataset that is not all there now: why, and what to do.

    Raises:
        BobError: The data root cannot be written to or cannot hold what is to be fetched.
    """
    lacking: dict[str, str] = {}
    plans = [planned(entry) for entry in entries]
    known = 0
    announced: dict[tuple[str, Path], str] = {}
    ready = []
    for plan in plans:
        try:
            known += _announce(plan, announced, say)
            ready.append(plan)
        except BobError as error:
            say(f"{plan.entry.key}: cannot be fetched now: {first_line(error)}")
            lacking[plan.entry.key] = _with_remedy(plan, error)
    if any(plan.files for plan in ready):
        check_room(known)
        if ask is not None:
            ask()
    for plan in ready:
        key = plan.entry.key
        try:
            if plan.files:
                fetch(plan, say=say, told=told)
                say(f"{key}: fetched; `bob datasets verify {key}` pins it")
            if plan.by_hand:
                lacking[key] = plan.by_hand
        except BobError as error:
            lacking[key] = _with_remedy(plan, error)
    return lacking


def _announce(
    plan: Plan, announced: dict[tuple[str, Path], str], say: Callable[[str], None]
) -> int:
    """Say what is to come; the bytes of it that are known.

    Args:
        plan: What a dataset lacks.
        announced: By address and folder, the dataset that brings a file; added to.
        say: Told each line.
    """
    if not plan.files:
        if not plan.by_hand:
            say(f"{plan.entry.key}: nothing is missing")
        return 0
    places = {wanted: (wanted.urls[0], wanted.to) for wanted in plan.files}
    fresh = [wanted for wanted in plan.files if places[wanted] not in announced]
    others = sorted({announced[place] for place in places.values() if place in announced})
    if not fresh:
        say(f"{plan.entry.key}: comes with {', '.join(others)}")
        return 0
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:  # some sets have a hundred parts
        sizes = list(pool.map(size_of, fresh))
    announced |= {places[wanted]: plan.entry.key for wanted in fresh}
    size = sum(filter(None, sizes))
    text = "size unknown" if None in sizes and not size else show_size(size)
    more = " and more of unknown size" if None in sizes and size else ""
    rest = f", the rest with {', '.join(others)}" if others else ""
    say(f"{plan.entry.key}: {text}{more} into {data_root()}{rest}; licence: {plan.entry.licence}")
    for wanted in fresh:
        kind = "md5" if wanted.md5 or wanted.md5_url else "sha256" if wanted.sha256 else ""
        say(f"  {wanted.urls[0]} ({kind or 'no digest published'})")
    return size


def _with_remedy(plan: Plan, error: BobError) -> str:
    entry = plan.entry
    by_hand = f" By hand: {entry.obtain}" if entry.obtain else ""
    return (
        f"{entry.key} was not fetched. {error} Once that is put right: "
        f"`bob datasets get {entry.key}`.{by_hand}"
    )
