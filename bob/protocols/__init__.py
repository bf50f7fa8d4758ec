"""What is measured: one light file per protocol with its recipe, judged metrics and kind of data.

What runs a protocol is a module of the same name in ``bob.tasks``, imported when it runs.
"""

from bob.kinds import DataKind
from bob.protocols.recipe import Recipe, SizedRecipe
from bob.protocols.registry import PROTOCOLS
from bob.protocols.spec import Extraction, Judged, ProtocolSpec
from bob.protocols.work import Sizes, Work

__all__ = [
    "PROTOCOLS", "DataKind", "Extraction", "Judged", "ProtocolSpec", "Recipe", "SizedRecipe",
    "Sizes", "Work",
]  # fmt: skip
