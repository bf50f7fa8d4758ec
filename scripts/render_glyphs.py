"""Render the printed digits and the unseen characters that ship with the package.

Writes ``bob/datasets/rendered/font_digits.npz`` and ``characters.npz`` and prints the SHA-256 that
the catalog entries must name::

    python scripts/render_glyphs.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from bob.datasets import characters, font_digits
from bob.datasets.rendered import FOLDER, Part, freetype_version


def write(path: Path, parts: dict[str, Part]) -> None:
    """Write the parts of one file; the same parts give the same bytes."""
    arrays = {"freetype": np.asarray(freetype_version())}
    for part, (counts, labels) in parts.items():
        arrays |= {f"{part}_counts": counts, f"{part}_labels": labels}
    np.savez_compressed(path, **arrays)


def main() -> None:
    """Command line."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    for name, module in (("font_digits", font_digits), ("characters", characters)):
        path = FOLDER / f"{name}.npz"
        parts = module.draw()
        write(path, parts)
        drawings = sum(len(labels) for _, labels in parts.values())
        print(
            f"{path.name}: {drawings} drawings, {path.stat().st_size / 1e3:.0f} kB, "
            f"FreeType {freetype_version()}\n  sha256: {module.load().sha256}"
        )


if __name__ == "__main__":
    main()
