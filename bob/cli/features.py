"""``bob features``: look into the feature store and clear it up."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bob.errors import BobError
from bob.options.arguments import add_arguments, given, read_arguments
from bob.sizes import parse_size, show_size

if TYPE_CHECKING:
    from bob.features.store import Entry, FeatureStore


def add_command(commands: Any) -> None:
    """Add ``features`` and its own commands to an argument parser."""
    features = commands.add_parser("features", help="the store of extracted features")
    actions = features.add_subparsers(required=True, metavar="ACTION")
    shared = argparse.ArgumentParser(add_help=False)
    add_arguments(shared, "features")

    ls = actions.add_parser("ls", parents=[shared], help="entries, least recently used first")
    ls.add_argument("match", nargs="?", default="", help="only entries whose text contains this")
    ls.set_defaults(run=_ls)

    rm = actions.add_parser(
        "rm", parents=[shared], help="remove entries",
        description="Name entries by the start of their key or by words of their text, or say "
        "--all or --to-size.",
    )  # fmt: skip
    rm.add_argument("match", nargs="*", help="start of a key, or words such as swin_micro_glyphs")
    rm.add_argument("--all", action="store_true", help="every entry")
    rm.add_argument("--to-size", metavar="SIZE", help="the least recently used, down to this size")
    rm.set_defaults(run=_rm)

    verify = actions.add_parser(
        "verify", parents=[shared], help="compare every byte with its digest"
    )
    verify.add_argument("--remove", action="store_true", help="remove what is damaged")
    verify.set_defaults(run=_verify)


def _store(args: argparse.Namespace) -> FeatureStore:
    from bob.features.store import FeatureStore, default_folder

    root = read_arguments(args).features or default_folder()
    if root.exists() and not root.is_dir():
        raise BobError(f"--features {root} is no folder.")
    if given(args, "--features") and not root.is_dir():
        raise BobError(f"--features {root}: there is no such folder.")
    return FeatureStore(root)


def _ls(args: argparse.Namespace) -> int:
    store = _store(args)
    entries = [entry for entry in store.entries() if args.match in _text(entry)]
    for entry in entries:
        print(_line(entry))
    total = show_size(sum(entry.size for entry in entries))
    print(f"{len(entries)} entries, {total} in {store.root}")
    return 0


def _rm(args: argparse.Namespace) -> int:
    store = _store(args)
    if args.to_size:
        removed = store.trim(parse_size(args.to_size, what="--to-size"))
    elif args.all or args.match:
        known = list(store.entries())
        removed = known if args.all else _matching(known, args.match)
        removed = [entry for entry in removed if _remove(store, entry)]
    else:
        raise BobError("bob features rm: name entries, or say --all or --to-size SIZE.")
    total = show_size(sum(entry.size for entry in removed))
    print(f"removed {len(removed)} entries, {total}, from {store.root}")
    return 0


def _remove(store: FeatureStore, entry: Entry) -> bool:
    """Remove an entry, or say why it is left."""
    try:
        gone = store.remove(entry.key)
    except OSError as error:
        raise BobError(
            f"{entry.key[:12]} cannot be removed from {store.root}: {error}. Whoever owns it can."
        ) from None
    if entry.newer:
        print(f"left     {_line(entry)}; update bob to remove it")
    return gone


def _matching(known: Iterable[Entry], words: Iterable[str]) -> list[Entry]:
    known = list(known)
    chosen: dict[str, Entry] = {}
    for word in words:
        found = [entry for entry in known if entry.key.startswith(word) or word in _text(entry)]
        if not found:
            raise BobError(f"No entry matches {word!r}; `bob features ls` shows them all.")
        chosen |= {entry.key: entry for entry in found}
    return list(chosen.values())


def _verify(args: argparse.Namespace) -> int:
    store = _store(args)
    count, damaged, left = 0, 0, 0
    for entry in store.verify():
        count += 1
        if entry.newer:
            print(f"left     {_line(entry)}")
        elif entry.problem:
            damaged += 1
            print(f"damaged  {_line(entry)}")
            if args.remove and not _remove(store, entry):
                left += 1
                print(f"left     {entry.key[:12]}: {store.root} is not marked as a feature store")
    what = "extracted anew when next needed; --remove clears them now"
    if args.remove:
        what = f"{damaged - left} removed, {left} left" if left else "removed"
    print(f"{count} entries, {damaged} damaged" + (f" ({what})" if damaged else ""))
    return 1 if (left if args.remove else damaged) else 0


def _text(entry: Entry) -> str:
    return entry.manifest.about if entry.manifest else ""


def _line(entry: Entry) -> str:
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used)) if entry.used else "-"
    what = _text(entry) or "?"
    if entry.manifest:
        what += f": {entry.manifest.rows} x {entry.manifest.width} {entry.manifest.dtype}"
    if entry.problem:
        what += f"; {entry.problem}"
    return f"{entry.key[:12]}  {show_size(entry.size):>9}  {used:<16}  {what}"
