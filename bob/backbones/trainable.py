"""Whether training reaches a backbone's weights."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from bob.catalog.schema import BackboneEntry
from bob.errors import BobError, some


def unfreeze(entry: BackboneEntry, module: nn.Module) -> tuple[str, ...]:
    """Let every weight of a factory's module be trained, unless its entry keeps what is frozen.

    What timm freezes, such as position embeddings that are computed, belongs to the architecture
    and stays.

    Returns:
        What a reader of a trained backbone's score should know.
    """
    weights = dict(module.named_parameters())
    if not weights:
        if entry.source.startswith("bob."):  # means of pixels, which have none to train
            return ()
        return ("the backbone has no parameters, so only the head was trained",)
    frozen = [name for name in frozen_parameters(module) if weights[name].is_floating_point()]
    if not frozen:
        return ()
    total = sum(weight.numel() for weight in weights.values())
    share = sum(weights[name].numel() for name in frozen) / total
    came = f"{len(frozen)} parameters ({share:.1%} of the weights: {some(frozen)})"
    if entry.keep_frozen:
        return (f"{came} came with requires_grad=False and stayed so, as keep_frozen says",)
    if entry.source.startswith("timm:"):
        return (f"{came} are frozen by timm and were not trained",)
    for name in frozen:
        weights[name].requires_grad_(True)
    return (
        f"{came} came with requires_grad=False and were unfrozen; keep_frozen=true leaves them",
    )


def frozen_parameters(module: nn.Module) -> tuple[str, ...]:
    """Names of the parameters that are not to be trained."""
    return tuple(name for name, weight in module.named_parameters() if not weight.requires_grad)


def unreached(module: nn.Module, *, frozen: Collection[str]) -> tuple[str, ...]:
    """Remarks on weights that the first backward pass left as they were.

    Args:
        module: The backbone, its gradients as the pass left them.
        frozen: Parameters that were frozen before training began, and were to stay so.

    Raises:
        BobError: kind ``backbone``: there were parameters to train, and none of them is.
    """
    again = [name for name in frozen_parameters(module) if name not in frozen]
    wanted = [name for name, _ in module.named_parameters() if name not in frozen]
    without = [
        name
        for name, weight in module.named_parameters()
        if weight.requires_grad and weight.grad is None
    ]
    if wanted and len(again) == len(wanted):
        raise BobError(
            "The backbone's train() freezes every parameter again, so only the head would be "
            "trained. Let its train() leave requires_grad alone, or say keep_frozen=true.",
            kind="backbone",
        )
    if wanted and len(again) + len(without) == len(wanted):
        raise BobError(
            f"No gradient reaches any of the backbone's {len(wanted)} parameters, so only the head "
            "would be trained. Take torch.no_grad, inference_mode and detach out of its forward, "
            "and let it run its own modules; or run the frozen tasks alone.",
            kind="backbone",
        )
    remarks = []
    if again:
        remarks.append(
            f"the backbone's train() froze {_parameters(again)} again, which were not trained: "
            f"{some(again)}"
        )
    if without:
        remarks.append(
            f"no gradient reaches {_parameters(without)} of the backbone: {some(without)}"
        )
    return tuple(remarks)


def _parameters(names: Collection[str]) -> str:
    return "1 parameter" if len(names) == 1 else f"{len(names)} parameters"
