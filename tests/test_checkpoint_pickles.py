"""Objects and code within a checkpoint, and damaged bytes: a checkpoint is input, not code."""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import datetime
import enum
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from bob.backbones.checkpoint import load_checkpoint
from bob.backbones.micro import resnet_micro
from bob.errors import BobError
from tests.checkpoint_parts import OURS, entry_of, equal, load, refusal, written


class Mode(enum.Enum):
    TRAIN = 1


class Settings(dict):  # type: ignore[type-arg]
    """As yacs and EasyDict are."""


class Names(list):  # type: ignore[type-arg]
    pass


@dataclasses.dataclass
class Recipe:
    lr: float = 0.1

    class Inner:
        pass


OBJECTS: dict[str, Callable[[], Any]] = {
    "Namespace": lambda: argparse.Namespace(lr=0.1, nested=argparse.Namespace(a=1)),
    "NumPy": lambda: [np.float64(0.5), np.arange(3.0), np.random.get_state()],
    "paths": lambda: [Path("a/b"), {Path("c"): Path("d")}],
    "dataclass": Recipe,
    "class": lambda: Recipe,
    "class within a class": Recipe.Inner,
    "enum": lambda: {Mode.TRAIN: Mode.TRAIN},
    "datetime": lambda: [datetime.datetime.now(datetime.UTC), datetime.timedelta(1)],
    "dict subclass": lambda: Settings(a=1, b=Settings(c=[2])),
    "list subclass": lambda: Names(["a", "b"]),
    "defaultdict": lambda: collections.defaultdict(dict, {"state": collections.defaultdict(list)}),
    "collections": lambda: [collections.Counter("aab"), collections.OrderedDict(a=1),
                            collections.deque([1]), frozenset({1}), {2}, 1j, b"bytes", 10**30],
    "generator": lambda: torch.Generator().get_state(),
    "optimizer": lambda: torch.optim.AdamW(resnet_micro().parameters()).state_dict(),
    "scheduler": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(
        torch.optim.SGD(nn.Linear(1, 1).parameters()), 3).state_dict(),
    "module": lambda: nn.Linear(2, 2),
    "torch version": lambda: torch.__version__,
    "exception": lambda: ValueError("x"),
}  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", OBJECTS)
def test_objects_beside_the_tensors(tmp_path: Path, name: str, legacy: bool) -> None:
    saved = {"extra": OBJECTS[name](), "state_dict": OURS, "more": [OBJECTS[name]()]}
    path = written(tmp_path, saved, _use_new_zipfile_serialization=not legacy)
    if name == "module" and legacy:  # which asks for the source of its classes
        assert "holds objects (torch.nn.modules.linear.Linear)" in refusal(path)
    else:
        assert equal(load(path)[0], OURS)


def test_omegaconf_beside_the_tensors(tmp_path: Path) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create({"model": {"depth": [1, 2]}})
    loaded, remarks = load(written(tmp_path, {"config": config, "state_dict": OURS}))
    assert equal(loaded, OURS)
    assert "omegaconf.base.ContainerMetadata" in remarks[-1]


def test_weights_within_a_mapping_of_another_class(tmp_path: Path) -> None:
    assert equal(load(written(tmp_path, Settings(state=Settings(OURS))))[0], OURS)


@pytest.mark.parametrize("wrap", [lambda module: module, lambda module: {"model": module}])
def test_a_module_pickled_whole_is_read_as_data(
    tmp_path: Path, wrap: Callable[[nn.Module], Any]
) -> None:
    module = resnet_micro()
    module.load_state_dict(OURS)
    loaded, remarks = load(written(tmp_path, wrap(module)))
    assert equal(loaded, OURS)
    assert "left unread: " in remarks[-1]


class Payload:
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("function", ["os.system", "eval", "exec", "touch", "load"])
def test_code_never_runs(tmp_path: Path, function: str, legacy: bool) -> None:
    target = tmp_path / "ran"
    inner = io.BytesIO()
    torch.save(Payload(os.system, f"touch {target}"), inner)
    payload = {
        "os.system": Payload(os.system, f"touch {target}"),
        "eval": Payload(eval, f"open({str(target)!r}, 'w')"),
        "exec": Payload(exec, f"open({str(target)!r}, 'w')"),
        "touch": Payload(Path.touch, target),
        "load": Payload(torch.storage._load_from_bytes, inner.getvalue()),
    }[function]
    path = written(
        tmp_path, {"extra": payload, "model": OURS}, _use_new_zipfile_serialization=not legacy
    )
    if function == "touch":  # a method of a class like any other: a stand-in takes its place
        assert equal(load(path)[0], OURS)
    else:
        message = refusal(path)
        assert "would run code" in message
        assert "a checkpoint is input, not code" in message
        assert "python -c" not in message
    assert not target.exists()


def test_what_cannot_be_set_aside_names_class_and_command(tmp_path: Path) -> None:
    path = written(tmp_path, {"args": argparse.Namespace(), "model": OURS}, pickle_protocol=4)
    message = refusal(path)
    assert "holds objects (argparse.Namespace)" in message
    command = message.split("where it was made: ")[1][:-1]
    assert os.system(f"cd {tmp_path} && {command}") == 0
    assert equal(load(tmp_path / "saved.safetensors")[0], OURS)


def test_a_plain_pickle_names_the_command(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(pickle.dumps({key: value.numpy() for key, value in OURS.items()}))
    message = refusal(path)
    assert "is a pickle that torch.save did not write" in message
    assert os.system(f"cd {tmp_path} && {message.split('convert it: ')[1][:-1]}") == 0
    assert equal(load(tmp_path / "w.safetensors")[0], OURS)


@cache
def small_files() -> tuple[bytes, ...]:
    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}
    saved = {"model": state, "args": argparse.Namespace(lr=0.1), "best": np.float64(1.0)}
    files = []
    for legacy in (False, True):
        stream = io.BytesIO()
        torch.save(saved, stream, _use_new_zipfile_serialization=not legacy)
        files.append(stream.getvalue())
    with zipfile.ZipFile(io.BytesIO(files[0])) as archive:  # without checksums in the way
        pickled = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        files.append(archive.read(pickled))
    from safetensors.torch import save

    return (*files, save(state))


def rezipped(pickled: bytes) -> bytes:
    """The first file with another pickle in it, so that its checksum holds."""
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(small_files()[0])) as old,
        zipfile.ZipFile(stream, "w") as new,
    ):
        for name in old.namelist():
            new.writestr(name, pickled if name.endswith("data.pkl") else old.read(name))
    return stream.getvalue()


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    which=st.integers(0, 3),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8),
    cut=st.none() | st.floats(0, 1),
)
def test_damaged_bytes_never_escape(
    tmp_path: Path, which: int, changes: list[tuple[float, int]], cut: float | None
) -> None:
    """Whatever bytes are changed or missing, it loads or one error of ours says why not."""
    data = bytearray(small_files()[which])
    for place, value in changes:
        data[min(int(place * len(data)), len(data) - 1)] = value
    if cut is not None:
        data = data[: int(cut * len(data))]
    path = tmp_path / "w.pth"
    path.write_bytes(rezipped(bytes(data)) if which == 2 else data)
    module = nn.ModuleDict({"a": nn.Linear(3, 2)})
    with contextlib.suppress(BobError):
        load_checkpoint(module, entry_of(path))
