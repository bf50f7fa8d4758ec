"""Reference files: raw values per seed, one JSON file per backbone and scale."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from bob.case import Case, Result
from bob.errors import BobError, first_line
from bob.hashing import file_name, own_file_name
from bob.json_data import parse_json
from bob.record import Record
from bob.references.bands import DIGITS
from bob.references.samples import Samples, samples_of
from bob.references.writing import alone_in, check_writable, replace_file
from bob.regular_files import read_regular

BUILTIN = Path(__file__).parent / "measured"
SCHEMA = 1


def _plain_seeds(by_seed: Any) -> Any:
    """Two keys of a JSON object that mean one seed would leave the last alone."""
    for key in by_seed if isinstance(by_seed, dict) else ():
        if isinstance(key, str) and (not key.isascii() or str(_whole(key)) != key):
            raise ValueError(f"{key!r} is no seed: write a whole number without leading zeros")
    return by_seed


def _whole(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Values = Annotated[dict[int, dict[str, Number]], BeforeValidator(_plain_seeds)]


class Anchor(Record):
    """The first accepted values under a protocol; updates keep it, so that drift adds up in view.

    Attributes:
        values: Judged metrics by seed.
    """

    recorded: str
    weights: str
    values: Values = Field(min_length=1)


class Reference(Record):
    """What one backbone scored in one setting.

    Attributes:
        protocol: Hash of the protocol it was measured under; see ``Case.protocol``.
        recipe: The protocol's recipe, so that a difference can be named.
        test_size: Images behind each value; 0 where not known.
        weights: Digest of the weights that were measured; empty where they differ by seed, or where
            one seed alone was measured of a backbone that is not known to have given weights.
        data: Digest of the data; empty where it was not recorded.
        values: Judged metrics by seed.
        samples: Outcomes per test image by seed, where a seed has them.
    """

    origin: str = "measured"
    protocol: str
    recipe: dict[str, Any]
    test_size: int = Field(ge=0)
    recorded: str
    weights: str = ""
    data: str = ""
    environment: dict[str, str] = Field(default_factory=dict)
    values: Values = Field(min_length=1)
    samples: Annotated[dict[int, Samples], BeforeValidator(_plain_seeds)] = Field(
        default_factory=dict
    )
    anchor: Anchor

    def metric(self, name: str) -> list[float]:
        """Values of a metric, by seed in ascending order; seeds that lack it are left out."""
        return _column(self.values, name)

    def anchored(self, name: str) -> list[float]:
        """The anchor's values of a metric."""
        return _column(self.anchor.values, name)


class ReferenceFile(Record):
    """One backbone at one scale; settings are keyed ``task/dataset``."""

    schema_version: int = Field(alias="schema", ge=SCHEMA, le=SCHEMA)
    backbone: str
    scale: str
    settings: dict[str, Reference]


def _column(values: Mapping[int, Mapping[str, float]], name: str) -> list[float]:
    return [values[seed][name] for seed in sorted(values) if name in values[seed]]


class ReferenceStore:
    """Reference files in a folder that updates go to, with the packaged ones behind it.

    Args:
        folder: Where ``--bands`` writes; ``<folder>/<scale>/<backbone>.json``. Entries there come
            before the packaged ones.
        builtin: The packaged references.
    """

    def __init__(self, folder: Path, builtin: Path = BUILTIN) -> None:
        self.folder = folder
        same = os.path.realpath(folder) == os.path.realpath(builtin)
        self._roots = [folder] if same else [folder, builtin]
        self._files: dict[Path, ReferenceFile | None] = {}
        self._alike: dict[str, dict[tuple[str, bool], list[Reference]]] = {}

    def find(self, case: Case) -> tuple[Reference, Path] | None:
        """The reference of a case and its file, whatever protocol it was measured under."""
        for root in self._roots:
            for path, file in self._of(root, case.scale, case.backbone.key):
                if case.setting in file.settings:
                    reference = file.settings[case.setting]
                    _check_units(case, reference, path)
                    return reference, path
        return None

    def twin(self, case: Case) -> Reference | None:
        """The reference of the case's twin under the same protocol, if there is one."""
        if not case.twin:
            return None
        for root in self._roots:
            for _, file in self._of(root, case.scale, case.twin):
                found = file.settings.get(case.setting)
                if found is not None:
                    return found if found.protocol == case.protocol else None
        return None

    def all(self, scale: str) -> Iterator[tuple[ReferenceFile, str, Reference]]:
        """Every reference of a scale that is in force, by file and setting."""
        seen: set[tuple[str, str]] = set()
        for root in self._roots:
            for path in _files_of(root, scale):
                file = self._read(path)
                for setting, reference in file.settings.items() if file else ():
                    if file and (file.backbone, setting) not in seen:
                        seen.add((file.backbone, setting))
                        yield file, setting, reference

    def alike(self, case: Case, like: Reference) -> Iterator[Reference]:
        """Every reference in the case's setting and scale that varies as ``like`` does.

        Where the backbone itself is initialised anew for each seed, scores vary for one more
        reason than where its weights are given; the two kinds are not mixed.
        """
        if case.scale not in self._alike:
            kinds = self._alike[case.scale] = {}
            for _, setting, reference in self.all(case.scale):
                kinds.setdefault((setting, bool(reference.weights)), []).append(reference)
        yield from self._alike[case.scale].get((case.setting, bool(like.weights)), ())

    def write(self, case: Case, results: Iterable[Result]) -> tuple[Reference | None, Reference]:
        """Make these results the case's reference; the file is replaced in one step.

        What another session has written to the file meanwhile is kept.

        Returns:
            The reference before and after.

        Raises:
            BobError: The file cannot be written.
        """
        path = self._path(self.folder, case.scale, case.backbone.key)
        with alone_in(path.parent):
            self._files.pop(path, None)
            self._alike.clear()
            self._make_room(path, case.backbone.key)
            found = self.find(case)
            old = found[0] if found else None
            new = _reference(case, list(results), old)
            kept = self._of(self.folder, case.scale, case.backbone.key)
            settings = {case.setting: new}
            for _, file in kept:
                settings = {**file.settings, **settings}
            data = ReferenceFile(
                schema=SCHEMA,
                backbone=case.backbone.key,
                scale=case.scale,
                settings=dict(sorted(settings.items())),
            )
            replace_file(path, data.model_dump_json(indent=1, by_alias=True) + "\n")
            self._files[path] = data
            for other, _ in kept:
                if other != path:
                    other.unlink(missing_ok=True)
                    self._files.pop(other, None)
            self._alike.clear()
        return old, new

    def check_writable(self, cases: Iterable[Case]) -> None:
        """Learn whether references of these cases can be written, before they are measured.

        Raises:
            BobError: A file or folder cannot be written.
        """
        check_writable({self._path(self.folder, case.scale, case.backbone.key) for case in cases})

    def unused(self, scale: str, cases: Iterable[Case]) -> list[str]:
        """Entries in the writable folder that none of ``cases`` uses, as ``file: setting``.

        Backbones named on the command line are not in the catalog; their files are left alone.
        Without a file no case is asked for.
        """
        paths = _files_of(self.folder, scale)
        if not paths:
            return []
        wanted = {(case.backbone.key, case.setting) for case in cases}
        settings = {setting for _, setting in wanted}
        rows = []
        for path in paths:
            file = self._read(path)
            if file is None:
                continue
            named = re.search(r"[:/,=@]", file.backbone) is not None
            for setting in file.settings:
                at_any_size = re.sub(r"[-/](\d+|own)px$", "", setting)  # of --image-size
                used = at_any_size in settings if named else (file.backbone, at_any_size) in wanted
                if not used:
                    rows.append(f"{path}: {setting}")
        return rows

    def check(self, scale: str) -> None:
        """Read every file of a scale, so that a malformed one is known before anything runs.

        Raises:
            BobError: A file is malformed, or it or a folder cannot be read.
        """
        for root in self._roots:
            for path in _files_of(root, scale):
                self._read(path)

    @property
    def missing(self) -> bool:
        """Whether there is no folder to update, so that the packaged references alone hold."""
        return not _is_there(self.folder)

    @staticmethod
    def _path(root: Path, scale: str, backbone: str) -> Path:
        return root / scale / f"{own_file_name(backbone)}.json"

    def _of(self, root: Path, scale: str, backbone: str) -> list[tuple[Path, ReferenceFile]]:
        """The files of a backbone, the one that is written first.

        The other one has the name that earlier versions gave, which several backbones may have.
        """
        paths = (self._path(root, scale, backbone), root / scale / f"{file_name(backbone)}.json")
        found = [(path, self._read(path)) for path in dict.fromkeys(paths)]
        return [(path, file) for path, file in found if file and file.backbone == backbone]

    def _make_room(self, path: Path, backbone: str) -> None:
        """Give another backbone's file that has this name from earlier its own name."""
        file = self._read(path)
        if file is None or file.backbone == backbone:
            return
        own = self._path(path.parent.parent, file.scale, file.backbone)
        later = self._read(own)
        if later is not None:
            settings = {**file.settings, **later.settings}
            file = later.model_copy(update={"settings": dict(sorted(settings.items()))})
        replace_file(own, file.model_dump_json(indent=1, by_alias=True) + "\n")
        path.unlink()
        self._files.update({path: None, own: file})

    def _read(self, path: Path) -> ReferenceFile | None:
        if path not in self._files:
            self._files[path] = _parse(path) if _is_there(path) else None
        return self._files[path]


def _is_there(path: Path) -> bool:
    """Whether something has this name, be it a link to nowhere.

    Raises:
        BobError: Nobody can tell.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise BobError(f"Cannot look for the references in {path} ({error.strerror}).") from None
    return True


def _files_of(root: Path, scale: str) -> list[Path]:
    """The reference files of a scale.

    Raises:
        BobError: One of the folders is there and cannot be read.
    """
    for folder in (root, root / scale):
        if not _is_there(folder):
            return []
        _check_folder(folder)
    return sorted((root / scale).glob("*.json"))


def _check_folder(folder: Path) -> None:
    try:
        with os.scandir(folder) as found:
            next(found, None)
    except OSError as error:
        raise BobError(
            f"Cannot read the references in {folder} ({error.strerror}). Put it right, or name "
            "another folder with --references=DIR."
        ) from None


def _parse(path: Path) -> ReferenceFile:
    remedy = "Restore it from version control, or delete it and run with --bands new."
    try:
        text = read_regular(path).decode("utf-8")
        file = ReferenceFile.model_validate(parse_json(text))
    except OSError as error:
        raise BobError(f"Cannot read reference file {path}: {error}. {remedy}") from None
    except UnicodeDecodeError as error:
        raise BobError(f"Reference file {path} is not text: {error}. {remedy}") from None
    except json.JSONDecodeError as error:
        raise BobError(f"{path}:{error.lineno}: not valid JSON: {error.msg}. {remedy}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise BobError(f"{path}: {key}: {first['msg']}. {remedy}") from None
    except ValueError as error:
        raise BobError(f"{path}: {first_line(error)}. {remedy}") from None
    if path.stem not in (own_file_name(file.backbone), file_name(file.backbone)):
        raise BobError(
            f"{path} is of backbone {file.backbone!r}, whose file is "
            f"{own_file_name(file.backbone)}.json. {remedy}"
        )
    if path.parent.name != file.scale:
        raise BobError(
            f"{path} is of scale {file.scale!r}, but lies in the folder of {path.parent.name!r}. "
            f"{remedy}"
        )
    return file


def _check_units(case: Case, reference: Reference, path: Path) -> None:
    for judged in case.judged:
        for value in (*reference.metric(judged.name), *reference.anchored(judged.name)):
            if not judged.holds(value):
                raise BobError(
                    f"{path}: {case.setting}: {judged.name} {value:g} is no value of its unit "
                    f"{judged.unit!r}. Restore it from version control, or delete it and run with "
                    "--bands new."
                )


def _reference(case: Case, results: list[Result], old: Reference | None) -> Reference:
    names = [judged.name for judged in case.judged]
    values = {
        result.case.seed: {name: round(result.metrics[name], DIGITS) for name in names}
        for result in results
    }
    weights = _given_weights(case, results)
    today = date.today().isoformat()
    keep = old is not None and old.protocol == case.protocol
    anchor = old.anchor if old and keep else Anchor(recorded=today, weights=weights, values=values)
    samples = [(result.case.seed, samples_of(result)) for result in results]
    return Reference(
        protocol=case.protocol,
        recipe=case.recipe.model_dump(mode="json"),
        test_size=case.dataset.test_size or results[0].test_size,
        recorded=today,
        weights=weights,
        data=results[0].data_digest,
        environment=dict(results[0].environment),
        values=values,
        samples={seed: found for seed, found in samples if found is not None},
        anchor=anchor,
    )


def _given_weights(case: Case, results: list[Result]) -> str:
    """Digest of weights that every seed has; empty where they differ by seed, or may.

    One seed has one digest whatever the weights are, so that of a backbone that is not known to
    have given weights it says nothing.
    """
    digests = {result.weights_digest for result in results}
    seeds = {result.case.seed for result in results}
    known = case.backbone.fixed or len(seeds) > 1
    return digests.pop() if known and len(digests) == 1 else ""
