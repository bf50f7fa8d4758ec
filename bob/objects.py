"""Import ``package.module:name`` with errors a user can act on."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from bob.errors import BobError, unknown


def import_object(reference: str, *, what: str) -> Any:
    """The object that ``package.module:name`` names.

    A top-level package that is not installed is also looked for in the working directory, as
    ``python -m`` would.

    Raises:
        BobError: The module cannot be imported or has no such name.
    """
    module_name, _, name = reference.partition(":")
    try:
        module = _import(module_name)
    except ModuleNotFoundError as error:
        raise BobError(
            f"{what.capitalize()}: no module {error.name!r} (for {reference}). Install it, or run "
            f"from the folder that holds it; looked on the Python path and in {Path.cwd()}.",
            kind="import",
        ) from None
    except Exception as error:
        raise BobError(
            f"{what.capitalize()}: importing {module_name} raised {type(error).__name__}: {error}",
            kind="import",
        ) from error
    if not hasattr(module, name):
        public = [attribute for attribute in vars(module) if not attribute.startswith("_")]
        hint = f"It was looked for in {module_name}, for {what}."
        raise BobError(str(unknown("name", name, public, hint=hint)), kind="import")
    return getattr(module, name)


def _import(module_name: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        here = str(Path.cwd())
        if error.name != module_name.split(".", 1)[0] or here in sys.path:
            raise
        sys.path.insert(0, here)
        importlib.invalidate_caches()
        return importlib.import_module(module_name)
