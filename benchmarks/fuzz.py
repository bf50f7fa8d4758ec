"""Broken input, at random and for as long as wanted: nothing but a ``BobError`` may come out.

``python -m benchmarks.fuzz --minutes 10 --seed 1`` mutates images of every format that Pillow
writes (bytes, metadata, cut files), folder names, catalogs, COCO files and checkpoints, and reads
each as a case would. It prints how many were tried, what they came to, and the first of every kind
of escape with the seed that gives it again. The exit status is 1 where there is one.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bob.catalog import load_catalog, parse_dataset
from bob.datasets.base import ClassificationData, load_dataset
from bob.datasets.images import Files, ImageSplit, fit
from bob.errors import BobError

MEMORY_MB = 1500
"""Most that reading one input may add to what the process has taken at most."""

_MODES = ("RGB", "L", "RGBA", "P", "1", "I;16", "F", "CMYK", "LA", "I")
_WORDS = (
    "a", "cat", "ünï", "$10_$20", "..", "con", "a b", "x" * 200, "1", "-", "\u202eabc", "日本",
    "{0}", "%s", "a\nb", "\\", "'", '"', "#", "?", "train", "test", "val", ".hidden", "🐈",
)  # fmt: skip


@dataclass
class Outcome:
    """What inputs came to.

    Attributes:
        tried: Inputs by kind.
        ended: Inputs by kind and end: ``read``, ``remark`` or ``refused``.
        escapes: For each kind of error that is no ``BobError``, its first input and traceback.
    """

    tried: Counter[str] = field(default_factory=Counter)
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    escapes: dict[str, str] = field(default_factory=dict)


Trial = Callable[[random.Random, Path], str]
"""Makes an input in a folder, reads it, and says how that ended."""


def _pixels(chance: random.Random) -> Image.Image:
    height, width = chance.choice([1, 2, 7, 16, 40]), chance.choice([1, 3, 8, 33])
    values = np.frombuffer(chance.randbytes(height * width * 3), np.uint8)
    image = Image.fromarray(values.reshape(height, width, 3))
    mode = chance.choice(_MODES)
    return image.convert("L").convert("I").convert(mode) if mode == "I;16" else image.convert(mode)


def _writable() -> dict[str, str]:
    Image.init()
    return {
        ending: form
        for ending, form in Image.registered_extensions().items()
        if form in Image.SAVE and form in Image.OPEN
    }


def _metadata(chance: random.Random) -> dict[str, object]:
    exif = Image.Exif()
    exif[0x0112] = chance.choice([1, 3, 6, 8, 0, 99])
    exif[0x011A] = chance.choice([72.0, 1.5])
    exif[0x010E] = chance.choice(_WORDS)
    body = bytearray(exif.tobytes())
    for _ in range(chance.choice([0, 1, 3, 20])):
        body[chance.randrange(6, len(body))] = chance.randrange(256)
    return {
        "exif": bytes(body),
        "icc_profile": chance.randbytes(chance.choice([1, 40, 200])),
        "xmp": chance.choice([b"<x:xmpmeta", chance.randbytes(60), b"<a tiff:Orientation='6'/>"]),
        "dpi": (72, 72),
    }


def mutated(body: bytes, chance: random.Random) -> bytes:
    """A file with bytes changed, cut off, doubled or put in; now and then as it was."""
    found = bytearray(body)
    for _ in range(chance.choice([0, 1, 1, 2, 8, 64])):
        if not found:
            break
        place = chance.randrange(len(found))
        kind = chance.randrange(5)
        if kind == 0:
            found[place] = chance.randrange(256)
        elif kind == 1:
            del found[place:]
        elif kind == 2:
            found[place:place] = found[place : place + chance.randrange(1, 40)]
        elif kind == 3:
            found[place : place + 4] = chance.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"])
        else:
            del found[place : place + chance.randrange(1, 40)]
    return bytes(found)


def image_bytes(chance: random.Random) -> tuple[str, bytes]:
    """Ending and content of an image file of some format, damaged or not."""
    ending, form = chance.choice(sorted(_writable().items()))
    image = _pixels(chance)
    for mode in (image.mode, "RGB", "L", "1"):
        stream = io.BytesIO()
        try:
            image.convert(mode).save(
                stream, form, **(_metadata(chance) if chance.random() < 0.7 else {})
            )
            break
        except Exception:  # a format that does not write this mode or metadata
            continue
    return ending, mutated(stream.getvalue(), chance)


def one_image(chance: random.Random, folder: Path) -> str:
    """An image file, opened and made fit as a task does."""
    ending, body = image_bytes(chance)
    (folder / f"image{ending}").write_bytes(body)
    split = ImageSplit(source=Files(folder, [f"image{ending}"]), targets=torch.zeros(1).long())
    image, trouble = split.attempt(0)
    fit(image, 32, 0.875)
    return "read" if trouble is None else "remark" if trouble.readable else "refused"


def class_folders(chance: random.Random, folder: Path) -> str:
    """Class folders of odd names with files of all kinds, planned and loaded."""
    for _ in range(chance.randrange(1, 6)):
        parts = [chance.choice(_WORDS) for _ in range(chance.choice([1, 1, 2, 3]))]
        place = folder.joinpath("data", *(part for part in parts if part != ".."))
        try:
            place.mkdir(parents=True, exist_ok=True)
            for number in range(chance.randrange(4)):
                ending, body = image_bytes(chance)
                (place / f"{chance.choice(_WORDS)[:20]}{number}{ending}").write_bytes(body)
        except OSError:  # a name that this file system refuses
            continue
    entry = parse_dataset(f"folder:{folder / 'data'}", load_catalog())
    data = load_dataset(entry)
    assert isinstance(data, ClassificationData)
    for part in (data.train, data.test):
        for index in range(len(part)):
            fit(part.pil(index), 16, 1.0)
    return "read"


def catalog_file(chance: random.Random, folder: Path) -> str:
    """A catalog file with lines changed, taken away or moved."""
    text = """scales:
  mine:
    description: of mine
    tasks:
      knn: {datasets: [digits], recipe: {k: 5, temperature: 0.1, image_size: 32}}
backbones:
  net: {family: net, source: "timm:test_vit", arguments: {pretrained: false}}
datasets:
  pets: {kind: classification, loader: "bob.datasets.folder:load", options: {path: pets}}
"""
    file = folder / "catalog.yaml"
    file.write_bytes(mutated(text.encode(), chance))
    load_catalog([file])
    return "read"


def coco_folder(chance: random.Random, folder: Path) -> str:
    """A COCO folder whose annotation file is damaged, planned and loaded."""
    from bob.datasets.detection import DetectionData

    name = chance.choice(_WORDS)
    for part in ("train", "val"):
        place = folder / "coco" / part
        place.mkdir(parents=True)
        Image.new("RGB", (32, 24), (90, 80, 70)).save(place / "1.png")
        content = {
            "images": [{"id": 1, "file_name": "1.png", "height": 24, "width": 32}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 9, 8], "area": 72,
                 "iscrowd": 0, "segmentation": [[2, 3, 11, 3, 11, 11, 2, 11]]},
            ],
            "categories": [{"id": 1, "name": name}],
        }  # fmt: skip
        (folder / "coco" / "annotations").mkdir(exist_ok=True)
        text = json.dumps(content).encode()
        body = mutated(text, chance) if chance.random() < 0.5 else text
        (folder / "coco" / "annotations" / f"instances_{part}.json").write_bytes(body)
    data = load_dataset(parse_dataset(f"coco:{folder / 'coco'}", load_catalog()))
    assert isinstance(data, DetectionData)
    for split in (data.train, data.test):
        for index in range(len(split)):
            split.sample(index)
    return "read"


def checkpoint(chance: random.Random, folder: Path) -> str:
    """A checkpoint in some wrapping, damaged or not, loaded into its module."""
    from bob.backbones import build_backbone
    from bob.catalog import parse_backbone
    from tests.user_factories import fresh

    prefix = chance.choice(["", "module.", "net.", "module._orig_mod."])
    state = {f"{prefix}{name}": value for name, value in fresh().state_dict().items()}
    wrapped = chance.choice([state, {"state_dict": state}, {"model": {"state_dict": state}}])
    stream = io.BytesIO()
    torch.save(wrapped, stream)
    file = folder / "weights.pth"
    body = stream.getvalue()
    file.write_bytes(mutated(body, chance) if chance.random() < 0.6 else body)
    entry = parse_backbone(f"tests.user_factories:fresh,checkpoint={file}", load_catalog())
    build_backbone(entry, image_size=32)
    return "read"


TRIALS: dict[str, Trial] = {
    "image": one_image,
    "class folders": class_folders,
    "catalog": catalog_file,
    "coco folder": coco_folder,
    "checkpoint": checkpoint,
}


def fuzz(kinds: Sequence[str], seeds: Iterator[int], until: Callable[[], bool]) -> Outcome:
    """Try inputs of some kinds in turn, one a seed, until told to stop.

    Args:
        kinds: Keys of ``TRIALS``.
        seeds: Of the inputs.
        until: Asked before each input.
    """
    outcome = Outcome()
    for turn, seed in enumerate(seeds):
        if until():
            break
        kind = kinds[turn % len(kinds)]
        folder = Path(tempfile.mkdtemp(prefix="bob-fuzz-"))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcome.tried[kind] += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                outcome.ended[kind, TRIALS[kind](random.Random(seed), folder)] += 1
        except BobError:
            outcome.ended[kind, "refused"] += 1
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            name = f"{kind}: {type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
            told = f"seed {seed}\n{''.join(traceback.format_exception(error))}"
            outcome.escapes.setdefault(name, told)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        if grown > MEMORY_MB:
            outcome.escapes.setdefault(f"{kind}: {grown:.0f} MB of memory", f"seed {seed}")
    return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0, help="of the first input")
    parser.add_argument("--only", action="append", choices=sorted(TRIALS), help="repeatable")
    args = parser.parse_args(arguments)
    end = time.monotonic() + 60 * args.minutes
    seeds = iter(range(args.seed, args.seed + 10**9))
    outcome = fuzz(args.only or list(TRIALS), seeds, lambda: time.monotonic() > end)
    for kind, count in outcome.tried.items():
        ends = {end: n for (what, end), n in sorted(outcome.ended.items()) if what == kind}
        print(f"{kind}: {count} inputs, " + ", ".join(f"{n} {end}" for end, n in ends.items()))
    for name, told in outcome.escapes.items():
        print(f"\nESCAPED {name}\n{told}")
    print(f"{len(outcome.escapes)} kinds of escape")
    return 1 if outcome.escapes else 0


if __name__ == "__main__":
    sys.exit(main())
