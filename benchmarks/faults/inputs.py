"""Files of others that are made to hurt: each is one clear error, soon and in little memory."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.faults.project import Project
from benchmarks.faults.tally import Tally

_LONGEST_SECONDS = 60.0
_MOST_BYTES = 4 * 2**30
_ALIASES = 9


def inputs(folder: Path, tries: int, draw: random.Random) -> Tally:
    """Each file once; a session or command that reads it has to end with an error of its own."""
    del tries, draw
    tally = Tally("files of others")
    for name, make in {**_CATALOGS, **_PICKLES, **_DATASETS}.items():
        place = folder / name.replace(" ", "-")
        project = Project(place)
        words = make(place)
        began = time.monotonic()
        with subprocess.Popen(
            [sys.executable, *words], cwd=project.folder, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=_limit_memory,  # nothing else runs in this process
        ) as process:  # fmt: skip
            try:
                output, _ = process.communicate(timeout=_LONGEST_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                output, _ = process.communicate()
                tally.hung += 1
                tally.notes.append(f"{name}: not done in {_LONGEST_SECONDS:.0f} s")
        tally.tries += 1
        took = time.monotonic() - began
        if (place / "it-ran").exists():
            tally.bad(f"{name}: its command was run")
        if process.returncode < 0 or "Traceback" in output or "MemoryError" in output:
            tally.bad(f"{name}: status {process.returncode} in {took:.0f} s: {output[-300:]}")
        elif process.returncode == 0 and name not in _HARMLESS:
            tally.bad(f"{name}: taken without a word")
    return tally


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (_MOST_BYTES, _MOST_BYTES))


def _catalog(text: str) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / "others.yaml").write_text(text)
        return ["-m", "bob.cli", "list", "backbones", "--catalog=others.yaml"]

    return make


def _laughs() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, _ALIASES):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    return "\n".join([*lines, f"backbones: {{x: {{family: *a{_ALIASES - 1}}}}}"])


_CATALOGS = {
    "aliases": _catalog(_laughs()),
    "an alias of itself": _catalog("backbones: &all {x: *all}"),
    "a list as key": _catalog("backbones: {[1, 2]: {family: x}}"),
    "a mapping as key": _catalog("backbones: {{a: b}: {family: x}}"),
    "an impossible date": _catalog("backbones: {x: {family: 2026-13-45}}"),
    "a number of 5000 digits": _catalog(f"backbones: {{x: {{family: {'9' * 5000}}}}}"),
    "deep lists": _catalog("backbones: " + "[" * 5000 + "]" * 5000),
    "an object": _catalog("backbones: !!python/object/apply:os.system ['true']"),
    "a zero byte": _catalog("backbones: {x: \0}"),
}


_READ = """
import sys
from pathlib import Path
from bob.datasets.retrieval_sets.revisited import read_ground_truth
from bob.errors import BobError
try:
    read_ground_truth(Path("gnd.pkl"))
except BobError as error:
    sys.exit(f"Error: {error}")
"""


class _Runs:
    """What a pickle calls when it is read."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch it-ran",)


def _pickle(content: bytes) -> Callable[[Path], list[str]]:
    """A ground truth of revisitop's, which is a pickle."""

    def make(folder: Path) -> list[str]:
        (folder / "gnd.pkl").write_bytes(content)
        return ["-c", _READ]

    return make


def _checkpoint(value: object) -> Callable[[Path], list[str]]:
    """A checkpoint that is a pickle."""

    def make(folder: Path) -> list[str]:
        (folder / "weights.pth").write_bytes(pickle.dumps(value))
        return _session("digits", "knn", backbone="weights.pth,model=resnet18")

    return make


_OBJECTS = np.array(["a", None], dtype=object)
_PICKLES: dict[str, Callable[[Path], list[str]]] = {
    "a pickle that runs a command": _pickle(pickle.dumps(_Runs())),
    "a pickle with an array of objects": _pickle(pickle.dumps({"gnd": _OBJECTS})),
    "a pickle that calls ndarray": _pickle(b"cnumpy\nndarray\n(I1000000000000\ntR."),
    "a pickle that is cut off": _pickle(pickle.dumps({"gnd": [1, 2, 3]})[:-4]),
    "a checkpoint that runs a command": _checkpoint({"state_dict": _Runs()}),
    "a checkpoint with an array of objects": _checkpoint({"conv1.weight": _OBJECTS}),
}


def _png(width: int, height: int) -> bytes:
    """A grey PNG of any size, of a few bytes where it is large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    packer, packed = zlib.compressobj(9), io.BytesIO()
    row = bytes(1 + width)
    for _ in range(height):
        packed.write(packer.compress(row))
    packed.write(packer.flush())
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", packed.getvalue())
        + chunk(b"IEND", b"")
    )


_GOOD = _png(32, 32)


def _of_size(width: int, height: int) -> Callable[[Path], list[str]]:
    """Class folders with one image of this size; the largest takes seconds to make."""
    return lambda folder: _folder(_replaced(_png(width, height)))(folder)


def _folder(change: Callable[[Path], None]) -> Callable[[Path], list[str]]:
    """Class folders with one file that is changed."""

    def make(folder: Path) -> list[str]:
        for split in ("train", "val"):
            for name in ("cats", "dogs"):
                place = folder / "data" / split / name
                place.mkdir(parents=True)
                for number in range(12):
                    (place / f"{number}.png").write_bytes(_GOOD)
        change(folder / "data" / "val" / "cats" / "0.png")
        return _session("folder:data", "finetune")

    return make


def _coco(change: Callable[[dict[str, list[dict[str, object]]]], None]) -> Callable[..., list[str]]:
    """A COCO folder whose annotations are changed."""

    def make(folder: Path) -> list[str]:
        for split in ("train2017", "val2017"):
            (folder / "data" / split).mkdir(parents=True)
            (folder / "data" / "annotations").mkdir(exist_ok=True)
            images, annotations = [], []
            for number in range(4):
                (folder / "data" / split / f"{number}.png").write_bytes(_png(64, 64))
                image = {"id": number, "file_name": f"{number}.png", "width": 64, "height": 64}
                images.append(image)
                box = [8, 8, 24, 24]
                outline = [[8, 8, 32, 8, 32, 32, 8, 32]]
                annotations.append(
                    {"id": number + 1, "image_id": number, "category_id": 1, "bbox": box,
                     "segmentation": outline, "area": 576, "iscrowd": 0}
                )  # fmt: skip
            record: dict[str, list[dict[str, object]]] = {
                "images": images,
                "annotations": annotations,
                "categories": [{"id": 1, "name": "thing"}],
            }
            change(record)
            path = folder / "data" / "annotations" / f"instances_{split}.json"
            path.write_text(json.dumps(record))
        return _session("coco:data", "detection")

    return make


def _session(dataset: str, task: str, backbone: str = "resnet_micro_random") -> list[str]:
    return [
        "-m", "pytest", "--pyargs", "suites", "-p", "no:cacheprovider", "-k", f"test_{task}[",
        "-c", os.devnull, "--rootdir=.", f"--backbone={backbone}", f"--dataset={dataset}",
        "--seeds=1", "--workers=0",
    ]  # fmt: skip


def _replaced(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


def _linked(target: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return change


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _named(name: str) -> Callable[[dict[str, list[dict[str, object]]]], None]:
    return lambda record: record["images"][0].update(file_name=name)


def _sized(side: int) -> Callable[[dict[str, list[dict[str, object]]]], None]:
    return lambda record: record["images"][0].update(width=side, height=side)


_DATASETS: dict[str, Callable[[Path], list[str]]] = {
    "an image of 20000 x 1": _of_size(20_000, 1),
    "an image of 1 x 20000": _of_size(1, 20_000),
    "an image of 30000 x 30000": _of_size(30_000, 30_000),
    "an image that is a device": _folder(_linked("/dev/zero")),
    "an image that is a pipe": _folder(_pipe),
    "a COCO image that is a device": _coco(_named("/dev/zero")),
    "a COCO image that is any file": _coco(_named("/etc/passwd")),
    "a COCO image above its folder": _coco(_named("../../../../../../etc/passwd")),
    "a COCO image of 200000 x 200000 by its JSON": _coco(_sized(200_000)),
}
_HARMLESS = {
    "an image of 20000 x 1", "an image of 1 x 20000", "an image of 30000 x 30000",
    "an image that is a device", "an image that is a pipe",
}  # fmt: skip
"""One unreadable image of many costs its own score, with a remark."""
