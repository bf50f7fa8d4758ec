"""A checkpoint file → nested plain data with its tensors. Nothing in a file is ever run."""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import torch

from bob.backbones.checkpoint_kind import UnreadableError, checked_head
from bob.backbones.stand_in import StandIn, stand_in_class
from bob.errors import first_line, some

_LEGACY = 0x1950A86A20F9469CFC6C
"""The number that every file of torch.save before version 1.6 begins with."""

_RUNS_CODE = frozenset({
    "builtins.__import__", "builtins.breakpoint", "builtins.compile", "builtins.eval",
    "builtins.exec", "builtins.open", "ctypes", "importlib", "nt", "os", "pickle", "posix", "pty",
    "runpy", "shutil", "socket", "subprocess", "sys", "torch.storage._load_from_bytes",
    "webbrowser",
})  # fmt: skip
"""What no checkpoint needs. A stand-in would be as harmless; naming it warns of the file."""

_PLAIN = frozenset({
    "_codecs.encode", "builtins.bytearray", "builtins.complex", "builtins.set",
    "collections.Counter", "collections.OrderedDict", "torch.nn.parameter.Parameter",
    "torch.serialization._get_layout",
})  # fmt: skip
_TENSORS = re.compile(r"torch\.\w+|torch\..*Storage|torch\._(utils|tensor)\._rebuild_\w+")
"""With ``_PLAIN``: what tensors and containers are pickled as, which torch's unpickler makes."""

_MOST_UNPACKED = 50
"""Times its own size that an archive may hold; weights that are zipped once more hold twice."""

_ARRAYS = re.compile(r"numpy\.(ndarray|dtype|_?core\.multiarray\._reconstruct)")
"""What arrays of NumPy are pickled as: their stand-ins become tensors."""


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        tree: Nested dicts with tensors; a ``StandIn`` where the file holds an object.
        set_aside: Names of the classes and functions that stand-ins took the place of.
    """

    tree: Any
    set_aside: tuple[str, ...] = ()


def read_checkpoint(path: Path) -> Contents:
    """Read a file that ``safetensors`` or ``torch.save`` wrote, whatever its name ends in.

    torch's restricted unpickler reads it. Whatever it does not know is replaced by a
    ``StandIn``, so that no name in the file is ever imported.

    Raises:
        UnreadableError: It is another kind of file, damaged, or not to be read without code.
    """
    try:
        head = checked_head(path)
        if head[8:9] == b"{":
            return _read_safetensors(path)
        return _read_pickled(path, zipped=head.startswith(b"PK\x03\x04"))
    except UnreadableError:
        raise
    except Exception as error:
        raise UnreadableError(
            f"cannot read {path}: {type(error).__name__}: {first_line(error)}. The file is "
            "damaged or was not written by torch.save or safetensors"
        ) from error


def _read_safetensors(path: Path) -> Contents:
    from safetensors.torch import load_file

    return Contents(dict(load_file(path)))


def _read_pickled(path: Path, *, zipped: bool) -> Contents:
    if zipped:
        names = _names_in_zip(path)
    else:
        with path.open("rb") as stream:
            names = _names_in_legacy(path, stream)
    forbidden = [name for name in names if _runs_code(name)]
    if forbidden:
        raise UnreadableError(
            f"{path} names {some(forbidden)}, which would run code where it is unpickled. It is "
            "not loaded, because a checkpoint is input, not code. Do not load it anywhere unless "
            "you trust whoever made it"
        )
    objects = {name for name in names if name not in _PLAIN and not _TENSORS.fullmatch(name)}
    set_aside = tuple(sorted(objects, key=lambda name: (name.startswith("builtins."), name)))
    stand_ins: list[Any] = [(stand_in_class, name) for name in ("builtins.getattr",)]
    stand_ins += [(StandIn, name) for name in set_aside if name != "builtins.getattr"]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
            warnings.simplefilter("ignore")  # of the pickle's protocol
            tree = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnreadableError(_needs_code(path, set_aside, error)) from error
    if "numpy.ndarray" in set_aside:
        set_aside = tuple(name for name in set_aside if not _ARRAYS.fullmatch(name))
    return Contents(tree, set_aside)


def _runs_code(name: str) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:end]) in _RUNS_CODE for end in range(1, len(parts) + 1))


def _names_in_zip(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            if any(member.endswith("/constants.pkl") for member in members):
                raise UnreadableError(
                    f"{path} is a TorchScript program, and a checkpoint is input, not code. If you "
                    f"trust it, keep its weights alone: {_line(path, 'torch.jit.load({file})')}"
                )
            pickled = [member for member in members if member.endswith("/data.pkl")]
            if len(pickled) != 1:
                raise UnreadableError(
                    f"{path} is a zip archive of {some(members)}, not one that torch.save wrote"
                )
            _check_unpacked(path, archive)
            return list(_names(io.BytesIO(archive.read(pickled[0]))))
    except zipfile.BadZipFile as error:
        size = path.stat().st_size
        raise UnreadableError(
            f"cannot read {path}: a file of torch.save that is cut short at {size:,} bytes or "
            f"damaged ({first_line(error)}). Copy or download it again"
        ) from error


def _check_unpacked(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse an archive that would fill the memory; torch.save does not compress."""
    unpacked = sum(member.file_size for member in archive.infolist())
    size = path.stat().st_size
    if unpacked > _MOST_UNPACKED * size + 2**20:
        raise UnreadableError(
            f"{path} of {size:,} bytes would unpack to {unpacked:,}, which torch.save does not "
            "write. Get it from whoever made it, or unpack it yourself if you trust it"
        )


def _names_in_legacy(path: Path, stream: BinaryIO) -> list[str]:
    """Of the four pickles that such a file begins with: number, version, system, data."""
    start = [argument for _, argument, _ in pickletools.genops(stream)]
    if _LEGACY in start:
        return list(chain.from_iterable(_names(stream) for _ in range(3)))
    stream.seek(0)
    names = list(_names(stream))
    forbidden = f", and names {some(names)}" if names else ""
    load = "pickle.load(open({file}, 'rb'))"
    raise UnreadableError(
        f"{path} is a pickle that torch.save did not write{forbidden}. It is not loaded, because "
        f"a checkpoint is input, not code. If you trust it, convert it: {_line(path, load)}"
    )


def _names(stream: BinaryIO) -> Iterator[str]:
    """Names of what one pickle would import, by reading its instructions and running none."""
    words: list[str] = []
    memo: dict[int, str | None] = {}
    latest: str | None = None
    for opcode, argument, _ in pickletools.genops(stream):
        kind = opcode.name
        if kind in ("GLOBAL", "INST"):
            module, _, name = str(argument).partition(" ")
            module = IMPORT_MAPPING.get(module, module)
            module, name = NAME_MAPPING.get((str(argument).split(" ")[0], name), (module, name))
            yield f"{module}.{name}"
        elif kind == "STACK_GLOBAL":
            yield ".".join(words[-2:])
        elif kind in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
            memo[len(memo) if argument is None else argument] = latest
            continue
        latest = memo.get(int(argument or 0)) if kind in ("BINGET", "LONG_BINGET") else argument
        if isinstance(latest, str) and kind != "GLOBAL":
            words.append(latest)
        else:
            latest = None


def _needs_code(path: Path, names: tuple[str, ...], error: Exception) -> str:
    objects = f"objects ({some(names)})" if names else "more than tensors"
    reason = first_line(Exception(str(error).strip().rsplit("error: ", 1)[-1]))
    return (
        f"{path} holds {objects} that cannot be set aside ({reason}) and is not loaded, because a "
        "checkpoint is input, not code. If you trust it, convert it where it was made: "
        + _line(path, "torch.load({file}, map_location='cpu', weights_only=False)")
    )


def _line(path: Path, load: str) -> str:
    """The command that turns a trusted file into safetensors."""
    loaded = load.format(file=repr(path.name))
    return (
        f'python -c "import pickle, torch; from safetensors.torch import save_file; s = {loaded}; '
        "s = s.state_dict() if hasattr(s, 'state_dict') else s.get('state_dict', s.get('model', s))"
        "; save_file({k: torch.as_tensor(v).clone().contiguous() for k, v in s.items() "
        f"if hasattr(v, 'shape')}}, '{path.stem}.safetensors')\""
    )
