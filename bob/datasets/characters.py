"""Characters that no pretraining saw, across fonts: retrieval in miniature.

Sixty letters and signs (Latin, Greek, Cyrillic, Armenian, Georgian, symbols) that all twelve DejaVu
faces hold, each drawn twice in each face. None is a class of ``bob.datasets.glyphs`` or a digit, or
drawn like one, or like another of the sixty: drawn straight, the mean cosine of two classes' ink
over the faces stays below 0.89. A query's own face in the database is a near-duplicate and neither
right nor wrong; another face of its family is easy to find; one of the other family is hard.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from bob.datasets.base import Relevance, RetrievalData, Split
from bob.datasets.glyphs import FACES, render
from bob.datasets.relevance import first_fifth
from bob.datasets.rendered import Part, read

LATIN = "ÆŒƔǶɮʎʭ"
GREEK = "ϠϡϞϗ"
CYRILLIC = "ЂЉЋѣҐҤ"
ARMENIAN = "ԳԶԷԸԹԽԿՀՂՃՄՊՎՖխնմ"
GEORGIAN = "ლბუფქღჭწჯჰრ"
SYMBOLS = "§¶†¥₯₹∀±⊂⊢↑↷♂♫⌂"
UNSEEN = LATIN + GREEK + CYRILLIC + ARMENIAN + GEORGIAN + SYMBOLS

VARIANTS = 2


def draw() -> dict[str, Part]:
    """Draw the characters anew, as ``scripts/render_glyphs.py`` ships them."""
    return {"all": render(UNSEEN, variants=VARIANTS, seed=20)}


def _face(file_name: str) -> str:
    """``DejaVuSans-Bold.ttf`` as ``Bold-Sans``: sorted by style, so that queries mix families."""
    family, _, style = file_name.removeprefix("DejaVu").removesuffix(".ttf").partition("-")
    return f"{style or 'Book'}-{family}"


def drawing_names() -> list[str]:
    """``U+XXXX/<variant>-<face>`` of every drawing, in the order of ``render``."""
    return [
        f"U+{ord(character):04X}/{variant}-{_face(face)}"
        for character in UNSEEN
        for face in FACES
        for variant in range(VARIANTS)
    ]


@lru_cache(maxsize=1)
def load() -> RetrievalData:
    """Load the drawings, split by the paper's rule into queries and database.

    Returns:
        Sixty classes of 32 x 32 RGB images: of each class's 24 names, sorted, the first fifth (4)
        are queries and the other 20 the database. Tensors are shared within the process.

    Raises:
        BobError: The shipped file is missing or damaged.
    """
    rendered = read("characters", ("all",))
    drawings = rendered.split("all")
    names = drawing_names()
    queries, database = first_fifth(names, drawings.targets)
    faces = torch.arange(len(FACES)).repeat_interleave(VARIANTS).repeat(len(UNSEEN))
    serif = torch.tensor(["Serif" in face for face in FACES])[faces]

    def relevance(query: int) -> Relevance:
        same = drawings.targets[database] == drawings.targets[query]
        own = faces[database] == faces[query]
        kin = serif[database] == serif[query]
        return Relevance(
            easy=(same & kin & ~own).nonzero().flatten(),
            hard=(same & ~kin).nonzero().flatten(),
            junk=(same & own).nonzero().flatten(),
        )

    return RetrievalData(
        sha256=rendered.sha256,
        class_names=tuple(UNSEEN),
        queries=Split(drawings.images[queries], drawings.targets[queries]),
        database=Split(drawings.images[database], drawings.targets[database]),
        relevance=tuple(relevance(query) for query in queries.tolist()),
        graded=True,
    )
