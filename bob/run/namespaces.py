"""Functions, classes and methods that code of others replaces ("monkeypatches")."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import ModuleType
from typing import Any

from bob.run.global_state import State, few

Owner = ModuleType | type
Names = dict[str, tuple[Owner, dict[str, Any]]]
"""What modules and classes hold, by the full name of each."""

_MISSING = object()


def functions(name: str, *, modules: tuple[str, ...], below: tuple[str, ...] = ()) -> State:
    """The functions of modules, and the methods of the classes that they define.

    Names that a module gains do not count, because packages import on demand; methods that a class
    gains do.

    Args:
        name: What a remark calls them.
        modules: Full names of modules.
        below: Beginnings of modules that have been imported, of which the classes count alone.
    """

    def read() -> Names:
        return {
            owner_name: (owner, {**vars(owner)}) for owner_name, owner in _owners(modules, below)
        }

    def put(before: Names) -> None:
        for owner, names in before.values():
            for key in _patched(owner, names, vars(owner)):
                if key in names:
                    setattr(owner, key, names[key])
                else:
                    delattr(owner, key)

    def words(before: Names, after: Names) -> str:
        return f"patched ({few(list(_all_patched(before, after)))})"

    def same(before: Names, after: Names) -> bool:
        return next(_all_patched(before, after), None) is None

    return State(name=name, get=read, put=put, same=same, words=words, slow=True)


def _owners(modules: tuple[str, ...], below: tuple[str, ...]) -> tuple[tuple[str, Owner], ...]:
    return _found(modules, below, len(sys.modules))


@lru_cache(maxsize=16)
def _found(
    modules: tuple[str, ...], below: tuple[str, ...], count: int
) -> tuple[tuple[str, Owner], ...]:
    """Modules and classes; looked for anew when the number of loaded modules has changed."""
    loaded = sys.modules.copy()
    found: list[tuple[str, Owner]] = [(name, loaded[name]) for name in modules if name in loaded]
    for name, module in loaded.items():
        if below and name.startswith(below) and type(module) is ModuleType:
            found += [(f"{name}.{owner.__qualname__}", owner) for owner in _classes(module)]
    return tuple(found)


def _classes(module: ModuleType) -> tuple[type, ...]:
    return tuple(
        value
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
    )


def _all_patched(before: Names, after: Names) -> Iterator[str]:
    for name, (owner, names) in before.items():
        now = after.get(name, (owner, names))[1]
        for key in _patched(owner, names, now):
            yield f"{name}.{key}"


def _patched(owner: Owner, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    if before is after or _identical(before, after):
        return []
    names = {**before, **after} if isinstance(owner, type) else before
    return [
        name
        for name in names
        if (old := before.get(name, _MISSING)) is not (new := after.get(name, _MISSING))
        and (_is_code(new) if old is _MISSING else _is_code(old))
        and not getattr(new, "hooked", False)  # torch wraps the step of an optimiser in use, once
    ]


def _identical(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return len(before) == len(after) and all(map(operator.is_, before.values(), after.values()))


def _is_code(value: Any) -> bool:
    return callable(value) or isinstance(value, staticmethod | classmethod | property)


def attribute(owner: Any, name: str, *, called: str = "") -> State:
    """One value of a module or class, which code replaces."""

    def words(before: Any, after: Any) -> str:
        plain = isinstance(after, bool | int | float | str | None)
        return f"at {after}" if plain else "replaced"

    def put(value: Any) -> None:
        setattr(owner, name, value)

    get: Callable[[], Any] = lambda: getattr(owner, name)  # noqa: E731
    return State(
        name=called or f"{owner.__name__}.{name}", get=get, put=put, same=operator.is_, words=words
    )
