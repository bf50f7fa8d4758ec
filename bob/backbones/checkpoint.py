"""Checkpoint file → state dict → module, with every mismatch spelled out."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bob.backbones.key_maps import KEY_MAPS, KeyMap
from bob.backbones.released import weights_file
from bob.catalog.schema import BackboneEntry
from bob.errors import BobError, unknown
from bob.hashing import digest_of_file

_WRAPPERS = ("state_dict", "model_state_dict", "model", "model_ema", "state_dict_ema", "teacher")
_PREFIXES = ("module.", "backbone.", "encoder.", "model.")
_HEADS = ("head", "fc", "classifier", "head_dist", "last_linear")


def load_checkpoint(module: nn.Module, entry: BackboneEntry, *, classifier: bool = False) -> None:
    """Load the entry's checkpoint into the module, in place.

    The file is safetensors or a pickle of plain tensors (``torch.load(weights_only=True)``). The
    usual wrappings and the weights of a classification head are removed; anything else that is
    missing, left over or of another shape is an error. A file that fits as it is needs no mapping,
    so that what was trained further on from a released checkpoint loads into the same entry.

    Args:
        module: What to load it into.
        entry: Names the file.
        classifier: Whether the module keeps a classification head that the file must hold too.

    Raises:
        BobError: kind ``weights``: no such file, another digest, unreadable, or keys that differ;
            kind ``unavailable``: a released file that cannot be downloaded, or all that it lacks
            is the head.
    """
    assert entry.weights is not None
    key_map = _key_map(entry)
    path = weights_file(entry)
    if not path.is_file():
        raise _error(entry, f"no checkpoint file at {path}")
    expected = entry.weights.sha256
    if expected and (digest := digest_of_file(path)) != expected:
        raise _error(
            entry,
            f"{path.name} has SHA-256 {digest[:12]}..., the catalog says {expected[:12]}.... The "
            "file was changed or damaged: restore it, or name the new digest in the catalog",
        )
    wanted = module.state_dict()
    raw = _unwrap(_read(entry, path, key_map))
    state = _without_heads(_adapt(raw, module), wanted)
    if key_map is not None and not _fits(state, wanted):
        state = _without_heads(_adapt(key_map.convert(raw, module), module), wanted)
    if classifier:
        _check_head(entry, path, state, wanted)
    _compare(entry, path, state, wanted)
    module.load_state_dict(state)


def _key_map(entry: BackboneEntry) -> KeyMap | None:
    if entry.keys and entry.keys not in KEY_MAPS:
        raise _error(entry, str(unknown("key mapping", entry.keys, KEY_MAPS)).rstrip("."))
    return KEY_MAPS.get(entry.keys)


class _StandIn:
    """Takes the place of an object that a checkpoint holds beside its tensors; does nothing."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _read(entry: BackboneEntry, path: Path, key_map: KeyMap | None) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        stand_ins: list[Any] = [(_StandIn, name) for name in key_map.stand_ins] if key_map else []
        with torch.serialization.safe_globals(stand_ins):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _error(
            entry,
            f"{path} holds objects other than tensors and is not loaded, because a checkpoint is "
            "input, not code. Save its state_dict as safetensors",
        ) from error
    except Exception as error:
        raise _error(entry, f"cannot read {path}: {type(error).__name__}: {error}") from error
    if not isinstance(loaded, dict):
        raise _error(entry, f"{path} holds {type(loaded).__name__}, not a state dict")
    return loaded


def _unwrap(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(state.get(wrapper), dict):
            state = state[wrapper]
            break
    return {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}


def _adapt(state: dict[str, torch.Tensor], module: nn.Module) -> dict[str, torch.Tensor]:
    """Strip common prefixes, then apply timm's own conversion for the architecture."""
    wanted = module.state_dict().keys()
    for prefix in _PREFIXES:
        stripped = {key.removeprefix(prefix): value for key, value in state.items()}
        if len(stripped) == len(state) and len(stripped.keys() & wanted) > len(
            state.keys() & wanted
        ):
            state = stripped
    if _fits(state, module.state_dict()):
        return state
    convert = getattr(sys.modules.get(type(module).__module__), "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        converted = convert(dict(state), module)
    except Exception:
        return state
    return dict(converted)


def _fits(state: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    """Whether nothing is missing or of another shape."""
    return state.keys() >= wanted.keys() and all(
        state[key].shape == value.shape for key, value in wanted.items()
    )


def _without_heads(
    state: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    return {
        key: value
        for key, value in state.items()
        if key in wanted or key.split(".", 1)[0] not in _HEADS
    }


def _compare(
    entry: BackboneEntry,
    path: Path,
    state: dict[str, torch.Tensor],
    wanted: dict[str, torch.Tensor],
) -> None:
    missing = [key for key in wanted if key not in state]
    left_over = [key for key in state if key not in wanted]
    shapes = [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    problems = [
        f"{len(details)} {what} ({', '.join(details[:3])}{', ...' if len(details) > 3 else ''})"
        for what, details in (
            ("missing keys", missing), ("unknown keys", left_over), ("wrong shapes", shapes),
        )
        if details
    ]  # fmt: skip
    if problems:
        raise _error(
            entry,
            f"{path.name} does not fit {entry.source}: {'; '.join(problems)}. Name the "
            "architecture the weights were saved from",
        )


def _check_head(
    entry: BackboneEntry,
    path: Path,
    state: dict[str, torch.Tensor],
    wanted: dict[str, torch.Tensor],
) -> None:
    differ = [key for key in wanted if key not in state or state[key].shape != wanted[key].shape]
    if differ and all(key.split(".", 1)[0] in _HEADS for key in differ):
        key = differ[-1]
        shape = f"of shape {tuple(state[key].shape)}" if key in state else "missing"
        raise BobError(
            f"Backbone {entry.key!r}: {path.name} holds no classifier to evaluate: {key} is "
            f"{shape}, expected {tuple(wanted[key].shape)}. Name a checkpoint that was trained to "
            "classify ImageNet.",
            kind="unavailable",
        )


def _error(entry: BackboneEntry, message: str) -> BobError:
    return BobError(f"Backbone {entry.key!r}: {message}.", kind="weights")
