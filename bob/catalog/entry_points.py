"""Backbones that installed packages bring along."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint, entry_points

from pydantic import TypeAdapter, ValidationError

from bob.catalog.backbone_spec import family_of
from bob.catalog.load import Catalog
from bob.catalog.schema import BackboneEntry, Key
from bob.errors import BobError
from bob.objects import import_object

FACTORIES = "bob.backbones"
ENTRIES = "bob.backbone_entries"


def installed_backbones(catalog: Catalog) -> Catalog:
    """The catalog and what packages register.

    An entry point of the group ``bob.backbones`` names a factory, a function that returns a
    ``torch.nn.Module``; its own name is the key, and it is imported when a case runs. One of the
    group ``bob.backbone_entries`` names a function that returns a ``BackboneEntry`` or a list of
    them; it is called whenever something is planned.

    Raises:
        BobError: An entry point cannot be imported or used, or a key is taken.
    """
    for point in sorted(entry_points(group=FACTORIES), key=lambda point: point.name):
        catalog = _joined(catalog, [_factory(point)], point)
    for point in sorted(entry_points(group=ENTRIES), key=lambda point: point.name):
        catalog = _joined(catalog, _entries(point), point)
    return catalog


def _factory(point: EntryPoint) -> BackboneEntry:
    try:
        TypeAdapter(Key).validate_python(point.name)
        return BackboneEntry(
            key=point.name,
            family=family_of(point.value),
            source=re.sub(r"\s", "", point.value),
            note=f"from {_package(point)}",
        )
    except ValidationError as error:
        raise BobError(
            f"{_told(point)}: {error.errors(include_url=False)[0]['msg']}. Write its name in small "
            "letters, digits, dots and underscores, and its value as package.module:factory."
        ) from None


def _entries(point: EntryPoint) -> list[BackboneEntry]:
    function = import_object(point.value, what=f"{ENTRIES} {point.name!r}")
    try:
        answer = function()
    except Exception as error:
        raise BobError(f"{_told(point)} raised {type(error).__name__}: {error}") from error
    entries = list(answer) if isinstance(answer, list | tuple) else [answer]
    for entry in entries:
        if not isinstance(entry, BackboneEntry):
            raise BobError(
                f"{_told(point)} gave {type(entry).__name__}; expected a BackboneEntry or a list "
                f"of them. A factory of modules belongs in the group {FACTORIES}."
            )
    return entries


def _joined(catalog: Catalog, entries: list[BackboneEntry], point: EntryPoint) -> Catalog:
    for entry in entries:
        if entry.key in catalog.backbones:
            raise BobError(
                f"{_told(point)}: backbone key {entry.key!r} is taken by another entry. Rename it "
                "there, or uninstall one of the two."
            )
    return catalog.with_backbones(entries)


def _told(point: EntryPoint) -> str:
    return f"Entry point {point.group}: {point.name} = {point.value!r} of {_package(point)}"


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "an installed package"
