"""What Python and the operating system hold once for the whole process."""

from __future__ import annotations

import gc
import locale
import logging
import multiprocessing
import operator
import os
import random
import resource
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

from bob.run.global_state import State, changed, differing, few
from bob.run.namespaces import attribute, functions

_OWN = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK")
"""Environment variables of the suite's own libraries: Lightning seeds, scikit-learn is imported."""

# torch puts its handler for loader processes in once and for all; without it their end goes unseen
_SIGNALS = tuple(number for number in map(int, signal.Signals) if number != signal.SIGCHLD)
_LIMITS = ("RLIMIT_NOFILE", "RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_CORE")


def _environment() -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if name not in _OWN}


def _put_environment(before: dict[str, str]) -> None:
    for name in differing(before, _environment()):
        if name in before:
            os.environ[name] = before[name]
        else:
            del os.environ[name]


def _again_environment(before: dict[str, str], after: dict[str, str]) -> None:
    for name in differing(before, after):
        if name in after:
            os.environ[name] = after[name]
        else:
            os.environ.pop(name, None)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _list_state(name: str, owner: object, attribute: str, **further: Any) -> State:
    """A list that code changes in place, or replaces."""

    def put(before: tuple[list[Any], list[Any]]) -> None:
        before[0][:] = before[1]
        setattr(owner, attribute, before[0])

    def read() -> tuple[list[Any], list[Any]]:
        held = getattr(owner, attribute)
        return held, list(held)

    def same(before: tuple[list[Any], list[Any]], after: tuple[list[Any], list[Any]]) -> bool:
        return before[0] is after[0] and len(before[1]) == len(after[1]) and before[1] == after[1]

    options: dict[str, Any] = {"words": lambda before, after: "changed", **further}
    return State(name=name, get=read, put=put, same=same, **options)


def _path_words(before: tuple[Any, list[str]], after: tuple[Any, list[str]]) -> str:
    own = str(Path.cwd())  # where a backbone is looked for that is not installed
    here, there = ([entry for entry in paths[1] if entry != own] for paths in (before, after))
    if here == there:
        return ""
    news = [entry for entry in there if entry not in here]
    gone = [entry for entry in here if entry not in there]
    return f"changed ({few([*news, *gone])})" if news or gone else "in another order"


def _path_again(before: tuple[Any, list[str]], after: tuple[Any, list[str]]) -> None:
    sys.path[:0] = [entry for entry in after[1] if entry not in before[1] + sys.path]


def _put_filters(before: list[Any]) -> None:
    warnings.resetwarnings()  # has every module forget what it has warned of
    warnings.filters[:] = before  # type: ignore[index]


def _handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in _SIGNALS}


def _put_handlers(before: dict[int, Any]) -> None:
    for number in differing(before, _handlers()):
        signal.signal(number, before[number])


def _handler_words(before: dict[int, Any], after: dict[int, Any]) -> str:
    names = [signal.Signals(number).name for number in differing(before, after)]
    return f"changed ({few(names)})"


def _timers() -> tuple[bool, ...]:
    return tuple(signal.getitimer(which)[0] > 0 for which in (0, 1, 2))


def _put_timers(before: tuple[bool, ...]) -> None:
    for which, ran in enumerate(before):
        if not ran:
            signal.setitimer(which, 0)


def _levels() -> dict[str, tuple[int, bool]]:
    found = {
        name: (logger.level, logger.disabled)
        for name, logger in logging.root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger)
    }
    root = logging.root
    return {**found, "root": (root.level, root.disabled), "all": (root.manager.disable, False)}


def _put_levels(before: dict[str, tuple[int, bool]]) -> None:
    now = _levels()
    for name, (level, disabled) in before.items():
        if now.get(name) == (level, disabled):
            continue
        if name == "all":
            logging.disable(level)
        else:
            logger = logging.root if name == "root" else logging.getLogger(name)
            logger.setLevel(level)
            logger.disabled = disabled


def _replaced(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Keys whose value is another one or gone; new ones do not count."""
    if len(before) == len(after) and all(map(operator.is_, before.values(), after.values())):
        return []
    return [name for name, value in before.items() if after.get(name) is not value]


def _same_levels(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return all(after.get(name) == value for name, value in before.items())


def _put_modules(before: dict[str, Any]) -> None:
    for name in _replaced(before, sys.modules):
        sys.modules[name] = before[name]


def _limits() -> dict[str, tuple[int, int]]:
    return {
        name: resource.getrlimit(getattr(resource, name))
        for name in _LIMITS
        if hasattr(resource, name)
    }


def _put_limits(before: dict[str, tuple[int, int]]) -> None:
    for name in differing(before, _limits()):
        resource.setrlimit(getattr(resource, name), before[name])


def _start_method() -> str:
    return (
        multiprocessing.get_start_method(allow_none=True)
        or multiprocessing.get_all_start_methods()[0]
    )


PYTHON_STATES: tuple[State, ...] = (
    State(
        name="os.environ",
        get=_environment,
        put=_put_environment,
        words=changed,
        again=_again_environment,
    ),
    State(name="the working directory", get=os.getcwd, put=os.chdir),
    State(name="os.umask", get=_umask, put=os.umask, words=lambda b, after: f"at {after:03o}"),
    State(name="resource limits", get=_limits, put=_put_limits, words=changed),
    State(
        name="sys.modules",
        get=lambda: dict(sys.modules),
        put=_put_modules,
        same=lambda before, after: not _replaced(before, after),
        slow=True,
        words=lambda before, after: f"changed ({few(_replaced(before, after))})",
    ),
    _list_state("sys.path", sys, "path", words=_path_words, again=_path_again),
    _list_state("sys.meta_path", sys, "meta_path"),
    *(attribute(sys, name) for name in ("stdin", "stdout", "stderr", "argv")),
    *(attribute(sys, name) for name in ("excepthook", "unraisablehook", "displayhook")),
    attribute(threading, "excepthook"),
    State(
        name="sys.settrace",
        get=sys.gettrace,
        put=sys.settrace,
        same=lambda before, after: before is after,
        words=lambda before, after: "changed",
    ),
    State(
        name="sys.setprofile",
        get=sys.getprofile,
        put=sys.setprofile,
        same=lambda before, after: before is after,
        words=lambda before, after: "changed",
    ),
    State(name="sys.setrecursionlimit", get=sys.getrecursionlimit, put=sys.setrecursionlimit),
    State(name="sys.setswitchinterval", get=sys.getswitchinterval, put=sys.setswitchinterval),
    State(
        name="gc.isenabled",
        get=gc.isenabled,
        put=lambda was: gc.enable() if was else gc.disable(),
    ),
    State(
        name="gc.set_threshold", get=gc.get_threshold, put=lambda counts: gc.set_threshold(*counts)
    ),
    State(
        name="warnings.filters",
        get=lambda: list(warnings.filters),
        put=_put_filters,
        words=lambda before, after: "changed",
        slow=True,  # SciPy, which cases import when they need it, adds some
    ),
    attribute(warnings, "showwarning"),
    State(name="signal handlers", get=_handlers, put=_put_handlers, words=_handler_words),
    State(
        name="a timer of signals", get=_timers, put=_put_timers, words=lambda b, after: "running"
    ),
    State(
        name="the mask of signals",
        get=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, []),
        put=lambda mask: signal.pthread_sigmask(signal.SIG_SETMASK, mask),
        words=lambda before, after: "changed",
    ),
    State(
        name="logging levels",
        get=_levels,
        put=_put_levels,
        same=_same_levels,
        words=lambda before, after: changed(before, {name: after.get(name) for name in before}),
    ),
    _list_state("the root logger's handlers", logging.root, "handlers"),
    State(
        name="locale.setlocale",
        get=lambda: locale.setlocale(locale.LC_ALL),
        put=lambda value: locale.setlocale(locale.LC_ALL, value),
    ),
    State(
        name="multiprocessing.set_start_method",
        get=_start_method,
        put=lambda method: multiprocessing.set_start_method(method, force=True),
    ),
    State(
        name="the state of random",
        get=random.getstate,
        put=random.setstate,
        words=lambda before, after: "",  # every case is seeded
    ),
    functions("functions of Python", modules=("builtins", "os", "posix", "random", "time", "math")),
)
