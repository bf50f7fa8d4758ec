"""``bob compare``: is one side better than the other, setting by setting and overall."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bob.cli.gathering import (
    Gathered,
    add_sources,
    chosen,
    gather,
    is_source,
    margins,
    of_source,
)
from bob.errors import BobError, did_you_mean, unknown
from bob.options.arguments import add_arguments, read_arguments

if TYPE_CHECKING:
    from bob.ledger import Score
    from bob.options import Options

NOTHING, UNDECIDED = 2, 3
"""Exit statuses; 1 where something is worse."""

_DESCRIPTION = """\
B is held against A: which is better in each setting that both have, by how much, and how sure that
is. A side is a backbone, a session, a commit, `references`, the folder of a ledger or an export, or
imported:NAME; BACKBONE@SIDE is one backbone of a side. Two backbones are held against each other;
otherwise each backbone against itself. Exit status: 0 nothing is worse; 1 B is worse in a setting
or overall; 2 nothing can be compared; 3 with --strict, something is undecided or was measured on
one side alone."""


def add_command(commands: Any) -> None:
    """Add ``bob compare`` to the subcommands."""
    parser = commands.add_parser(
        "compare", help="is one backbone, session or commit better than another",
        description=_DESCRIPTION,
    )  # fmt: skip
    parser.add_argument("before", metavar="A", help="what is compared with")
    parser.add_argument("after", metavar="B", help="what is asked about")
    add_arguments(parser, "compare")
    add_sources(parser)
    parser.add_argument(
        "--delta", type=_share, metavar="X",
        help="the least difference of a score that matters, such as 0.01; else the margin of each "
        "protocol at this scale",
    )  # fmt: skip
    parser.add_argument(
        "--metric", default="", metavar="NAME",
        help="another judged metric than each protocol's score, such as mask_ap",
    )  # fmt: skip
    parser.add_argument("--alpha", type=_level, default=0.05, metavar="P", help="the level (0.05)")
    parser.add_argument(
        "--strict", action="store_true",
        help="exit with 3 where something is undecided or one side lacks it",
    )  # fmt: skip
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--markdown", action="store_true", help="as Markdown, for a pull request")
    shape.add_argument("--json", action="store_true", help="everything, for programs")
    parser.set_defaults(run=_compare)


def _compare(args: argparse.Namespace) -> int:
    from bob.report.comparison import Answer, compare
    from bob.report.comparison_text import json_text, markdown_text, plain_text
    from bob.report.sides import sides
    from bob.report.sources import current, not_finite

    options = read_arguments(args)
    gathered = gather(args.sources, options, metric=_judged(args.metric))
    before, first = _side(args.before, gathered, options)
    after, second = _side(args.after, gathered, options)
    rows, others = (chosen(side, args.words) for side in (before, after))
    least = margins(options, args.metric)

    def delta(score: Score) -> float:
        return least.get(score.task, 0.0) if args.delta is None else float(args.delta)

    found = sides(
        current(rows),
        current(others),
        units=gathered.units,
        same_backbones=not (first and second and first != second),
        delta=delta,
        lost=(not_finite(rows), not_finite(others)),
        drawing=gathered.drawing,
    )
    if not found.pairs and not found.broken:
        raise BobError(_nothing(args, found.apart))
    compared = compare(found.pairs, alpha=args.alpha)
    shown = json_text if args.json else markdown_text if args.markdown else plain_text
    print(shown(args.before, args.after, compared, found))
    told = [*compared.contrasts, *([compared.overall] if compared.overall else [])]
    if found.broken or any(contrast.answer is Answer.WORSE for contrast in told):
        return 1
    open_ = compared.count(Answer.UNDECIDED) or found.apart or found.only_before
    return UNDECIDED if args.strict and (open_ or found.only_after) else 0


def _judged(metric: str) -> str:
    from bob.protocols import PROTOCOLS

    known = {judged.name for spec in PROTOCOLS.values() for judged in spec.judged}
    if metric and metric not in known:
        raise unknown("judged metric", metric, known)
    return metric


def _nothing(args: argparse.Namespace, apart: Any) -> str:
    if apart:
        name, why = next(iter(apart.items()))
        return f"Nothing of {args.before} and {args.after} can be compared: {name}: {why}."
    words = f" and has {args.words!r} in its name" if args.words else ""
    words += f" with {args.metric}" if args.metric else ""
    return (
        f"No setting was measured for both {args.before} and {args.after}{words}. `bob profile "
        "--from ledger` shows what was."
    )


def _side(text: str, gathered: Gathered, options: Options) -> tuple[list[Score], str]:
    """Rows of one side, and the backbone if it is one."""
    own = [row for row in gathered.scores if row.backbone == text]
    if own:
        return own, text
    backbone, at, where = text.rpartition("@")
    if at:
        rows = _where(where, gathered, options)
        own = [row for row in rows if row.backbone == backbone]
        if not own:
            near = did_you_mean(backbone, {row.backbone for row in rows})
            raise BobError(f"{text}: {where} has no score of {backbone!r}. {near}".strip())
        return own, backbone
    return _where(text, gathered, options), ""


def _where(text: str, gathered: Gathered, options: Options) -> list[Score]:
    """Rows of a session, a commit, the references or another source."""
    if is_source(text) and not Path(text).is_dir():
        return _of_source(text, gathered, options)
    if text:
        names = {row.session for row in gathered.scores} | set(gathered.reused)
        sessions = {name for name in names - {""} if name.startswith(text)}
        sessions = sessions & {text} or sessions  # a whole name, though another begins so
        if len(sessions) > 1:
            raise BobError(f"{text}: {len(sessions)} sessions begin so. Write more of the name.")
        for session in sessions:
            reused = gathered.reused.get(session, [])
            return [row for row in gathered.scores if row.session == session] + reused
        if re.fullmatch(r"[0-9a-f]{7,40}", text):
            commits = {found for found in gathered.commits.values() if found.startswith(text)}
            if len(commits) > 1:
                raise BobError(f"{text}: {len(commits)} commits begin so. Write more of it.")
            at = {name for name, commit in gathered.commits.items() if commit in commits}
            if at:
                return [row for row in gathered.scores if row.session in at]
        if is_source(text):
            return _of_source(text, gathered, options)
    names = {row.backbone for row in gathered.scores} | {row.session for row in gathered.scores}
    raise BobError(
        f"{text!r} is no backbone, session, commit or source that has "
        f"{gathered.metric or 'scores'} at scale "
        f"{options.scale!r}. {did_you_mean(text, names)} `bob profile --from ledger` shows what "
        "was measured; --from reads elsewhere.".replace("  ", " ")
    )


def _of_source(text: str, gathered: Gathered, options: Options) -> list[Score]:
    other = of_source(text, options)
    other.choose(gathered.metric)
    gathered.units |= other.units
    gathered.detections |= other.detections
    return other.scores


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text}: write a share of 1, such as 0.01 for one point")
    return value


def _level(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text}: write a chance between 0 and 1, such as 0.05")
    return value
