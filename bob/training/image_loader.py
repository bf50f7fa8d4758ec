"""Loader processes over images on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from bob.checkpoints.encoding import State
from bob.datasets import AnySplit, ImageSplit
from bob.datasets.images import Trouble, fit
from bob.distributed.group import Group
from bob.training.loader_process import outlive_sigterm
from bob.training.shuffled import ShuffledLoader

FEW_IMAGES = 64
"""Fewer are decoded sooner than loader processes start."""

Batch = tuple[torch.Tensor, torch.Tensor]
"""Images and targets."""

Transform = Callable[[Any, int], torch.Tensor]
"""PIL image and its position → tensor."""

_Sample = tuple[torch.Tensor, int, Trouble | None]
_Joined = tuple[torch.Tensor, list[int], list[tuple[int, Trouble]]]


class _Samples(Dataset[_Sample]):
    def __init__(self, split: AnySplit, transform: Transform) -> None:
        self.split, self.transform = split, transform

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> _Sample:
        trouble: Trouble | None = None
        if isinstance(self.split, ImageSplit):
            image, trouble = self.split.attempt(index)
        else:
            image = self.split.pil(index)
        return self.transform(image, index), index, trouble


def _joined(samples: list[_Sample]) -> _Joined:
    images, indices, troubles = zip(*samples, strict=True)
    bad = [(i, trouble) for i, trouble in zip(indices, troubles, strict=True) if trouble]
    return torch.stack(images), list(indices), bad


def _noted(split: AnySplit, bad: list[tuple[int, Trouble]]) -> None:
    if isinstance(split, ImageSplit):
        for index, trouble in bad:
            split.report(index, trouble)


def _processes(split: AnySplit, workers: int) -> int:
    return workers if len(split) >= FEW_IMAGES else 0


class TrainLoader:
    """Shuffled batches of augmented images; the last incomplete one is left out.

    Args:
        split: Images and targets.
        transform: PIL image → ``(3, size, size)`` float32.
        batch_size: Images a batch.
        workers: Loader processes; none are started for fewer than ``FEW_IMAGES``.
        pinned: Whether batches are put into page-locked memory.
        generator: Decides the order, anew at each pass.
        group: Processes that share each batch; this one loads its part alone.
    """

    def __init__(
        self,
        split: AnySplit,
        transform: Callable[[Any], torch.Tensor],
        *,
        batch_size: int,
        workers: int,
        pinned: bool,
        generator: torch.Generator,
        group: Group | None = None,
    ) -> None:
        self.split, self._group = split, group or Group()
        self._loader: ShuffledLoader[_Sample, _Joined] = ShuffledLoader(
            _Samples(split, partial(without_position, transform)),
            batch_size=batch_size,
            workers=_processes(split, workers),
            pinned=pinned,
            generator=generator,
            collate=_joined,
            group=self._group,
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        for images, indices, bad in self._loader:
            _noted(self.split, bad)
            yield images, self.split.targets[indices]
        share_damage(self.split, self._group)

    def state(self) -> State:
        """Where the pass stands, and what images were found damaged."""
        damage = {}
        if isinstance(self.split, ImageSplit):
            damage = {name: dict(texts) for name, texts in vars(self.split.damage).items()}
        return {**self._loader.state(), "damage": damage}

    def take_up(self, state: State) -> None:
        """Go on where another one stood; before the first pass."""
        self._loader.take_up(state)
        if isinstance(self.split, ImageSplit):
            self.split.damage.problems.update(state["damage"]["problems"])
            self.split.damage.notes.update(state["damage"]["notes"])


def without_position(
    transform: Callable[[Any], torch.Tensor], image: Any, position: int
) -> torch.Tensor:
    """Call a transform of images alone; for ``functools.partial``."""
    return transform(image)


def _fitted(size: int, crop_pct: float, image: Any, position: int) -> torch.Tensor:
    return fit(image, size, crop_pct)


def share_damage(split: AnySplit, group: Group) -> None:
    """Have every process know what all of them have found damaged.

    Raises:
        BobError: Together they have found too much.
    """
    if group.alone or not isinstance(split, ImageSplit):
        return
    for damage in group.gathered(split.damage):
        split.note(damage)


def pixels(
    split: AnySplit, *, size: int, crop_pct: float, batches: Sequence[range], workers: int
) -> Iterator[torch.Tensor]:
    """Images of a split, uint8 ``(b, 3, size, size)``.

    Args:
        split: Images.
        size: Height and width.
        crop_pct: Share of the shorter side that is kept.
        batches: Positions of the images of each batch.
        workers: Loader processes; none are started for fewer than ``FEW_IMAGES``.
    """
    return transformed(split, partial(_fitted, size, crop_pct), batches=batches, workers=workers)


def transformed(
    split: AnySplit,
    transform: Transform,
    *,
    batches: Sequence[range],
    workers: int,
    pinned: bool = False,
) -> Iterator[torch.Tensor]:
    """What a transform makes of a split's images.

    Args:
        split: Images; unreadable ones are noted there.
        transform: Gets the image (PIL, RGB) and its position.
        batches: Positions of the images of each batch.
        workers: Loader processes; none are started for fewer than ``FEW_IMAGES``.
        pinned: Whether batches are put into page-locked memory.

    Yields:
        Stacked tensors ``(b, ...)``.

    Raises:
        BobError: Too many images of the split are unreadable.
    """
    loader: DataLoader[_Sample] = DataLoader(
        _Samples(split, transform),
        batch_sampler=batches,
        num_workers=_processes(split, workers),
        pin_memory=pinned,
        collate_fn=_joined,
        worker_init_fn=outlive_sigterm,
    )
    loaded: Any
    for loaded in loader:
        images, _, bad = loaded
        _noted(split, bad)
        yield images
