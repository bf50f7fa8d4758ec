"""What a factory's code is, so far as it can be told."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType
from typing import Any

from bob.catalog.schema import BackboneEntry
from bob.hashing import digest_of
from bob.objects import import_object

OWN = "fingerprint"
"""Attribute by which a factory says itself what it is: text, or a function that gives text."""

_COVERED = ("bob", "timm")
"""Packages whose change is told elsewhere."""


def factory_fingerprint(entry: BackboneEntry) -> str:
    """A digest that moves when a factory builds something else.

    It is of the factory's own word for itself (its attribute ``fingerprint``) where it has one,
    else of the source of its module, and of the modules that this imports from the same package or
    from outside of the installed ones. Empty for timm, whose version is in the environment, and for
    bob's own backbones, whose change is a new version of the protocols.

    Args:
        entry: The backbone's entry; best asked for once it has been built, so that imports within
            functions have been made.
    """
    module_name = entry.source.split(":", 1)[0]
    if entry.source.startswith("timm:") or module_name.split(".")[0] == "bob":
        return ""
    factory = import_object(entry.source, what=f"backbone {entry.key!r}")
    own: Any = getattr(factory, OWN, None)
    if own is not None:
        word = str(own() if callable(own) else own)
        return hashlib.sha256(word.encode()).hexdigest()
    module = sys.modules.get(getattr(factory, "__module__", None) or module_name)
    texts = _sources(module) if module is not None else {}
    if len(texts) <= 1:
        return "".join(hashlib.sha256(text.encode()).hexdigest() for text in texts.values())
    return digest_of(texts, length=64)


def _sources(first: ModuleType) -> dict[str, str]:
    """The source of a module and of those of its author that it imports, by name.

    Modules without a source (compiled, or made at run time) are left out.
    """
    top, texts, seen, waiting = first.__name__.split(".")[0], {}, {first.__name__}, [first]
    while waiting:
        module = waiting.pop()
        try:
            texts[module.__name__] = text = inspect.getsource(module)
        except (OSError, TypeError):
            continue
        for name in set(_imported(text, module.__package__ or "")) - seen:
            seen.add(name)
            found = sys.modules.get(name)
            if isinstance(found, ModuleType) and _is_of_author(found, top):
                waiting.append(found)
    return texts


def _imported(text: str, package: str) -> Iterator[str]:
    """Names of what a source imports: modules, packages above them, and other names too."""
    for node in ast.walk(ast.parse(text)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            with suppress(ImportError):  # relative, outside of any package
                base = resolve_name(base, package)
                names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _is_of_author(module: ModuleType, top: str) -> bool:
    """Whether a module is of a factory's package, or of nothing that is installed."""
    name = module.__name__.split(".")[0]
    if name == top:
        return True
    file = getattr(module, "__file__", None)
    if name in _COVERED or not file:
        return False
    path = Path(file).resolve()
    installed = {
        sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")
    }
    return not any(path.is_relative_to(Path(folder).resolve()) for folder in installed)
