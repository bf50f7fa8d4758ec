"""What the suite asks of any recipe, whatever its protocol. Imports nothing heavy."""

from __future__ import annotations

from typing import Self

from pydantic import Field

from bob.record import Record


class Recipe(Record):
    """The base of every recipe; a protocol overrides what differs.

    It has properties alone and no fields, because every field is hashed with the protocol.
    """

    @property
    def engine_name(self) -> str:
        """The engine, where the protocol has several; else empty."""
        return ""

    @property
    def searched(self) -> bool:
        """Whether settings are chosen from a grid."""
        return False

    @property
    def variant(self) -> str:
        """What tells cases of one task and dataset apart: the engine, and ``grid``."""
        return "-".join(filter(None, (self.engine_name, "grid" if self.searched else "")))

    @property
    def unjudged(self) -> tuple[str, ...]:
        """Judged metrics of the protocol that this recipe does not give."""
        return ()

    @property
    def input_size(self) -> int | None:
        """Height and width that the backbone is built for; none for its own."""
        return None

    @property
    def drop_path_rate(self) -> float:
        """Stochastic depth that the backbone is built with."""
        return 0.0

    def at_size(self, size: int | None) -> Self:
        """The recipe with images fed at another size; itself where it does not say the size.

        Args:
            size: Height and width, or none for each backbone's own.
        """
        return self


class SizedRecipe(Recipe):
    """A recipe that says what size images are fed at.

    Attributes:
        image_size: Height and width fed to backbones that accept any size; none for their own.
    """

    image_size: int | None = Field(default=None, ge=8)

    @property
    def input_size(self) -> int | None:
        """Height and width that the backbone is built for; none for its own."""
        return self.image_size

    def at_size(self, size: int | None) -> Self:
        """The recipe with images fed at another size."""
        return self.model_copy(update={"image_size": size})
