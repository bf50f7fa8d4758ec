"""``bob datasets get`` and ``bob datasets verify``; ``pytest --download`` uses the same."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bob.catalog import Catalog, DatasetEntry, load_catalog, parse_dataset
from bob.errors import BobError
from bob.options.arguments import given, read_arguments
from bob.sizes import show_size


def run(args: argparse.Namespace) -> int:
    """Run ``get`` or ``verify``, whichever stands first."""
    verb, *keys = args.keys
    if args.missing or args.json or args.markdown:
        raise BobError(f"--missing, --json and --markdown do not go with `bob datasets {verb}`.")
    options = read_arguments(args)
    catalog = load_catalog(options.catalogs)
    entries = {key: parse_dataset(key, catalog) for key in keys}
    if given(args, "--scale"):
        entries |= _of_scale(catalog, options.scale)
    if not entries:
        raise BobError(f"Name what to {verb}: `bob datasets {verb} NAME...`, or --scale SCALE.")
    chosen = list(entries.values())
    return _verify(chosen) if verb == "verify" else _get(chosen, yes=args.yes)


def _of_scale(catalog: Catalog, scale: str) -> dict[str, DatasetEntry]:
    plans = catalog.scale(scale).tasks.values()
    keys = sorted({key for plan in plans for key in plan.datasets})
    return {key: catalog.dataset(key) for key in keys if catalog.dataset(key).needs}


def _get(entries: Sequence[DatasetEntry], *, yes: bool) -> int:
    from bob.fetching import Progress, fetch_all

    try:
        lacking = fetch_all(entries, say=_say, told=Progress(), ask=None if yes else _asked)
    except KeyboardInterrupt:
        _say("stopped. What came is kept; the same command goes on from there.")
        return 130
    for reason in lacking.values():
        _say(reason)
    return 2 if lacking else 0


def _asked() -> None:
    if not sys.stdin.isatty():
        raise BobError("Nothing was fetched: nobody is there to ask. Add --yes.")
    print("Fetch? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise BobError("Nothing was fetched.")


def _verify(entries: Sequence[DatasetEntry]) -> int:
    from bob.fetching import verify

    wrong = []
    for entry in entries:
        try:
            found = verify(entry)
        except BobError as error:
            wrong.append(str(error))
            continue
        what = "as pinned" if found.pinned else "pinned now"
        print(
            f"{entry.key}: {found.files:,} files, {show_size(found.bytes)}, "
            f"sha256 {found.sha256[:16]}, {what}"
        )
    for problem in wrong:
        _say(problem)
    return 2 if wrong else 0


def _say(text: str) -> None:
    print(f"bob: {text}", file=sys.stderr)
