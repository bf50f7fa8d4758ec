"""``bob list references --power``: what each reference can see."""

from __future__ import annotations

import math
from pathlib import Path

from bob.catalog import Catalog
from bob.plan import Plan, Selection
from bob.references.files import ReferenceStore
from bob.references.power import DULL, POWER, guards_little, least_of, sight
from bob.tabular import aligned


def power_lines(catalog: Catalog, selection: Selection, folder: Path) -> list[str]:
    """The detectable drop of every case of a scale that has a reference of today's protocol.

    Args:
        catalog: What there is.
        selection: Scale and, if any are named, backbones.
        folder: The repository's own references.
    """
    store = ReferenceStore(folder)
    rows = [("case", "backbone", "score", "seeds", "detectable drop", "of the score", "")]
    dull = without = 0
    for case in Plan(catalog, selection).all_cases():
        found = store.find(case)
        if found is None or found[0].protocol != case.protocol or not found[0].metric(case.metric):
            without += 1
            continue
        seen = sight(case, found[0], store)
        little = guards_little(seen, least_of(case, store))
        dull += little
        share = seen.drop / abs(seen.mean) if seen.mean else math.inf
        rows.append(
            (
                case.setting,
                case.backbone.key,
                f"{case.metric} {seen.mean:.4f}",
                str(len(found[0].values)),
                f"{seen.drop:.4f}" if math.isfinite(seen.drop) else "none",
                f"{share:.1%}" if math.isfinite(share) else "-",
                ", ".join(["exact"] * seen.exact + ["guards little"] * little),
            )
        )
    notes = [
        f"Detectable drop: of the score alone, red with a chance of {POWER:.0%} when one seed runs "
        "first; exact: nothing is random, and the margin is seen for certain.",
        f"{dull} of {len(rows) - 1} guard little: they see only drops beyond {DULL:.0%} of the "
        "score, or their reference is no better than chance or than the random twin.",
    ]
    if without:
        notes.append(f"{without} cases have no reference of today's protocol.")
    return [*(aligned(rows) if len(rows) > 1 else []), "", *notes]
