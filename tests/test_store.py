from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bob.case import Case
from bob.catalog import Catalog
from bob.errors import BobError
from bob.hashing import own_file_name
from bob.plan import Plan, Selection
from bob.protocols.detection import ENGINES
from bob.references.files import BUILTIN, ReferenceStore
from tests.conftest import MakeResult


def write(store: ReferenceStore, case: Case, make: MakeResult, base: float) -> Path:
    store.write(case, [make(case.with_seed(1000 + i), base + i / 100) for i in range(3)])
    return store.folder / case.scale / f"{case.backbone.key}.json"


def test_raw_values_survive_on_disk(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult
) -> None:
    path = write(ReferenceStore(tmp_path), tiny_case, make_result, 0.9)
    stored = ReferenceStore(tmp_path).find(tiny_case)
    assert stored is not None
    assert stored[1] == path
    assert stored[0].metric("top1") == [0.9, 0.91, 0.92]
    assert stored[0].protocol == tiny_case.protocol
    assert not list(path.parent.glob("*.tmp"))


def test_the_first_accepted_values_stay_as_anchor(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult
) -> None:
    store = ReferenceStore(tmp_path)
    write(store, tiny_case, make_result, 0.9)
    write(store, tiny_case, make_result, 0.8)
    stored = ReferenceStore(tmp_path).find(tiny_case)
    assert stored is not None
    assert stored[0].metric("top1") == [0.8, 0.81, 0.82]
    assert stored[0].anchored("top1") == [0.9, 0.91, 0.92]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text[: len(text) // 2], ":"),
        (lambda text: text.replace('"protocol"', '"protocoll"', 1), "protocol: Field required"),
        (lambda text: text.replace('"schema": 1', '"schema": 9', 1), "schema: "),
        (lambda text: text.replace("0.9,", '"high",', 1), "values.1000.top1"),
        (lambda text: text.replace("0.9,", "NaN,", 1), "values.1000.top1"),
    ],
)
def test_malformed_file_names_place_and_remedy(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult, damage: object, words: str
) -> None:
    path = write(ReferenceStore(tmp_path), tiny_case, make_result, 0.9)
    path.write_text(damage(path.read_text()))  # type: ignore[operator]
    with pytest.raises(BobError) as caught:
        ReferenceStore(tmp_path).check(tiny_case.scale)
    message = str(caught.value)
    assert str(path) in message
    assert words in message
    assert "--bands new" in message


def test_a_repository_s_own_references_come_first(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult
) -> None:
    write(ReferenceStore(tmp_path / "packaged"), tiny_case, make_result, 0.5)
    store = ReferenceStore(tmp_path / "own", builtin=tmp_path / "packaged")
    stored = store.find(tiny_case)
    assert stored is not None
    assert stored[0].metric("top1")[0] == 0.5
    write(store, tiny_case, make_result, 0.9)
    stored = store.find(tiny_case)
    assert stored is not None
    assert stored[0].metric("top1")[0] == 0.9
    assert len(list(store.alike(tiny_case, stored[0]))) == 1


def test_spread_is_pooled_over_like_references(
    tmp_path: Path, catalog: Catalog, make_result: MakeResult
) -> None:
    coarse, fine = Plan(catalog, Selection(scale="tiny")).cases("finetune")
    store = ReferenceStore(tmp_path, builtin=tmp_path / "none")
    write(store, coarse, make_result, 0.5)
    write(store, fine, make_result, 0.9)
    pixels = Plan(catalog, Selection(scale="tiny", backbones=("vit_micro_random",)))
    (random,) = pixels.cases("finetune")
    store.write(
        random,
        [make_result(random.with_seed(i), 0.3 + i / 10, weights=str(i)) for i in range(3)],
    )
    stored = store.find(fine)
    assert stored is not None
    assert sorted(other.metric("top1")[0] for other in store.alike(fine, stored[0])) == [0.5, 0.9]
    stored = store.find(random)
    assert stored is not None
    assert stored[0].weights == ""
    assert [other.metric("top1")[0] for other in store.alike(random, stored[0])] == [0.3]


def test_two_sessions_keep_each_others_entries(
    tmp_path: Path, catalog: Catalog, make_result: MakeResult
) -> None:
    plan = Plan(catalog, Selection(scale="smoke", backbones=("swin_micro_glyphs",)))
    cases = [plan.cases("finetune")[0], plan.cases("linear_probe_paper")[0]]
    sessions = [ReferenceStore(tmp_path) for _ in cases]
    for store in sessions:
        store.check("smoke")
    for store, case in zip(sessions, cases, strict=True):
        store.write(case, [make_result(case, 0.9)])
    late = ReferenceStore(tmp_path, builtin=tmp_path / "none")
    assert all(late.find(case) is not None for case in cases)


def test_unused_entries_are_named(tmp_path: Path, tiny_case: Case, make_result: MakeResult) -> None:
    store = ReferenceStore(tmp_path)
    path = write(store, tiny_case, make_result, 0.9)
    assert store.unused(tiny_case.scale, [tiny_case]) == []
    left_over = json.loads(path.read_text())
    left_over["backbone"] = "gone"
    path.with_name("gone.json").write_text(json.dumps(left_over))
    left_over["backbone"] = "gone@best"  # named on the command line, as KEY@FILE
    path.with_name(f"{own_file_name('gone@best')}.json").write_text(json.dumps(left_over))
    rows = ReferenceStore(tmp_path).unused(tiny_case.scale, [tiny_case])
    assert rows == [f"{path.with_name('gone.json')}: finetune/digits"]


def test_without_files_of_ones_own_no_case_is_asked_for(tmp_path: Path) -> None:
    def cases() -> Iterator[Case]:
        raise AssertionError
        yield

    assert ReferenceStore(tmp_path).unused("tiny", cases()) == []


def test_every_smoke_case_ships_a_comparable_reference(catalog: Catalog) -> None:
    store = ReferenceStore(BUILTIN)
    cases = Plan(catalog, Selection()).all_cases()
    for case in cases:
        stored = store.find(case)
        assert stored is not None, f"{case.task} {case.name} has no reference"
        assert stored[0].protocol == case.protocol
        assert len(stored[0].values) >= (8 if case.seeded else 1)
        assert stored[0].origin == "measured"
    every = [
        case for engine in ENGINES for case in Plan(catalog, Selection(engine=engine)).all_cases()
    ]
    assert store.unused("smoke", every) == []
