"""Checkpoint file → state dict → module, with every mismatch spelled out."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from bob.backbones.checkpoint_file import read_checkpoint
from bob.backbones.checkpoint_fit import HEADS, Candidate, State, in_words, same_values
from bob.backbones.checkpoint_kind import UnreadableError
from bob.backbones.checkpoint_search import (
    Place,
    Spot,
    converted,
    default_first,
    direct,
    holds_no_weights,
    named,
    own_conversion,
    places,
    spots,
)
from bob.backbones.checkpoint_signs import advice, quantised_words, scales
from bob.backbones.key_maps import KEY_MAPS, KeyMap
from bob.backbones.released import weights_file
from bob.catalog.schema import BackboneEntry
from bob.errors import BobError, some, unknown
from bob.hashing import digest_of_file

_NAMES_OFFERED = 12


def load_checkpoint(
    module: nn.Module, entry: BackboneEntry, *, classifier: bool = False
) -> tuple[str, ...]:
    """Load the entry's checkpoint into the module, in place and whole.

    The file is of safetensors or of ``torch.save``; nothing in it is run. Its dicts and prefixes
    are searched for the tensors that fit the module: every key of the module, of the right shape,
    and no further layer of the same encoder. Heads, projectors, second encoders and optimizers
    beside them are left out. Where several fit, raw weights go before averaged ones, a teacher
    before its student, a query or online encoder before the key or target one, and a usual name
    (``model``) before another; ``entry.state`` chooses another. Gradients, moments and what
    training began with, known by name, are taken only where ``entry.state`` names them.

    A file that fits as it is needs no mapping, so that what was trained further on from a released
    checkpoint loads into the same entry.

    Args:
        module: What to load it into.
        entry: Names the file.
        classifier: Whether the module keeps a classification head that the file must hold too.

    Returns:
        Remarks: what was taken and left out, and what else was chosen or changed.

    Raises:
        BobError: kind ``weights``: no such file, another digest, unreadable, or nothing in it that
            fits; kind ``unavailable``: a released file that cannot be downloaded, or all that it
            lacks is the head.
    """
    key_map = _key_map(entry)
    path = _checked_file(entry)
    try:
        contents = read_checkpoint(path)
    except UnreadableError as error:
        raise _error(entry, str(error)) from error.__cause__
    found = places(contents.tree)
    if not found:
        kind = "" if isinstance(contents.tree, dict) else f": {type(contents.tree).__name__}"
        raise _error(entry, f"{path} holds no tensors under names{kind}, so no state dict")
    own = module.state_dict()
    if not own:
        raise _error(entry, f"{entry.source} has no weights that {path.name} could be loaded into")
    stem = _stem(own)
    wanted = {key.removeprefix(stem): value for key, value in own.items()}
    inner = module.get_submodule(stem.rstrip(".")) if stem else module
    candidates = _candidates(entry, path, found, wanted, inner, key_map)
    fitting = default_first([candidate for candidate in candidates if candidate.complete])
    if not fitting:
        raise _no_fit(entry, path, candidates, classifier)
    scaled = [scales(candidate, found[candidate.place].tensors) for candidate in fitting]
    if all(scaled):
        raise _error(entry, f"{path.name} {quantised_words(scaled[0])}")
    taken, *others = (
        candidate for candidate, keys in zip(fitting, scaled, strict=True) if not keys
    )
    module.load_state_dict(
        {key: taken.state.get(key.removeprefix(stem), value) for key, value in own.items()}
    )
    others = [other for other in others if not same_values(taken, other)]
    quiet = bool(entry.keys)  # a mapping says itself what it takes
    return _remarks(path, found, taken, others, contents.set_aside, quiet)


def _key_map(entry: BackboneEntry) -> KeyMap | None:
    if entry.keys and entry.keys not in KEY_MAPS:
        raise _error(entry, str(unknown("key mapping", entry.keys, KEY_MAPS)).rstrip("."))
    return KEY_MAPS.get(entry.keys)


def _checked_file(entry: BackboneEntry) -> Path:
    assert entry.weights is not None
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
    return path


def _stem(own: State) -> str:
    """The prefix that all keys of a module which only wraps another have in common."""
    first = next(iter(own)).partition(".")[0] + "."
    inner = {key.removeprefix(first) for key in own if key.startswith(first)}
    is_wrapper = len(inner) == len(own) and any("." in key for key in inner)
    return first if is_wrapper and len({key.split(".")[0] for key in inner}) > 1 else ""


def _candidates(
    entry: BackboneEntry,
    path: Path,
    found: list[Place],
    wanted: State,
    module: nn.Module,
    key_map: KeyMap | None,
) -> list[Candidate]:
    """As the file is; else by timm's conversion; else by the entry's mapping and timm's."""
    every = spots(found, wanted)
    chosen = [spot for spot in every if not entry.state or named(spot.label, entry.state)]
    if not chosen:
        sized = [spot.label for spot in every if spot.label and spot.size >= len(wanted) // 2]
        names = list(dict.fromkeys(part for label in sized for part in label.split(".")))
        hint = f"States are the names of dicts and prefixes in {path.name}"
        problem = unknown("state", entry.state, names[:_NAMES_OFFERED], hint=hint)
        raise _error(entry, str(problem))
    weights = [spot for spot in chosen if not holds_no_weights(spot.label, entry.state)]
    candidates = _of_spots(found, weights, wanted, module, key_map)
    if not any(candidate.complete for candidate in candidates) and len(weights) < len(chosen):
        beside = [spot for spot in chosen if holds_no_weights(spot.label, entry.state)]
        for candidate in _of_spots(found, beside, wanted, module, key_map):
            if candidate.complete:
                raise _error(
                    entry,
                    f"only {candidate.label!r} in {path.name} fits {entry.source}, which by its "
                    f"name holds no trained weights. If it does, state={candidate.label} chooses "
                    "it",
                )
            candidates.append(candidate)
    return candidates


def _of_spots(
    found: list[Place],
    chosen: list[Spot],
    wanted: State,
    module: nn.Module,
    key_map: KeyMap | None,
) -> list[Candidate]:
    """Each prefix as it is; where none fits, by timm's conversion; then by the mapping."""
    candidates = direct(found, chosen, wanted)
    conversions = [own_conversion(module)]
    if key_map is not None:
        mapping, timms = key_map.convert, conversions[0]
        conversions += [mapping]
        if timms is not None:
            conversions += [lambda state, module: timms(mapping(state, module), module)]
    for convert in conversions:
        if convert is not None and not any(candidate.complete for candidate in candidates):
            candidates += converted(found, chosen, wanted, module, convert)
    return candidates


def _no_fit(
    entry: BackboneEntry, path: Path, candidates: list[Candidate], classifier: bool
) -> BobError:
    nearest = max(candidates, key=lambda candidate: candidate.nearness)
    if classifier:
        _check_head(entry, path, nearest)
    where = f"under {nearest.label!r}, the nearest, " if nearest.label else ""
    return _error(
        entry,
        f"{path.name} does not fit {entry.source}: {where}{nearest.filled} of its "
        f"{len(nearest.wanted)} tensors are there with the right shape; {nearest.differences()}. "
        f"{advice(nearest)}",
    )


def _check_head(entry: BackboneEntry, path: Path, nearest: Candidate) -> None:
    differ = [
        key for key in nearest.wanted
        if key not in nearest.found | nearest.tied and key not in nearest.uncounted
    ]  # fmt: skip
    if differ and all(key.split(".", 1)[0] in HEADS for key in differ) and not nearest.unknown:
        key = differ[-1]
        there = key in nearest.state
        shape = f"of shape {tuple(nearest.state[key].shape)}" if there else "missing"
        raise BobError(
            f"Backbone {entry.key!r}: {path.name} holds no classifier to evaluate: {key} is "
            f"{shape}, expected {tuple(nearest.wanted[key].shape)}. Name a checkpoint that was "
            "trained to classify ImageNet.",
            kind="unavailable",
        )


def _remarks(
    path: Path,
    found: list[Place],
    taken: Candidate,
    others: list[Candidate],
    set_aside: tuple[str, ...],
    quiet: bool,
) -> tuple[str, ...]:
    remarks = []
    left_out = [
        f"{place.name}.{key}" if place.name else key
        for number, place in sorted(enumerate(found), key=lambda pair: pair[0] != taken.place)
        for key in place.tensors
        if number != taken.place or key not in taken.used
    ]
    where = repr(taken.label) if taken.label else "the file itself"
    if left_out and not quiet:
        remarks.append(
            f"{path.name}: {len(taken.found)} tensors taken from {where}, {len(left_out)} left "
            f"out ({in_words(left_out)})"
        )
    if others:
        names = some(repr(other.label or "the file itself") for other in others)
        remarks.append(
            f"{path.name}: {names} {'fits' if len(others) == 1 else 'fit'} as well as {where}, "
            f"which is taken by default; state={others[0].label or taken.label} chooses"
        )
    if taken.resampled:
        remarks.append(f"{path.name}: resampled {some(taken.resampled)}")
    if taken.uncounted:
        remarks.append(f"{path.name}: {len(taken.uncounted)} batch norms without their counter")
    if set_aside and not quiet:
        remarks.append(f"{path.name}: objects other than tensors left unread: {some(set_aside)}")
    return tuple(remarks)


def _error(entry: BackboneEntry, message: str) -> BobError:
    return BobError(f"Backbone {entry.key!r}: {message.rstrip('.')}.", kind="weights")
