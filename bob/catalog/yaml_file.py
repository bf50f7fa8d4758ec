"""YAML with line numbers, so that an error can say where."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from bob.catalog.yaml_nodes import check_nodes
from bob.errors import BobError
from bob.regular_files import read_regular

ENDINGS = (".yaml", ".yml")

_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlFile:
    """A parsed YAML file that remembers where each value stands.

    Args:
        path: File to read.

    Raises:
        BobError: The file is missing, is not YAML, is not a mapping, or holds what a catalog cannot
            (see ``bob.catalog.yaml_nodes``).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            loader = _LOADER(read_regular(path).decode("utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise BobError(f"Cannot read catalog file {path}: {error}") from None
        try:
            self._root = loader.get_single_node()
            # constructing puts what `<<` brings in into the nodes, which is no duplicate
            check_nodes(path, self._root, loader)
            data = loader.construct_document(self._root) if self._root is not None else {}
        except RecursionError:  # of the reader in Python, where the one in C is not there
            raise BobError(f"{path}: not valid YAML: nested too deeply.") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{path}:{mark.line + 1}" if mark else str(path)
            problem = getattr(error, "problem", None) or str(error)
            raise BobError(f"{where}: not valid YAML: {problem}.") from None
        finally:
            loader.dispose()
        if not isinstance(data, dict):
            raise BobError(
                f"{path}:1: expected a mapping with backbones, datasets, scales or margins."
            )
        self.data: dict[str, Any] = data

    def line(self, keys: Sequence[str | int]) -> int:
        """Line of the deepest node on the path ``keys`` that exists, counted from 1."""
        node, line = self._root, 1
        for key in keys:
            child = _child(node, key)
            if child is None:
                break
            line, node = child
        return line

    def error(self, keys: Sequence[str | int], message: str) -> BobError:
        """An error that names file, line and key path."""
        return BobError(f"{self.path}:{self.line(keys)}: {'.'.join(map(str, keys))}: {message}")

    def invalid(self, keys: Sequence[str | int], error: ValidationError) -> BobError:
        """The first complaint of a pydantic validation under ``keys``."""
        first = error.errors(include_url=False)[0]
        loc = [part for part in first["loc"] if part != "[key]"]
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "unknown key"
        more = error.error_count() - 1
        return self.error([*keys, *loc], message + (f" (and {more} more)" if more else ""))


def _child(node: Any, key: str | int) -> tuple[int, Any] | None:
    if isinstance(node, yaml.MappingNode):
        for name, value in reversed(node.value):  # what `<<` brings in comes first
            if name.value == str(key):
                return name.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key].start_mark.line + 1, node.value[key]
    return None
