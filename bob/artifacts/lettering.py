"""Names of others in pictures: taken literally, on one line, and no longer than there is room."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import cache

import matplotlib
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from bob.shown import elided, visible

FALLBACKS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Source Han Sans", "WenQuanYi Zen Hei",
    "Microsoft YaHei", "PingFang SC", "Hiragino Sans", "Arial Unicode MS", "Noto Sans",
)  # fmt: skip
"""Fonts that are asked, where they are installed, for what matplotlib's own face lacks."""

_OWN = "DejaVu Sans"
_LITERAL = {"text.parse_math": False, "text.usetex": False}
_SMALLEST = 4.5
_EMPTY = "(no name)"


def label(text: str, limit: int = 40) -> str:
    r"""A name as it stands in a picture.

    Control characters and characters that no font at hand has are written as escapes, such as
    ``\u4e2d``, so that two names never look alike for want of a font; of a long name the middle is
    left out; an empty one is told.

    Args:
        text: A class, a dataset, a backbone, a group of shifts.
        limit: Characters at most.
    """
    known = _characters()
    drawn = "".join(
        character if ord(character) in known else _code(character)
        for character in visible(" ".join(text.split()))
    )
    return elided(drawn, limit) or _EMPTY


def labels(names: Sequence[str], limit: int) -> list[str]:
    """Names as they stand beside each other: those that look alike have their number before them.

    Args:
        names: Such as classes; numbers are their places, from 0.
        limit: Characters of each at most.
    """
    shown = [label(name, limit) for name in names]
    count = Counter(shown)
    return [
        elided(f"{place}: {text}", limit) if count[text] > 1 else text
        for place, text in enumerate(shown)
    ]


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file; no text in it is taken for a formula.

    What a name may hold is decided by others. ``$`` in it is a dollar sign, whatever the user's
    matplotlibrc says.
    """
    buffer = io.BytesIO()
    with matplotlib.rc_context(_LITERAL), warnings.catch_warnings():  # of ticks made while drawing
        warnings.simplefilter("ignore")
        for text in figure.findobj(Text):
            assert isinstance(text, Text)
            text.set_parse_math(False)
            text.set_usetex(False)
            text.set_fontfamily(list(_families()))
        canvas = FigureCanvasAgg(figure)
        for text in _titles(figure):
            _narrow(text, canvas)
        canvas.print_png(buffer)
    return buffer.getvalue()


def _titles(figure: Figure) -> list[Text]:
    return [*figure.texts, *(axes.title for axes in figure.axes)]


def _narrow(text: Text, canvas: FigureCanvasAgg) -> None:
    """Make a centred text smaller where it is wider than its picture."""
    width = canvas.get_width_height()[0]
    box = text.get_window_extent(canvas.get_renderer())
    middle = (box.x0 + box.x1) / 2
    room = 2 * min(middle, width - middle) - 4
    if box.width > room > 0:
        text.set_fontsize(max(_SMALLEST, text.get_fontsize() * room / box.width))


@cache
def _families() -> tuple[str, ...]:
    installed = set(font_manager.get_font_names())
    return (_OWN, *(name for name in FALLBACKS if name in installed))


@cache
def _characters() -> frozenset[int]:
    """Code points that can be drawn."""
    found: set[int] = set()
    for family in _families():
        path = font_manager.findfont(family)
        found.update(font_manager.get_font(path).get_charmap())
    return frozenset(found)


def _code(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
