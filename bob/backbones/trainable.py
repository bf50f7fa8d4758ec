"""Whether training reaches a backbone's weights."""

from __future__ import annotations

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
    frozen = {
        name: parameter
        for name, parameter in module.named_parameters()
        if not parameter.requires_grad and parameter.is_floating_point()
    }
    if not frozen:
        return ()
    total = sum(parameter.numel() for parameter in module.parameters())
    share = sum(parameter.numel() for parameter in frozen.values()) / total
    came = f"{len(frozen)} parameters ({share:.1%} of the weights: {some(frozen)})"
    if entry.keep_frozen:
        return (f"{came} came with requires_grad=False and stayed so, as keep_frozen says",)
    if entry.source.startswith("timm:"):
        return (f"{came} are frozen by timm and were not trained",)
    for parameter in frozen.values():
        parameter.requires_grad_(True)
    return (
        f"{came} came with requires_grad=False and were trained all the same; keep_frozen=true "
        "leaves them",
    )


def unreached(module: nn.Module) -> tuple[str, ...]:
    """Weights that a backward pass just left without a gradient.

    Args:
        module: The backbone.

    Raises:
        BobError: kind ``backbone``: no gradient reaches any of those that are to be trained.
    """
    wanted = [name for name, weight in module.named_parameters() if weight.requires_grad]
    without = [
        name
        for name, weight in module.named_parameters()
        if weight.requires_grad and weight.grad is None
    ]
    if wanted and len(without) == len(wanted):
        raise BobError(
            f"No gradient reaches any of the backbone's {len(wanted)} parameters, so only "
            "the head would be trained. Take torch.no_grad, inference_mode and detach out of its "
            "forward, or run the frozen tasks alone.",
            kind="backbone",
        )
    return tuple(without)
