"""The values of every option: what was said → ``Options``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bob.options.declaration import OPTIONS
from bob.options.option import Option, Said

if TYPE_CHECKING:
    from bob.plan import Selection


@dataclass(frozen=True)
class Options:
    """Settings of one session or one command.

    Attributes:
        scale: Key of a scale; that of the file where a file was named.
        backbones: What was named, the file of ``--checkpoint`` included.
        engine: Empty for the scale's own.
        image_size: None for the scale's own.
        seeds: None when nobody named a number.
        same_seed: ``auto`` or ``off``.
        references: Folder of reference files, absolute.
        catalogs: Further catalog files, absolute; ``bob.yaml`` in the root folder and the file of
            ``scale`` among them.
        executor_options: Settings of the executor, by name.
        ray_address: Of the cluster of the executor ``ray``.
        save_every: Least minutes between two checkpoints of a running case; None writes none.
        case_timeout: Seconds; ``auto``, or None for no limit.
        tracking_uri: Empty for the store in the root folder.
        features: Folder of the feature store, absolute; None for the user's own.
        features_limit: Bytes.
        max_gpu_hours: None for no limit.
    """

    scale: str
    backbones: tuple[str, ...]
    datasets: tuple[str, ...]
    engine: str
    image_size: int | Literal["own"] | None
    grid: bool
    seeds: int | None
    base_seed: int
    same_seed: str
    bands: str
    require_bands: bool
    resume: bool
    references: Path
    catalogs: tuple[Path, ...]
    executor: str
    executor_options: Mapping[str, str]
    ray_address: str
    save_every: float | None
    case_timeout: str | float | None
    tracking_uri: str
    accelerator: str
    devices: int
    precision: str
    workers: int
    features: Path | None
    features_limit: int
    progress: str
    download: bool
    max_gpu_hours: float | None
    reference_gpu: str

    @property
    def selection(self) -> Selection:
        """Which cases."""
        from bob.plan import Selection

        return Selection(
            scale=self.scale,
            backbones=self.backbones,
            seed=self.base_seed,
            engine=self.engine,
            datasets=self.datasets,
            grid=self.grid,
            image_size=self.image_size,
        )

    @property
    def repeats_reference(self) -> bool:
        """Whether checks run a seed of the reference first: where nobody asked for other seeds."""
        return self.same_seed == "auto" and self.seeds is None and self.base_seed == 0


def gather(said: Callable[[Option], Said], root: Path) -> Options:
    """Make the values of every option.

    Args:
        said: What was said of an option.
        root: Folder whose ``bob.yaml`` is read without being named.

    Raises:
        BobError: A value is wrong, or ``--checkpoint`` does not go with one backbone.
    """
    from bob.catalog import with_checkpoint
    from bob.catalog.scale_file import scale_and_file

    words = {option.field: said(option) for option in OPTIONS}
    values: dict[str, Any] = {option.field: option.value(words[option.field]) for option in OPTIONS}
    values["backbones"] = with_checkpoint(values["backbones"], values.pop("checkpoint"))
    values["scale"], scale_files = scale_and_file(values["scale"], words["scale"].base)
    own_files = [path for path in [root / "bob.yaml"] if os.path.lexists(path)]
    values["catalogs"] = _distinct(*own_files, *values["catalogs"], *scale_files)
    return Options(**values)


def _distinct(*paths: Path) -> tuple[Path, ...]:
    return tuple({os.path.realpath(path): path for path in paths}.values())
