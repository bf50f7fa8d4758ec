"""Croissant 1.0 metadata of an export."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from bob.exchange.columns import OUTCOMES, SCORES, WORDS, schema_of
from bob.exchange.contents import CITATION, Asker, Contents
from bob.hashing import digest_of_file

CROISSANT_FILE = "croissant.json"

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "conformsTo": "dct:conformsTo",
    **{
        name: f"cr:{name}"
        for name in (
            "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty",
            "fileObject", "fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key",
            "md5", "parentField", "path", "recordSet", "references", "regex", "repeated", "replace",
            "samplingRate", "separator", "source", "subField", "transform",
        )
    },
}  # fmt: skip
"""The context that the specification prescribes."""

_KINDS = {
    pa.string(): "sc:Text", pa.int64(): "sc:Integer", pa.int32(): "sc:Integer",
    pa.float64(): "sc:Float", pa.bool_(): "sc:Boolean",
}  # fmt: skip


def croissant(folder: Path, told: Contents, asker: Asker, *, files: Sequence[str]) -> str:
    """JSON-LD of the tables that lie in a folder; what nobody said is left out.

    Args:
        folder: Where the tables lie.
        told: What they are about.
        asker: Licence, creator and address of the results.
        files: Names of the tables.
    """
    tables = [name for name in (SCORES, OUTCOMES) if f"{name}.parquet" in files]
    document: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": f"battle-of-backbones-{told.scale}",
        "description": f"Scores of {len(told.subjects)} vision backbones in the settings of scale "
        f"{told.scale}, measured by Battle of the Backbones as a test suite.",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "citeAs": CITATION,
    }
    if asker.licence:
        document["license"] = asker.licence
    if asker.url:
        document["url"] = asker.url
    if asker.creator:
        document["creator"] = {"@type": "sc:Organization", "name": asker.creator}
    document["distribution"] = [_file(folder / f"{name}.parquet") for name in tables]
    document["recordSet"] = [_records(name) for name in tables]
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _file(path: Path) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": path.name,
        "name": path.name,
        "contentUrl": path.name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": digest_of_file(path),
    }


def _records(table: str) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": table,
        "name": table,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{table}/{field.name}",
                "name": field.name,
                "description": WORDS[table][field.name],
                "dataType": _KINDS[field.type],
                "source": {
                    "fileObject": {"@id": f"{table}.parquet"},
                    "extract": {"column": field.name},
                },
            }
            for field in schema_of(table)
        ],
    }
