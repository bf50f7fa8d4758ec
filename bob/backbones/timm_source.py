"""Backbones from timm, with weights through timm's own hub cache."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from bob.catalog.schema import BackboneEntry
from bob.errors import BobError, unknown

_NETWORK_PACKAGES = {
    "huggingface_hub",
    "httpx",
    "httpcore",
    "requests",
    "urllib",
    "urllib3",
    "socket",
}


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
    name = entry.source.removeprefix("timm:")
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
            module: nn.Module = timm.create_model(name, **{**extra, **arguments})
            return module
        except Exception as error:
            if _is_network(error):
                raise _unreachable(entry, name, error) from error
            problem = error
    raise BobError(
        f"Backbone {entry.key!r}: timm.create_model({name!r}, {arguments}) raised "
        f"{type(problem).__name__}: {problem}",
        kind="backbone",
    ) from problem


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
            f"timm has no pretrained weights for {architecture!r}; write "
            f"timm:{architecture},pretrained=false or add checkpoint=FILE.",
            kind="backbone",
        )


def _is_network(error: BaseException | None) -> bool:
    while error is not None:
        package = type(error).__module__.split(".", 1)[0]
        if package in _NETWORK_PACKAGES or isinstance(error, ConnectionError | TimeoutError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _unreachable(entry: BackboneEntry, name: str, error: Exception) -> BobError:
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    repository = getattr(config, "hf_hub_id", None) or name
    return BobError(
        f"Backbone {entry.key!r}: its pretrained weights are not in the local hub cache and the "
        f"hub cannot be reached ({type(error).__name__}). On a machine with network access run "
        f"`hf download {repository}` and copy the cache (HF_HOME), or pass a file: "
        f"timm:{name},checkpoint=FILE.",
        kind="unavailable",
    )
