"""Micro backbones for the smoke scale: small instances of timm's own classes.

Each factory returns a feature extractor (no classification head) for RGB images of 32 x 32 pixels
whose forward pass maps ``(batch, 3, 32, 32)`` to pooled features ``(batch, channels)``. Widths and
depths are chosen so that half-precision weights stay under 1 MB and a fine-tune takes seconds on
two CPU cores.
"""

from __future__ import annotations

from timm.models.convnext import ConvNeXt
from timm.models.resnet import BasicBlock, ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

IMAGE_SIZE = 32


def swin_micro() -> nn.Module:
    """Swin Transformer: patch 4, two stages of two blocks, window 4, 48 to 96 channels."""
    return SwinTransformer(
        img_size=IMAGE_SIZE,
        patch_size=4,
        window_size=4,
        embed_dim=48,
        depths=(2, 2),
        num_heads=(3, 6),
        drop_path_rate=0.0,
        num_classes=0,
    )


def vit_micro() -> nn.Module:
    """Vision Transformer: patch 4, width 96, three blocks, class token."""
    return VisionTransformer(
        img_size=IMAGE_SIZE,
        patch_size=4,
        embed_dim=96,
        depth=3,
        num_heads=3,
        num_classes=0,
    )


def convnext_micro() -> nn.Module:
    """ConvNeXt: four stages of one or two blocks at strides 1 to 8, 16 to 128 channels."""
    return ConvNeXt(
        patch_size=1,
        depths=(1, 1, 2, 2),
        dims=(16, 32, 64, 128),
        kernel_sizes=(3, 5, 5, 5),
        ls_init_value=None,
        num_classes=0,
    )


def resnet_micro() -> nn.Module:
    """ResNet: four stages of one basic block, 24 to 128 channels."""
    return ResNet(block=BasicBlock, layers=(1, 1, 1, 1), channels=(24, 48, 96, 128), num_classes=0)


def pooled_pixels(grid: int = 4) -> nn.Module:
    """No network at all: mean colour of each cell of a ``grid`` x ``grid`` raster."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(grid), nn.Flatten())
