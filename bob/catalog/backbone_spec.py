"""Backbones named on the command line."""

from __future__ import annotations

import re
from pathlib import Path

from bob.catalog.load import Catalog
from bob.catalog.schema import BackboneEntry, Scalar, Weights
from bob.errors import BobError
from bob.hashing import digest_of_file
from bob.places import real_path

_FORMS = (
    "a catalog key, timm:NAME, package.module:factory or FILE.safetensors,model=NAME, each with "
    "optional ,key=value arguments"
)
_CHECKPOINT = re.compile(r".+\.(safetensors|pth|pt|bin|ckpt|tar)$")
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def parse_backbone(spec: str, catalog: Catalog) -> BackboneEntry:
    """Turn one ``--backbone`` value into a catalog entry.

    Forms: a catalog key; ``timm:NAME``; ``package.module:factory``; ``FILE,model=NAME`` where FILE
    is a checkpoint and NAME a timm name or a factory. Comma-separated ``key=value`` arguments
    follow: ``name`` (the key shown; with a checkpoint ``NAME@FILE`` by default), ``family``,
    ``checkpoint`` (a file to load), ``state`` (which of several states in it, such as
    ``model_ema``), ``keep_frozen`` (leave what a factory froze); every other one goes to timm's
    ``create_model`` or the factory.

    Raises:
        BobError: The text has none of these forms, or a file does not exist.
    """
    head, *pairs = (part.strip() for part in spec.split(","))
    if not pairs and ":" not in head and not _CHECKPOINT.match(head):
        return catalog.backbone(head)
    arguments = _arguments(spec, pairs)
    name = str(arguments.pop("name", "") or spec)
    family = arguments.pop("family", None)
    checkpoint = arguments.pop("checkpoint", None)
    keep_frozen = _flag(spec, arguments, "keep_frozen")
    state = str(arguments.pop("state", "") or "")
    if checkpoint and name == spec:
        rest = [pair for pair in pairs if not pair.startswith("checkpoint=")]
        name = f"{','.join([head, *rest])}@{Path(str(checkpoint)).name.split('.')[0]}"
    if _CHECKPOINT.match(head) and not head.startswith("timm:"):
        checkpoint, head = head, str(arguments.pop("model", ""))
        if not head:
            raise BobError(
                f"Backbone {spec!r}: name the architecture in the file: {checkpoint},model=NAME."
            )
        stem = ".".join(part for part in (Path(checkpoint).name.split(".")[0], state) if part)
        name = stem if name == spec else name
        head = head if ":" in head else f"timm:{head}"
    if head in catalog.backbones:
        entry = catalog.backbones[head]
        _check_state(spec, state, checkpoint or entry.weights)
        return entry.model_copy(
            update={
                "key": name,
                "family": str(family or entry.family),
                "arguments": {**entry.arguments, **arguments},
                "parameters_m": None if arguments else entry.parameters_m,
                "weights": _weights(spec, checkpoint) if checkpoint else entry.weights,
                "keep_frozen": keep_frozen or entry.keep_frozen,
                "state": state or ("" if checkpoint else entry.state),
            }
        )
    if not (head.startswith("timm:") and head != "timm:") and not _FACTORY.fullmatch(head):
        if ":" not in head:
            catalog.backbone(head)
        raise BobError(f"Backbone {spec!r} has no known form. Write {_FORMS}.")
    _check_state(spec, state, checkpoint)
    return BackboneEntry(
        key=name,
        family=str(family or family_of(head)),
        source=head,
        arguments=arguments,
        weights=_weights(spec, checkpoint) if checkpoint else None,
        state=state,
        pretraining="random" if arguments.get("pretrained") is False else "unknown",
        note="named on the command line",
        keep_frozen=keep_frozen,
    )


def with_checkpoint(specs: tuple[str, ...], file: str | None) -> tuple[str, ...]:
    """``--backbone NAME --checkpoint FILE`` as ``--backbone NAME,checkpoint=FILE``.

    Raises:
        BobError: There is not exactly one backbone, or it names a checkpoint already.
    """
    if not file:
        return specs
    if len(specs) != 1:
        named = f"{len(specs)} are named" if specs else "none is named"
        raise BobError(
            f"--checkpoint {file} goes with exactly one --backbone; {named}. For several write "
            "--backbone NAME,checkpoint=FILE each."
        )
    head, *pairs = specs[0].split(",")
    if _CHECKPOINT.match(head) or any(pair.strip().startswith("checkpoint=") for pair in pairs):
        raise BobError(f"--checkpoint {file}: backbone {specs[0]!r} names a checkpoint already.")
    if "," in file:
        raise BobError(f"--checkpoint {file}: rename the file to one without a comma.")
    return (f"{specs[0]},checkpoint={file}",)


def _check_state(spec: str, state: str, checkpoint: object) -> None:
    if state and not checkpoint:
        raise BobError(
            f"Backbone {spec!r}: state={state} chooses within a checkpoint, and none is named. "
            "Add checkpoint=FILE."
        )


def _arguments(spec: str, pairs: list[str]) -> dict[str, Scalar]:
    arguments: dict[str, Scalar] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key.isidentifier():
            raise BobError(f"Backbone {spec!r}: {pair!r} is not key=value. Write {_FORMS}.")
        arguments[key] = _scalar(value)
    return arguments


def _flag(spec: str, arguments: dict[str, Scalar], name: str) -> bool:
    value = arguments.pop(name, False)
    if not isinstance(value, bool):
        raise BobError(f"Backbone {spec!r}: {name}={value}: expected true or false.")
    return value


def _scalar(text: str) -> Scalar:
    words: dict[str, Scalar] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _weights(spec: str, checkpoint: Scalar) -> Weights:
    path = real_path(str(checkpoint))
    if not path.is_file():
        raise BobError(f"Backbone {spec!r}: no checkpoint file at {path}.")
    return Weights(file=str(path), sha256=digest_of_file(path))


def family_of(source: str) -> str:
    """Leading letters of the architecture's name: ``timm:convnext_tiny.fb_in1k`` is convnext."""
    name = source.rsplit("/", 1)[-1].rsplit(":", 1)[-1].removeprefix("test_").removeprefix("tf_")
    letters = re.match(r"[A-Za-z]+", name)
    return letters.group().lower() if letters else name
