"""Regions pooled by matrix products are those of torchvision's aligned kernel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.ops import roi_align

from bob.detection import regions
from bob.detection.regions import PyramidPool, RegionPool


def some_regions(count: int, images: int, reach: float) -> torch.Tensor:
    """Boxes of every size, some beyond the image, and one without area."""
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(count, 2, 2, generator=generator) * (reach + 16) - 8
    corners = torch.cat([points.amin(1), points.amax(1)], dim=1)
    corners[0, 2:] = corners[0, :2]
    image = torch.randint(images, (count, 1), generator=generator).float()
    return torch.cat([image, corners], dim=1)


@pytest.mark.parametrize("samples", [0, 1, 2])
@pytest.mark.parametrize("size", [5, 7])
def test_products_give_the_kernels_values_and_gradients(samples: int, size: int) -> None:
    chosen = some_regions(40, 3, 64.0)
    maps = torch.randn(3, 6, 12, 16, generator=torch.Generator().manual_seed(1))
    weights = torch.randn(40, 6, size, size, generator=torch.Generator().manual_seed(2))

    def kernel(given: torch.Tensor) -> Any:
        return roi_align(given, chosen, size, 0.25, samples, aligned=True)

    results = []
    for pool in (lambda given: RegionPool(size, 4, samples)(given, chosen), kernel):
        given = maps.clone().requires_grad_()
        out = pool(given)
        (out * weights).sum().backward()
        results.append((out.detach(), given.grad))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_large_maps_take_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, chosen = RegionPool(7, 4, 2), some_regions(20, 1, 200.0)
    maps = torch.randn(1, 3, 64, 48)
    assert maps[0, 0].numel() > regions.SMALL_MAP
    by_kernel = pool(maps, chosen)
    monkeypatch.setattr(regions, "SMALL_MAP", 64 * 48)
    monkeypatch.setattr(regions, "roi_align", None)
    torch.testing.assert_close(pool(maps, chosen), by_kernel, atol=1e-5, rtol=1e-5)


def test_no_region_gives_none() -> None:
    maps = torch.randn(2, 3, 8, 8, requires_grad=True)
    for samples in (0, 2):
        out = RegionPool(7, 4, samples)(maps, torch.zeros(0, 5))
        assert out.shape == (0, 3, 7, 7)


def test_a_region_comes_from_the_level_of_its_size() -> None:
    """Levels hold their own number, so that what comes out tells where it was taken from."""
    pool = PyramidPool(("s4", "s8", "s16"), (4, 8, 16), size=7, samples=0, side=16.0)
    levels = {
        name: torch.full((2, 1, 64 // stride, 64 // stride), float(stride))
        for name, stride in (("s4", 4), ("s8", 8), ("s16", 16))
    }
    levels["extra"] = torch.zeros(2, 1, 2, 2)
    boxes = [
        torch.tensor([[16.0, 16, 16 + side, 16 + side] for side in (8, 30, 40)]),
        torch.tensor([[0.0, 0, 64, 64]]),
    ]
    out = pool(levels, boxes, [(64, 64)] * 2)
    assert out.shape == (4, 1, 7, 7)
    assert out.mean(dim=(1, 2, 3)).tolist() == pytest.approx([4, 4, 8, 16])


def test_regions_come_from_their_own_image() -> None:
    pool = PyramidPool(("s4",), (4,), size=7, samples=1, side=16.0)
    maps = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 16, 16).contiguous()
    box = torch.tensor([[10.0, 10, 40, 40]])
    out = pool({"s4": maps}, [box, box[:0], box.repeat(2, 1)], [(64, 64)] * 3)
    assert out.mean(dim=(1, 2, 3)).tolist() == [0, 2, 2]
