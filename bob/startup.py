"""What keeps the time to the first result short: imports that bring no more than a case needs."""

from __future__ import annotations

import gc
import importlib
import logging
import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec
from multiprocessing.forkserver import ensure_running
from types import ModuleType
from typing import Any

PRELOAD = "bob.run.preload"
"""What processes that run cases import before they are forked."""

_thawed: list[bool] = []
"""Not empty where the collector looks again at what it was to leave alone."""


@contextmanager
def importing() -> Iterator[None]:
    """Import large packages, and have the garbage collector leave alone what they consist of.

    torch, timm and MLflow make a million objects that live until the process ends. The collector
    would look through all of them several times while they appear, at every full collection after
    that, and some more times when pytest and Python end. What is garbage already is collected
    first, so that nothing is kept that should go.
    """
    was_enabled, modules = gc.isenabled(), len(sys.modules)
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > modules:
            gc.freeze()
        if was_enabled:
            gc.enable()


@contextmanager
def settled_objects() -> Iterator[None]:
    """Python's search for cycles passes over every object that exists already.

    Imports leave half a million of them, and a loop of small updates that allocates many objects
    spends a tenth of its time looking through them. Behind the case ``settle_again`` is called.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()  # a network among them may have to go
        _thawed.append(True)


def settle_again() -> None:
    """Have the collector leave alone what ``importing`` had it, where that has ended meanwhile."""
    if _thawed:
        gc.collect()
        gc.freeze()
        _thawed.clear()


class DeferredPackage(ModuleType):
    """A package that runs its ``__init__`` when it is first asked for a name it does not have yet.

    Its submodules can be imported before that.
    """

    def __getattr__(self, name: str) -> object:
        # Python and its tools ask every module for names such as ``__warningregistry__``.
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        spec = self.__spec__
        assert spec is not None
        assert spec.loader is not None
        self.__class__ = ModuleType  # type: ignore[assignment]  # an ordinary module from here on
        spec.loader.exec_module(self)
        return getattr(self, name)


def defer(name: str, **known: object) -> None:
    """Put a package into ``sys.modules`` whose ``__init__`` has not run; none if it is there.

    Args:
        name: The package's full name; its parent has been imported or deferred.
        known: Names it has from the beginning.

    Raises:
        ImportError: It is not installed.
    """
    if name in sys.modules:
        return
    spec = find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    package = module_from_spec(spec)
    package.__class__ = DeferredPackage
    vars(package).update(known)
    sys.modules[name] = package
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, package)


def import_torchmetrics() -> None:
    """Import torchmetrics' scores of classifiers without its scores of speech, text and images.

    Those import SciPy's signal processing and, where they are installed, transformers and others.
    Lightning Fabric imports the whole of torchmetrics for its version, so this comes first. Whoever
    asks torchmetrics for more gets it as usual.
    """
    if "torchmetrics" in sys.modules:
        return
    try:
        # torchmetrics.utilities takes the logger from the package
        logger = logging.getLogger("torchmetrics")
        defer("torchmetrics", _logger=logger, __version__=version("torchmetrics"))
        for part in ("functional", "functional.classification"):
            defer(f"torchmetrics.{part}")
        importlib.import_module("torchmetrics.functional.classification.accuracy")
    except ImportError:  # another version, whose parts lean on more of the package
        for name in [name for name in sys.modules if name.split(".", 1)[0] == "torchmetrics"]:
            del sys.modules[name]
        importlib.import_module("torchmetrics")


def warm_processes(preload: str) -> Any:
    """A way to start processes: forked from one that has imported what each of them needs.

    There is one such process in each that asks, whatever is asked for next.

    Args:
        preload: Module that it imports.

    Raises:
        OSError: It cannot be started.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([preload])
    ensure_running()
    return processes


@contextmanager
def without_main() -> Iterator[None]:
    """A script that calls ``pytest.main`` is not run once more by each process that starts."""
    main = sys.modules["__main__"]
    hidden = {name: vars(main).get(name) for name in ("__spec__", "__file__") if name in vars(main)}
    for name in hidden:
        setattr(main, name, None)
    try:
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)
