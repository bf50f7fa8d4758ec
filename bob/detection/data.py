"""Batches of detection samples, augmented as the recipe says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from bob.checkpoints.encoding import State
from bob.datasets.coco import CocoSplit
from bob.datasets.images import MOST_ELONGATED
from bob.datasets.instances import Sample, Target
from bob.distributed.group import Group
from bob.errors import BobError
from bob.protocols.detection import DetectionRecipe
from bob.training.loader_process import outlive_sigterm
from bob.training.shuffled import ShuffledLoader

Batch = tuple[list[torch.Tensor], list[Target]]

_CROP_EDGES = (400, 500, 600)
_CROP_SIDES = (384, 600)
_CROP_LONGEST = MOST_ELONGATED * max(_CROP_EDGES)
"""Of an image before it is cropped; only more elongated ones would be longer, without end."""


class TrainBatches:
    """Batches without end, reshuffled at each pass; the last incomplete one is left out.

    Images without a usable annotation are left out too.

    Args:
        split: What to learn from.
        recipe: Batch size and augmentation.
        workers: Loader processes; small splits held in memory need none.
        seed: Of order and augmentation.
        group: Processes that share each batch: this one has its part alone.

    Raises:
        BobError: No image has a usable annotation, or a batch cannot be shared equally.
    """

    def __init__(
        self,
        split: CocoSplit,
        recipe: DetectionRecipe,
        *,
        workers: int,
        seed: int,
        group: Group | None = None,
    ) -> None:
        if not split.annotated:
            raise BobError(
                "No image of the train split has an annotation to learn from.", kind="dataset"
            )
        self.recipe = recipe
        self.size = min(recipe.batch_size, len(split.annotated))
        group = group or Group()
        group.check(self.size, of="The recipe")
        generator = torch.Generator().manual_seed(seed)
        plain = recipe.augmentation == "none"
        self.loader: ShuffledLoader[Sample, Batch] = ShuffledLoader(
            _Augmented(split, train_transform(recipe)),
            batch_size=self.size,
            workers=0 if plain else workers,
            generator=generator,
            collate=_collate,
            group=group,
        )

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield from self.loader

    def state(self) -> State:
        """Where the pass stands."""
        return self.loader.state()

    def take_up(self, state: State) -> None:
        """Go on where another one stood; before the first pass."""
        self.loader.take_up(state)


class _Augmented(Dataset[Sample]):
    def __init__(self, split: CocoSplit, transform: Callable[[Sample], Sample]) -> None:
        self.split, self.transform = split, transform

    def __len__(self) -> int:
        return len(self.split.annotated)

    def __getitem__(self, position: int) -> Sample:
        return self.transform(self.split.sample(self.split.annotated[position]))


def _collate(samples: Sequence[Sample]) -> Batch:
    images = [sample.image.to(torch.float32).div_(255) for sample in samples]
    return images, [sample.target for sample in samples]


def train_transform(recipe: DetectionRecipe) -> Callable[[Sample], Sample]:
    """Augmentation of one sample; see ``DetectionRecipe.augmentation``.

    Sources: DETR's multi-scale training as the paper's configurations have it; large-scale jitter
    of G. Ghiasi et al., arXiv 2012.07177.
    """
    steps: list[Any] = [v2.RandomHorizontalFlip(recipe.hflip)] if recipe.hflip else []
    side = (recipe.image_size, recipe.image_size)
    if recipe.augmentation == "multiscale":
        resize = _ShortestSize(list(recipe.short_edges), recipe.long_edge)
        large = _ShortestSize(list(_CROP_EDGES), _CROP_LONGEST)
        behind_crop = v2.Compose([large, _SomeCrop(), resize])
        steps.append(v2.RandomChoice([resize, behind_crop]))
    elif recipe.augmentation == "lsj":
        steps += [
            _ScaleJitter(target_size=side, scale_range=recipe.jitter),
            v2.RandomCrop(side, pad_if_needed=True),
        ]
    pipeline = v2.Compose([*steps, v2.ClampBoundingBoxes()]) if steps else None

    def apply(sample: Sample) -> Sample:
        if recipe.augmentation == "none":
            sample = resized(sample, recipe)
        return _sanitised(_through(pipeline, sample) if pipeline else sample)

    return apply


class _NotEmpty(v2.Transform):
    """Rounds no side down to nothing, which a narrow image's would be."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        params: dict[str, Any] = super().make_params(flat_inputs)
        return {**params, "size": tuple(max(1, side) for side in params["size"])}


class _ShortestSize(_NotEmpty, v2.RandomShortestSize):
    pass


class _ScaleJitter(_NotEmpty, v2.ScaleJitter):
    pass


class _SomeCrop(v2.Transform):
    """A crop whose sides are drawn between 384 and 600 pixels, as far as the image goes."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = functional.get_size(flat_inputs[0])
        low, high = _CROP_SIDES
        sides = [
            min(whole, int(torch.randint(min(low, whole), min(high, whole) + 1, ())))
            for whole in (height, width)
        ]
        top = int(torch.randint(0, height - sides[0] + 1, ()))
        left = int(torch.randint(0, width - sides[1] + 1, ()))
        return {"top": top, "left": left, "height": sides[0], "width": sides[1]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return self._call_kernel(functional.crop, inpt, **params)


def _through(pipeline: Any, sample: Sample) -> Sample:
    target = sample.target
    size = tuple(sample.image.shape[-2:])
    wrapped: dict[str, Any] = {
        "image": tv_tensors.Image(sample.image),
        "boxes": tv_tensors.BoundingBoxes(target.boxes, format="XYXY", canvas_size=size),
    }
    if target.masks is not None:
        wrapped["masks"] = tv_tensors.Mask(target.masks)
    out = pipeline(wrapped)
    masks = out["masks"].as_subclass(torch.Tensor).bool() if "masks" in out else None
    boxes = out["boxes"].as_subclass(torch.Tensor)
    image = out["image"].as_subclass(torch.Tensor)
    return Sample(image, Target(boxes, target.labels, masks), sample.index)


def _sanitised(sample: Sample) -> Sample:
    """Without instances that augmentation has cut away."""
    target = sample.target
    sides = target.boxes[:, 2:] - target.boxes[:, :2]
    keep = (sides >= 1).all(dim=1)
    if target.masks is not None:
        keep &= target.masks.flatten(1).any(dim=1)
    if bool(keep.all()):
        return sample
    masks = target.masks[keep] if target.masks is not None else None
    return Sample(
        sample.image, Target(target.boxes[keep], target.labels[keep], masks), sample.index
    )


def scoring_size(recipe: DetectionRecipe, height: int, width: int) -> tuple[int, int]:
    """Height and width an image is resized to, its ratio kept, when nothing is augmented."""
    short, long = recipe.short_edges[-1], recipe.long_edge
    if recipe.square:
        short = long = recipe.image_size
    scale = min(short / min(height, width), long / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def resized(sample: Sample, recipe: DetectionRecipe) -> Sample:
    """A sample at its test size."""
    height, width = (int(side) for side in sample.image.shape[-2:])
    size = scoring_size(recipe, height, width)
    if size == (height, width):
        return sample
    target = sample.target
    scale = target.boxes.new_tensor([size[1] / width, size[0] / height]).repeat(2)
    masks = target.masks
    if masks is not None and len(masks):
        masks = functional.resize_mask(masks.to(torch.uint8), list(size)).bool()
    elif masks is not None:
        masks = masks.new_zeros((0, *size))
    return Sample(
        _resize(sample.image, size),
        Target(target.boxes * scale, target.labels, masks),
        sample.index,
    )


def _resize(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    out: torch.Tensor = functional.resize_image(image, list(size), antialias=True)
    return out


class _Resized(Dataset[torch.Tensor]):
    def __init__(self, split: CocoSplit, recipe: DetectionRecipe) -> None:
        self.split, self.recipe = split, recipe

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> torch.Tensor:
        image = self.split.sample(index).image
        return _resize(image, scoring_size(self.recipe, *map(int, image.shape[-2:])))


def scoring_batches(
    split: CocoSplit, recipe: DetectionRecipe, batches: Sequence[range], workers: int
) -> Iterator[tuple[list[torch.Tensor], list[tuple[int, int]]]]:
    """Images in 0..1 at test size with their height and width on disk.

    Args:
        split: The images.
        recipe: Decides the test size.
        batches: Positions of the images of each batch.
        workers: Loader processes.
    """
    loader: DataLoader[torch.Tensor] = DataLoader(
        _Resized(split, recipe),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=outlive_sigterm,
    )
    for batch, images in zip(batches, loader, strict=True):
        sizes = [split.size(index) for index in batch]
        yield [image.to(torch.float32).div_(255) for image in images], sizes
