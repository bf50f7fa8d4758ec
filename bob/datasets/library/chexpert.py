"""CheXpert: findings in chest radiographs. Source of the protocol: hsouri/bob-classification."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import torch

from bob.catalog.data_root import data_root, located
from bob.datasets.base import MultilabelData
from bob.datasets.images import Files, ImageSplit
from bob.datasets.library.common import dataset_digest, refused
from bob.errors import some, unknown
from bob.regular_files import open_regular

LABELS = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
"""The five that CheXpert's own evaluation reads."""

POLICIES: Mapping[str, Mapping[str, float]] = {
    "paper": {label: float(label in ("Edema", "Atelectasis")) for label in LABELS},
    "u_ones": dict.fromkeys(LABELS, 1.0),
    "u_zeros": dict.fromkeys(LABELS, 0.0),
}
"""What an uncertain finding (-1) counts as."""

_VIEW = "Frontal/Lateral"
_FOLDER = "chexpert/CheXpert-v1.0-small|CheXpert-v1.0-small"


def load(*, policy: str = "paper") -> MultilabelData:
    """Load the frontal images of CheXpert-v1.0-small; findings not mentioned count as absent.

    Args:
        policy: What an uncertain finding counts as: present for Edema and Atelectasis alone
            (``paper``), present (``u_ones``) or absent (``u_zeros``).

    Raises:
        BobError: It is not there (``kind`` is ``unavailable``), the policy is unknown, or a CSV
            lacks a column or holds a value it should not.
    """
    if policy not in POLICIES:
        raise unknown("policy", policy, POLICIES)
    folder = located(_FOLDER)
    train, test = (_split(folder / f"{part}.csv", POLICIES[policy]) for part in ("train", "valid"))
    return MultilabelData(
        sha256=dataset_digest(LABELS, (train, test)), class_names=LABELS, train=train, test=test
    )


def _split(file: Path, policy: Mapping[str, float]) -> ImageSplit:
    place = file.parent.relative_to(data_root()).as_posix()
    names: list[str] = []
    targets: list[list[float]] = []
    try:
        with io.TextIOWrapper(open_regular(file), encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            absent = [
                column
                for column in ("Path", _VIEW, *LABELS)
                if column not in (reader.fieldnames or ())
            ]
            if absent:
                raise refused(
                    f"{file} has no column {some(map(repr, absent))}. Restore the file of "
                    "CheXpert-v1.0-small."
                )
            for row in reader:
                if not row["Path"]:
                    raise refused(f"{file}:{reader.line_num}: the row names no image.")
                if row[_VIEW] == "Frontal":
                    # paths start with the name the archive's folder was published under
                    names.append(f"{place}/{row['Path'].split('/', 1)[-1]}")
                    targets.append(
                        [_value(row[label], policy[label], file, reader) for label in LABELS]
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise refused(f"Cannot read {file}: {error}.") from None
    if not names:
        raise refused(f"{file} lists no frontal image.")
    return ImageSplit(source=Files(data_root(), names), targets=torch.tensor(targets))


def _value(text: str, uncertain: float, file: Path, reader: csv.DictReader[str]) -> float:
    known = {
        "": 0.0,
        "0": 0.0,
        "0.0": 0.0,
        "1": 1.0,
        "1.0": 1.0,
        "-1": uncertain,
        "-1.0": uncertain,
    }
    if text not in known:
        raise refused(f"{file}:{reader.line_num}: {text!r} is no finding: 1, 0, -1 or empty.")
    return known[text]
