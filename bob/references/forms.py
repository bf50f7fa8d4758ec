"""What a reference file says: raw values per seed of one backbone at one scale."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
from bob.regular_files import read_regular

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


def read_reference_file(path: Path) -> ReferenceFile:
    """The file at a path, which is there.

    Raises:
        BobError: It cannot be read, is none, or is of another backbone or scale than its place.
    """
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


def make_reference(case: Case, results: list[Result], old: Reference | None) -> Reference:
    """The reference that results of several seeds give.

    Args:
        case: What was measured.
        results: One for each seed, at least one.
        old: What it replaces; its anchor is kept where the protocol is the same.
    """
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
