"""A grid of settings that a recipe may be chosen from. Imports nothing heavy."""

from __future__ import annotations

from itertools import product
from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from bob.protocols.recipe import Recipe
from bob.record import Record

Rate = Annotated[float, Field(gt=0)]
Decay = Annotated[float, Field(ge=0)]


class RateGrid(Record):
    """Learning rates to choose among, on held-out images of the train split.

    Attributes:
        lr: Peak learning rates.
        holdout: Share of the train split that the choice is made on.
    """

    lr: tuple[Rate, ...] = Field(min_length=1)
    holdout: float = Field(default=0.1, gt=0, lt=1)

    @field_validator("lr", "weight_decay", check_fields=False)
    @classmethod
    def _once(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(values)) < len(values):
            raise ValueError(f"{list(values)} names a value twice")
        return values

    def settings(self) -> tuple[dict[str, float], ...]:
        """Every combination, as recipe fields."""
        return tuple({"lr": lr} for lr in self.lr)


class Grid(RateGrid):
    """Learning rates and weight decays to choose among.

    Attributes:
        weight_decay: Decoupled weight decays.
    """

    weight_decay: tuple[Decay, ...] = Field(min_length=1)

    def settings(self) -> tuple[dict[str, float], ...]:
        """Every combination, as recipe fields."""
        return tuple(
            {"lr": lr, "weight_decay": decay} for lr, decay in product(self.lr, self.weight_decay)
        )


class Searchable(Recipe):
    """A recipe that may have a ``grid``; without one it is told, and hashed, as if it had none.

    Attributes:
        grid: Settings to choose among, in place of the recipe's own.
    """

    grid: RateGrid | None = None

    @property
    def searched(self) -> bool:
        """Whether settings are chosen from a grid."""
        return self.grid is not None

    @model_serializer(mode="wrap")
    def _without_absent_grid(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        if fields.get("grid", ()) is None:
            del fields["grid"]
        return fields
