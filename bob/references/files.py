"""The folders of reference files: one JSON file per backbone and scale."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from bob.case import Case, Result
from bob.errors import BobError
from bob.hashing import file_name, own_file_name
from bob.references.forms import (
    SCHEMA,
    Reference,
    ReferenceFile,
    make_reference,
    read_reference_file,
)
from bob.references.writing import alone_in, check_writable, replace_file

BUILTIN = Path(__file__).parent / "measured"


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
            new = make_reference(case, list(results), old)
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
            self._files[path] = read_reference_file(path) if _is_there(path) else None
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


def _check_units(case: Case, reference: Reference, path: Path) -> None:
    for judged in case.judged:
        for value in (*reference.metric(judged.name), *reference.anchored(judged.name)):
            if not judged.holds(value):
                raise BobError(
                    f"{path}: {case.setting}: {judged.name} {value:g} is no value of its unit "
                    f"{judged.unit!r}. Restore it from version control, or delete it and run with "
                    "--bands new."
                )
