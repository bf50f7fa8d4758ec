"""A scale that is named by the file that holds it."""

from __future__ import annotations

from pathlib import Path

from bob.catalog.yaml_file import ENDINGS, YamlFile
from bob.errors import BobError, no_file


def scale_and_file(text: str, base: Path) -> tuple[str, tuple[Path, ...]]:
    """The scale that a user means, and the catalog file to read for it.

    Args:
        text: A scale's key, or the path of a catalog file that holds exactly one scale.
        base: Folder that a relative path is taken from.

    Returns:
        The key, and the file if one was named.

    Raises:
        BobError: The file cannot be read, or holds no scale or several.
    """
    if not text.lower().endswith(ENDINGS):
        return text, ()
    path = base / text
    if not path.is_file():
        from bob.catalog.load import load_catalog

        raise BobError(
            f"--scale {text}: {no_file(path, endings=ENDINGS, names=load_catalog().scales)} Give "
            "the key of a scale (`bob list scales`) or a catalog file that holds one."
        )
    scales = list(YamlFile(path).data.get("scales") or {})
    if len(scales) != 1:
        names = ", ".join(map(str, scales)) or "none"
        raise BobError(
            f"--scale {text}: the file holds {len(scales)} scales ({names}) and should hold one. "
            f"Name one of several with --catalog={text} --scale=NAME."
        )
    return str(scales[0]), (path,)
