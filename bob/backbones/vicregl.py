"""ConvNeXt as VICRegL trained it.

It has no layer scale, and its pooled feature is the mean of normalised positions. Source: A. Bardes
et al., VICRegL, NeurIPS 2022, ``convnext.py`` of its release. timm's ``create_model`` cannot be
asked for it, because it leaves out arguments that are none.
"""

from __future__ import annotations

from collections.abc import Sequence

from timm.models.convnext import ConvNeXt
from torch import nn

_XLARGE = (256, 512, 1024, 2048)


def convnext_xlarge_vicregl(drop_path_rate: float = 0.0) -> nn.Module:
    """ConvNeXt-XL, ``(batch, 3, size, size)`` to ``(batch, 2048)``."""
    return vicregl_convnext(_XLARGE, drop_path_rate=drop_path_rate)


def vicregl_convnext(widths: Sequence[int], *, drop_path_rate: float = 0.0) -> nn.Module:
    """The same of other widths; stages of 3, 3, 27 and 3 blocks."""
    return ConvNeXt(
        depths=(3, 3, 27, 3),
        dims=tuple(widths),
        ls_init_value=None,
        head_norm_first=True,
        drop_path_rate=drop_path_rate,
        num_classes=0,
    )
