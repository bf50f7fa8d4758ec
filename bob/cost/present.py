"""What a case finds in place already, as far as that can be told without loading anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bob.case import Case
from bob.catalog.data_root import data_root, missing
from bob.catalog.release_cache import cache_path, package_path
from bob.catalog.schema import BackboneEntry, DatasetEntry
from bob.cost.work import work_of
from bob.json_data import parse_json
from bob.places import features_root
from bob.references.files import ReferenceStore
from bob.regular_files import read_regular

_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True, kw_only=True)
class Presence:
    """What is there for one case.

    Attributes:
        reference: ``yes``, ``stale`` (measured under another protocol) or ``no``.
        features: Splits whose features are kept.
        weights: ``file``, ``cached``, ``to download``, ``missing``, ``own`` (the factory's affair)
            or ``random``.
        data: ``there``, or the folder that is missing.
    """

    reference: str
    features: frozenset[str]
    weights: str
    data: str


@dataclass
class Shelf:
    """Looks into references, feature store, weight caches and data root, each once.

    Attributes:
        references: Folder of the user's own references.
        features: Folder of the feature store; the user's own by default.
    """

    references: Path
    features: Path = field(default_factory=features_root)
    _weights: dict[str, str] = field(default_factory=dict)
    _data: dict[str, str] = field(default_factory=dict)

    def look(self, case: Case) -> Presence:
        """What is there for a case."""
        entry = case.backbone
        if entry.key not in self._weights:
            self._weights[entry.key] = weights_state(entry)
        if case.dataset.key not in self._data:
            self._data[case.dataset.key] = data_state(case.dataset)
        return Presence(
            reference=self._reference(case),
            features=self.kept(case),
            weights=self._weights[entry.key],
            data=self._data[case.dataset.key],
        )

    def _reference(self, case: Case) -> str:
        found = self._store.find(case)
        if found is None:
            return "no"
        return "yes" if found[0].protocol == case.protocol else "stale"

    @cached_property
    def _store(self) -> ReferenceStore:
        return ReferenceStore(self.references)

    @cached_property
    def _kept(self) -> list[Mapping[str, Any]]:
        """Manifests of plain extractions; one that cannot be read is as good as none."""
        found = []
        for path in sorted(self.features.glob("??/*/manifest.json")):
            try:
                manifest = parse_json(read_regular(path))
                if manifest["facts"]["view"] is None:
                    found.append(manifest)
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return found

    def kept(self, case: Case) -> frozenset[str]:
        """Splits of the case whose features the store holds."""
        entry, work = case.backbone, work_of(case)
        if work is None or not entry.fixed:
            return frozenset()
        wanted: dict[str, Any] = {
            "source": entry.source,
            "arguments": dict(entry.arguments),
            "image_size": int(work.side),
        }
        if entry.state:
            wanted["state"] = entry.state
        if entry.weights is not None and entry.weights.sha256:
            wanted["weights"] = entry.weights.sha256
        rows: dict[str, int] = {}
        for manifest in self._kept:
            if wanted.items() <= _plain(manifest["facts"]).items():
                _, _, split = str(manifest.get("about")).partition(f" on {case.dataset.key} ")
                rows[split] = int(manifest.get("rows", 0))
        named = set(work.passes) - {"shifts"}
        rows["shifts"] = sum(count for split, count in rows.items() if split not in {"", *named})
        return frozenset(
            split for split, images in work.passes.items() if rows.get(split, 0) >= images
        )


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    names = ("source", "arguments", "image_size", "weights", "state")
    return {key: facts.get(key) for key in names}


def weights_state(entry: BackboneEntry) -> str:
    """Where a backbone's weights are; see ``Presence.weights``."""
    if entry.weights is not None:
        if entry.weights.package:
            path = package_path(entry.weights.package)
            return "file" if path is not None and path.is_file() else "missing"
        if entry.weights.url:
            return "cached" if cache_path(entry.weights.url).is_file() else "to download"
        return "file" if Path(entry.weights.file).is_file() else "missing"
    if not entry.source.startswith("timm:"):
        return "random" if entry.pretraining == "random" else "own"
    if not entry.arguments.get("pretrained", True):
        return "random"
    return "cached" if _cached(entry.source.removeprefix("timm:")) else "to download"


def _cached(name: str) -> bool:
    """Whether timm's weights of a name are in the hub's cache; any will do where none is named."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE

    form, colon, rest = name.partition(":")
    if colon:
        return form in ("hf-hub", "hf_hub") and _holds(rest, try_to_load_from_cache)
    if "." in name:
        return _holds(f"timm/{name}", try_to_load_from_cache)
    folders = Path(HF_HUB_CACHE).glob(f"models--timm--{name}.*")
    ids = [folder.name.removeprefix("models--").replace("--", "/") for folder in folders]
    return any(_holds(repository, try_to_load_from_cache) for repository in ids)


def _holds(repository: str, look: Any) -> bool:
    return any(isinstance(look(repository, file), str) for file in _WEIGHT_FILES)


def data_state(entry: DatasetEntry) -> str:
    """``there``, or what is missing first; see ``Presence.data``."""
    absent = missing(entry)
    return f"no {data_root() / absent[0]}" if absent else "there"
