"""What a process has once and every case shares: put back behind the code of others, and told.

A backbone that sets torch's default dtype or turns gradients off changes the scores of every later
case. ``kept`` surrounds the code of others; ``bob.run.python_states`` and ``bob.run.torch_states``
list what is looked at.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

_SHOWN, _LONGEST = 3, 60

Key = TypeVar("Key", str, int)

Snapshot = dict[str, Any]
"""Values by the name of their state."""


class _Unreadable:
    """The value of a state that cannot be read."""


UNREADABLE = _Unreadable()


def at(before: Any, after: Any) -> str:
    """Words for a new value, such as ``at float64``."""
    return f"at {short(str(after).removeprefix('torch.'))}"


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Words that name the keys that differ, without their values: some of them are secrets."""
    return f"changed ({few(differing(before, after))})"


@dataclass(frozen=True, kw_only=True)
class State:
    """Something that the whole process shares.

    Attributes:
        name: What a remark calls it.
        get: Reads it; a copy where it can change in place.
        put: Writes a value that was read.
        same: Whether two values that were read are the same.
        words: From the former and the new value: how it was left; empty tells nothing.
        slow: Whether it is looked at only around code that is neither bob's nor timm's.
        again: From the values before and after an import: puts in place what the import changed.
    """

    name: str
    get: Callable[[], Any]
    put: Callable[[Any], object]
    same: Callable[[Any, Any], bool] = operator.eq
    words: Callable[[Any, Any], str] = at
    slow: bool = False
    again: Callable[[Any, Any], object] | None = None

    def read(self) -> Any:
        """The value, or that it cannot be read."""
        try:
            return self.get()
        except Exception:  # a setting that this version or this device lacks
            return UNREADABLE

    def unchanged(self, before: Any, after: Any) -> bool:
        """Whether nothing is to be put back."""
        if before is after:
            return True
        if before is UNREADABLE or after is UNREADABLE:
            return False
        return self.same(before, after)


@cache
def states() -> tuple[State, ...]:
    """Everything that is looked at, in the order it is put back in. Imports torch."""
    from bob.run.python_states import PYTHON_STATES
    from bob.run.torch_states import torch_states

    return (*torch_states(), *PYTHON_STATES)


def is_foreign(reference: str) -> bool:
    """Whether ``package.module:name`` is code of others: neither bob's nor timm's."""
    return reference.split(":", 1)[0].split(".", 1)[0] not in ("bob", "timm")


def snapshot(*, slow: bool = True) -> Snapshot:
    """The states as they are now; the slow ones where they are asked for."""
    return {state.name: state.read() for state in states() if slow or not state.slow}


def put_back(before: Snapshot) -> list[str]:
    """Put back what has changed since; returns how each of it was left, in words."""
    looked_at = [state for state in states() if state.name in before]
    now = {state.name: state.read() for state in looked_at}
    left = [state for state in looked_at if _differs(state, before, now[state.name])]
    told, problems = [], {}
    for state in left:
        after = now[state.name]
        how = "in disorder" if after is UNREADABLE else state.words(before[state.name], after)
        if how:
            told.append((state, how))
        problems[state.name] = _put(state, before[state.name])
    if told:  # what one of them sets may have moved another
        for state in looked_at:
            if _differs(state, before, state.read()):
                problems[state.name] = _put(state, before[state.name])
    phrases = []
    for state, how in told:
        back = not _differs(state, before, state.read())
        end = "was put back" if back else f"could not be put back{problems[state.name]}"
        phrases.append(f"left {state.name} {how}; it {end}")
    return phrases


def _differs(state: State, before: Snapshot, now: Any) -> bool:
    former = before[state.name]
    return former is not UNREADABLE and not state.unchanged(former, now)


def _put(state: State, former: Any) -> str:
    """Write a value; returns why that failed, for the end of a sentence."""
    try:
        state.put(former)
    except Exception as error:
        return f" ({type(error).__name__}: {short(str(error))})"
    return ""


@contextmanager
def kept(who: str, remarks: list[str], *, foreign: bool = True) -> Iterator[None]:
    """Put everything back when the block ends, however it ends.

    Args:
        who: Whose code runs in it, such as ``backbone my_net``.
        remarks: Takes a sentence for each thing that was changed.
        foreign: Whether the code is neither bob's nor timm's.
    """
    before = snapshot(slow=foreign)
    try:
        yield
    finally:
        remarks += [f"{who} {phrase}" for phrase in put_back(before)]


_IMPORTED: dict[str, dict[str, tuple[Any, Any]]] = {}


def import_settings(module: str, load: Callable[[], object]) -> None:
    """Import a module, and have what its import sets hold in each of its cases, not the first only.

    Python imports a module once. What that changes is put back behind the first case and would be
    missing in the second.

    Args:
        module: Its full name.
        load: Imports it.
    """
    if module not in _IMPORTED:
        before = snapshot()
        load()
        _IMPORTED[module] = {
            state.name: (before[state.name], after)
            for state in states()
            if not state.unchanged(before[state.name], after := state.read())
        }
        return
    for state in states():
        former, after = _IMPORTED[module].get(state.name, (UNREADABLE, UNREADABLE))
        if after is UNREADABLE or former is UNREADABLE:
            continue
        if state.again is None:
            state.put(after)
        else:
            state.again(former, after)


def differing(before: Mapping[Key, Any], after: Mapping[Key, Any]) -> list[Key]:
    """Keys of one of two mappings alone, or of other values."""
    missing = object()
    return [
        key
        for key in {**before, **after}
        if before.get(key, missing) is not (now := after.get(key, missing))
        and not _equal(before.get(key, missing), now)
    ]


def few(names: list[str]) -> str:
    """Some of many names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(short(str(name)) for name in names[:_SHOWN]) + more


def short(text: str) -> str:
    """A text cut to what a remark has room for."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _equal(first: Any, second: Any) -> bool:
    return isinstance(first, str | int | float | tuple) and bool(first == second)
