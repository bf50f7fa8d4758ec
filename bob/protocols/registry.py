"""The protocols there are: those of this package, and those that installed packages bring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from bob.protocols.recipe import Recipe
from bob.protocols.spec import ProtocolSpec

GROUP = "bob.protocols"
"""Entry points of this group name a ``ProtocolSpec``, as ``package.module:SPEC``."""

OWN = (
    "finetune",
    "finetune_multilabel",
    "linear_probe",
    "linear_probe_paper",
    "knn",
    "low_shot",
    "low_shot_finetune",
    "retrieval",
    "ood",
    "eval_released",
    "detection",
    "detection_frozen",
    "ood_detection",
)
"""Modules of this room that declare a protocol, in the order they are told in."""


class Registry(Mapping[str, ProtocolSpec]):
    """Protocols by name, looked up when first asked for.

    A package whose protocol cannot be used does not stop the others: it is left out, and
    ``problems`` says why.
    """

    @cached_property
    def problems(self) -> tuple[str, ...]:
        """Why protocols of installed packages were left out, a sentence each."""
        return self._found[1]

    @cached_property
    def _found(self) -> tuple[dict[str, ProtocolSpec], tuple[str, ...]]:
        specs = {name: import_module(f"bob.protocols.{name}").SPEC for name in OWN}
        problems = []
        for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
            problem = join(specs, point)
            if problem:
                problems.append(problem)
        return specs, tuple(problems)

    def __getitem__(self, name: str) -> ProtocolSpec:
        return self._found[0][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found[0])

    def __len__(self) -> int:
        return len(self._found[0])


def join(specs: dict[str, ProtocolSpec], point: EntryPoint) -> str:
    """Add what an entry point names; returns what is wrong with it."""
    package = point.dist.name if point.dist else "an installed package"
    told = f"Entry point {GROUP}: {point.name} = {point.value!r} of {package}"
    try:
        spec = point.load()
    except Exception as error:
        return (
            f"{told} cannot be imported: {type(error).__name__}: {error}. Its cases are left out; "
            "mend the package or uninstall it."
        )
    if not isinstance(spec, ProtocolSpec):
        return f"{told} is {type(spec).__name__}; expected a ProtocolSpec. It is left out."
    if not issubclass(spec.recipe, Recipe):
        return (
            f"{told}: its recipe {spec.recipe.__name__} is no bob.protocols.Recipe. It is left "
            "out; derive the recipe from it."
        )
    if spec.name != point.name:
        return f"{told} calls itself {spec.name!r}; give both one name. It is left out."
    if spec.name in specs:
        return f"{told}: there is a protocol of that name already. It is left out; rename it."
    specs[spec.name] = spec
    return ""


PROTOCOLS = Registry()
