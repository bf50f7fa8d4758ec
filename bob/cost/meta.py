"""Parameters of a backbone that nothing else tells, counted without memory for them."""

from __future__ import annotations

from functools import cache
from typing import Any

from bob.catalog.schema import BackboneEntry


def parameters_m(entry: BackboneEntry) -> float | None:
    """Millions of parameters, from the architecture built on torch's meta device.

    Returns:
        None where the architecture cannot be built so; running the case says why.
    """
    arguments = tuple(sorted(entry.arguments.items()))
    return _count(entry.source, arguments)


@cache
def _count(source: str, arguments: tuple[tuple[str, Any], ...]) -> float | None:
    try:
        import torch

        given = dict(arguments)
        with torch.device("meta"):
            if source.startswith("timm:"):
                import timm

                given = {"num_classes": 0, **given, "pretrained": False}
                module = timm.create_model(source.removeprefix("timm:"), **given)
            else:
                from bob.objects import import_object

                module = import_object(source, what="backbone")(**given)
        return float(sum(one.numel() for one in module.parameters()) / 1e6)
    except Exception:
        return None
