"""One pass of a backbone over a split."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from PIL import Image

from bob.backbones import Backbone
from bob.datasets import AnySplit, Split
from bob.datasets.images import fit
from bob.distributed.group import batches_of
from bob.errors import BobError
from bob.protocols.spec import EXTRACTION
from bob.training.data import normalised
from bob.training.image_loader import pixels, transformed
from bob.training.memory import Counts, Parts

BATCH = 128

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class View:
    """One randomly augmented look at every image of a split.

    Each image's randomness comes from the seed, the epoch and its position alone.

    Attributes:
        seed: Seed of the run.
        epoch: Which look, from 0.
        crop_scale: Smallest area of the random resized crop (bicubic), 1 for no crop.
        hflip: Chance of a horizontal flip.
    """

    seed: int
    epoch: int
    crop_scale: float
    hflip: float

    @property
    def facts(self) -> dict[str, Any]:
        """What of it changes features."""
        return asdict(self)


def extract(
    backbone: Backbone,
    split: AnySplit,
    *,
    fabric: Fabric,
    what: str,
    workers: int = 0,
    view: View | None = None,
    batches: Sequence[range] | None = None,
    advance: Callable[[int], None] = lambda done: None,
    counts: Counts | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Features of a split, batch by batch.

    The backbone runs in evaluation mode under the fabric's precision, in channels-last order. A
    batch that does not fit the device is halved.

    Args:
        backbone: What to run.
        split: Images.
        fabric: Device and precision.
        what: Backbone, dataset and split, for messages.
        workers: Loader processes for images on disk.
        view: Augmentation; none for the plain images.
        batches: Positions of the images of each batch; the whole split in its order where there are
            none.
        advance: Receives the number of images done.
        counts: Where the parts of batches are kept.

    Yields:
        Float32 arrays ``(b, backbone.num_features)``.

    Raises:
        BobError: A feature is NaN or infinite, or a single image does not fit the device.
    """
    module: Any = backbone.module.eval()
    module = fabric.setup_module(module.to(memory_format=torch.channels_last))
    on_cuda = fabric.device.type == "cuda"
    done, parts = 0, Parts.of_scoring(fabric.device, counts)
    batches = batches_of(split, BATCH) if batches is None else batches
    loaded = _pixels(backbone, split, view, batches, workers)
    ready = _ahead(map(torch.Tensor.pin_memory, loaded)) if on_cuda else loaded
    with torch.inference_mode():
        for batch, images in zip(batches, ready, strict=True):
            features = parts.run(images, partial(_forward, module, images, fabric.device))
            if not torch.isfinite(features).all():
                bad = int((~torch.isfinite(features)).any(dim=1).nonzero()[0]) + batch.start
                raise BobError(
                    f"Features of {what}: image {bad} gives NaN or infinite values under precision "
                    f"{fabric.strategy.precision.precision}. Check the backbone for overflow, or "
                    "run with --precision 32-true.",
                    kind="features",
                )
            done += len(features)
            advance(done)
            yield features.numpy()


def fed(backbone: Backbone, split: AnySplit) -> torch.Tensor:
    """The images of a small split as the backbone gets them, less its normalisation.

    Returns:
        uint8 ``(n, 3, height, width)``.
    """
    batches = batches_of(split, BATCH)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std))
    parts = [images * std + mean for images in _pixels(backbone, split, None, batches, 0)]
    return (torch.cat(parts) * 255).round().clamp(0, 255).to(torch.uint8)


def _pixels(
    backbone: Backbone,
    split: AnySplit,
    view: View | None,
    batches: Sequence[range],
    workers: int,
) -> Iterator[torch.Tensor]:
    size = backbone.image_size
    if isinstance(split, Split):
        found = _in_memory(split, size, view, batches)
    elif view is not None:
        found = transformed(split, _Look(view, size), batches=batches, workers=workers)
    else:
        found = pixels(split, size=size, crop_pct=EXTRACTION.crop, batches=batches, workers=workers)
    for images in found:
        yield normalised(images, backbone).contiguous(memory_format=torch.channels_last)


def _in_memory(
    split: Split, size: int, view: View | None, batches: Sequence[range]
) -> Iterator[torch.Tensor]:
    for batch in batches:
        images = split.images[batch.start : batch.stop]
        yield images if view is None else augmented(images, view, batch.start, size)


@dataclass(frozen=True)
class _Look:
    """A view of single images, for loader processes."""

    view: View
    size: int

    def __call__(self, image: Image.Image, position: int) -> torch.Tensor:
        from torchvision.transforms.functional import pil_to_tensor

        pixels = pil_to_tensor(image)
        if self.view.crop_scale >= 1:
            pixels = fit(image, self.size, 1.0)
        return augmented(pixels[None], self.view, position, self.size)[0]


def _forward(
    module: Any, images: torch.Tensor, device: torch.device, parts: Iterable[slice]
) -> torch.Tensor:
    features = [module(images[part].to(device, non_blocking=True)).float() for part in parts]
    return torch.cat(features).cpu()


def augmented(images: torch.Tensor, view: View, first: int, size: int) -> torch.Tensor:
    """Random resized crop and flip of each image.

    Args:
        images: uint8 ``(n, 3, height, width)``.
        view: What may happen.
        first: Position of ``images[0]`` in its split.
        size: Height and width of the result.

    Returns:
        uint8 ``(n, 3, size, size)``.
    """
    from torchvision.transforms import v2

    crop = v2.RandomResizedCrop(
        size,
        scale=(view.crop_scale, 1.0),
        interpolation=v2.InterpolationMode.BICUBIC,
        antialias=True,
    )
    looks = []
    with _own_randomness():
        for position, image in enumerate(images, first):
            name = f"{view.seed}/{view.epoch}/{position}".encode()
            torch.manual_seed(int.from_bytes(hashlib.sha256(name).digest()[:7], "big"))
            look = crop(image) if view.crop_scale < 1 else image
            flip = torch.rand(()) < view.hflip
            looks.append(look.flip(-1) if flip else look)
    return torch.stack(looks)


@contextmanager
def _own_randomness() -> Iterator[None]:
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)


def _ahead(items: Iterable[_Item], depth: int = 3) -> Iterator[_Item]:
    """The same items, prepared in a thread while the consumer is busy."""
    ready: queue.Queue[tuple[_Item | None, BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(pair: tuple[_Item | None, BaseException | None]) -> None:
        while not stopped.is_set():
            try:
                return ready.put(pair, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put((item, None))
                if stopped.is_set():
                    return
            put((None, StopIteration()))
        except BaseException as error:
            put((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
