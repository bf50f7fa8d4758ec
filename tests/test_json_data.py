"""JSON of others: references, annotations, the ledger, manifests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bob.errors import BobError
from bob.json_data import parse_json
from bob.ledger.reading import Unreadable, read_record
from bob.references.files import ReferenceStore

DEEP = "[" * 100_000
LONG = '{"schema": ' + "1" * 5000 + "}"
TWICE = '{"schema": 1, "settings": {"a": {}, "a": {}}}'


@pytest.mark.parametrize(
    ("text", "words"),
    [(DEEP, "nested too deeply"), (LONG, "limit"), (TWICE, "the key 'a' is given twice")],
)
def test_what_python_s_reader_dies_of_or_takes_in_silence(
    text: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        parse_json(text)
    with pytest.raises(ValueError, match=words):
        parse_json(text.encode("utf-16"))
    file = tmp_path / "smoke" / "net.json"
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(BobError, match=words) as caught:
        ReferenceStore(tmp_path).check("smoke")
    assert str(file) in str(caught.value)
    assert "--bands new" in str(caught.value)
    with pytest.raises(Unreadable):
        read_record(file)


def test_sound_json_is_read_as_python_reads_it() -> None:
    value = {"a": [1, 2.5, None, True, "ü"], "b": {"a": {}}}
    assert parse_json(json.dumps(value)) == value
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32-le"):
        assert parse_json(json.dumps(value, ensure_ascii=False).encode(encoding)) == value
