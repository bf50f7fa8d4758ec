"""Parameters of a backbone that nothing else tells, counted without memory for them."""

from __future__ import annotations

from functools import cache

from bob.catalog.schema import BackboneEntry


def parameters_m(entry: BackboneEntry) -> float | None:
    """Millions of parameters, from the architecture built on torch's meta device.

    Returns:
        None where the architecture cannot be built so; running the case says why.
    """
    return _counted(entry.model_dump_json(include={"key", "family", "source", "arguments"}))


@cache
def _counted(entry: str) -> float | None:
    from bob.backbones.architecture import bare_module

    try:
        module = bare_module(BackboneEntry.model_validate_json(entry))
    except Exception:
        return None
    return float(sum(parameter.numel() for parameter in module.parameters()) / 1e6)
