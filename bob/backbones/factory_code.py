"""What a factory's code is, so far as it can be told."""

from __future__ import annotations

import hashlib
import inspect
import sys
from typing import Any

from bob.catalog.schema import BackboneEntry
from bob.objects import import_object

OWN = "fingerprint"
"""Attribute by which a factory says itself what it is: text, or a function that gives text."""


def factory_fingerprint(entry: BackboneEntry) -> str:
    """A digest that moves when a factory builds something else.

    It is of the factory's own word for itself (its attribute ``fingerprint``) where it has one,
    else of the source of its module. Empty for timm, whose version is in the environment, and for
    bob's own backbones, whose change is a new version of the protocols.

    Args:
        entry: The backbone's entry.
    """
    module_name = entry.source.split(":", 1)[0]
    if entry.source.startswith("timm:") or module_name.split(".")[0] == "bob":
        return ""
    factory = import_object(entry.source, what=f"backbone {entry.key!r}")
    own: Any = getattr(factory, OWN, None)
    if own is not None:
        word = str(own() if callable(own) else own)
        return hashlib.sha256(word.encode()).hexdigest()
    try:
        text = inspect.getsource(sys.modules[getattr(factory, "__module__", module_name)])
    except (OSError, TypeError, KeyError):  # compiled, or made at run time
        return ""
    return hashlib.sha256(text.encode()).hexdigest()
