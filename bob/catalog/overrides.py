"""The recipe fields of one case, put together from what a scale says at several levels."""

from __future__ import annotations

from typing import Any

from bob.catalog.schema import TaskPlan


def resolve(
    plan: TaskPlan,
    *,
    family: str = "",
    dataset: str = "",
    backbone: str = "",
    engine: str = "",
    default_engine: str = "",
) -> dict[str, Any]:
    """Recipe fields of a case; see ``TaskPlan`` for the order.

    Args:
        plan: How the scale runs the task.
        family: Family of the backbone.
        dataset: Key of the dataset.
        backbone: Key of the backbone.
        engine: What the user asked for; empty for the engine that the fields or the default name.
        default_engine: The task's own engine; empty for a task without engines.
    """
    fields: dict[str, Any] = {
        **plan.recipe,
        **plan.families.get(family, {}),
        **plan.by_dataset.get(dataset, {}),
        **plan.by_backbone.get(backbone, {}),
    }
    if default_engine:
        chosen = engine or fields.get("engine") or default_engine
        fields |= {"engine": chosen, **plan.engines.get(chosen, {})}
    return fields
