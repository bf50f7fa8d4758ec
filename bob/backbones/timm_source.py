"""Backbones from timm, with weights through timm's own hub cache."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import timm
from timm.models import _registry
from torch import nn

from bob.backbones.network import impatient_hub, is_network
from bob.catalog.schema import BackboneEntry
from bob.errors import BobError, unknown


def build_timm(
    entry: BackboneEntry,
    *,
    image_size: int | None,
    drop_path: float = 0.0,
    classes: int = 0,
) -> nn.Module:
    """Build ``timm:NAME`` without its classifier, or with one of ``classes`` outputs.

    ``pretrained`` is on unless the entry says otherwise or brings a checkpoint. Architectures of a
    fixed input size are built for ``image_size`` where they can be, resampling position embeddings
    as timm does.

    Raises:
        BobError: The name is unknown, an argument is not taken, or the weights are unreachable.
    """
    name = current_name(entry.source.removeprefix("timm:"))
    arguments: dict[str, Any] = dict(entry.arguments)
    arguments.setdefault("pretrained", entry.weights is None)
    arguments.setdefault("num_classes", classes)
    is_local = not name.startswith(("hf-hub:", "hf_hub:", "local-dir:"))
    if is_local:
        _check_name(name, bool(arguments["pretrained"]))
    optional: list[dict[str, Any]] = [{}]
    if drop_path:
        optional.insert(0, {"drop_path_rate": drop_path})
    config = timm.get_pretrained_cfg(name) if is_local else None
    fixed = config is not None and config.fixed_input_size
    if fixed and image_size is not None and "img_size" not in arguments:
        optional = [{**extra, "img_size": image_size} for extra in optional] + optional
    problem: Exception | None = None
    for extra in optional:
        try:
            with impatient_hub() if arguments["pretrained"] else nullcontext():
                module: nn.Module = timm.create_model(name, **{**extra, **arguments})
            return module
        except Exception as error:
            if is_network(error):
                raise _unreachable(entry, name, error) from error
            problem = error
    raise BobError(
        f"Backbone {entry.key!r}: timm.create_model({name!r}, {arguments}) raised "
        f"{type(problem).__name__}: {problem}",
        kind="backbone",
    ) from problem


def current_name(name: str) -> str:
    """What timm calls a model today: ``vit_base_patch16_224.dino`` for ``..._224_dino``.

    Args:
        name: As after ``timm:``. A name that timm has not given up comes back as it is.

    Raises:
        BobError: timm has removed the model, or the old name stands with a weight tag.
    """
    architecture, _, tag = name.partition(".")
    renamed: dict[str, str | None] = getattr(_registry, "_deprecated_models", {})
    if ":" in name or architecture not in renamed:
        return name
    current = renamed[architecture]
    if not current:
        raise BobError(f"timm has removed {architecture!r}, with no successor.", kind="backbone")
    if tag:
        raise BobError(
            f"timm calls {architecture!r} {current!r} now, which takes no tag {tag!r} from the old "
            f"name; write timm:{current}.",
            kind="backbone",
        )
    return current


def timm_remarks(entry: BackboneEntry) -> tuple[str, ...]:
    """That timm gave the entry's model another name; nothing for other sources."""
    name = entry.source.removeprefix("timm:")
    if not entry.source.startswith("timm:") or current_name(name) == name:
        return ()
    return (f"timm calls {name} {current_name(name)} now, which is what ran",)


def _check_name(name: str, pretrained: bool) -> None:
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise BobError(
            str(unknown("timm model", architecture, timm.list_models())), kind="backbone"
        )
    tagged = timm.list_pretrained(f"{architecture}.*") + timm.list_pretrained(architecture)
    if tag and name not in tagged:
        raise BobError(str(unknown("timm weight tag", name, tagged)), kind="backbone")
    if pretrained and not tagged:
        raise BobError(
            f"timm has no pretrained weights for {architecture!r}. Add checkpoint=FILE with "
            f"weights of your own; timm:{architecture},pretrained=false is the model with random "
            "weights, untrained.",
            kind="backbone",
        )


def _unreachable(entry: BackboneEntry, name: str, error: Exception) -> BobError:
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    repository = getattr(config, "hf_hub_id", None) or name
    spec = entry.source if "," in entry.key else entry.key
    return BobError(
        f"Backbone {entry.key!r}: its pretrained weights are not in the local hub cache and the "
        f"hub cannot be reached ({type(error).__name__}). On a machine with network access run "
        f"`hf download {repository}` and copy the cache (HF_HOME), or name a file: "
        f"--backbone {spec},checkpoint=FILE.",
        kind="unavailable",
    )
