"""A reference is of one backbone: names of files, and files that are not what they should be."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bob.case import Case, Outcomes
from bob.errors import BobError
from bob.hashing import file_name, own_file_name
from bob.references.files import ReferenceStore
from bob.references.samples import same_right, samples_of
from tests.conftest import MakeResult


def store(tmp_path: Path) -> ReferenceStore:
    return ReferenceStore(tmp_path / "references", builtin=tmp_path / "none")


def named(case: Case, key: str) -> Case:
    return replace(case, backbone=case.backbone.model_copy(update={"key": key}))


def write(tmp_path: Path, case: Case, make: MakeResult, score: float) -> Path:
    runs = [make(case.with_seed(1000 + i), score + i / 1000) for i in range(3)]
    store(tmp_path).write(case, runs)
    found = store(tmp_path).find(case)
    assert found is not None
    return found[1]


def check_scores(tmp_path: Path, *scored: tuple[Case, float]) -> None:
    for case, score in scored:
        found = store(tmp_path).find(case)
        assert found is not None
        assert found[0].metric("top1")[0] == score


@pytest.mark.parametrize("keys", [("my:net_a", "my_net:a"), ("模型一", "模型二"), ("a/b", "a_b")])
def test_backbones_do_not_share_a_file(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult, keys: tuple[str, str]
) -> None:
    first, second = (named(tiny_case, key) for key in keys)
    assert file_name(keys[0]) == file_name(keys[1])
    write(tmp_path, first, make_result, 0.3)
    assert store(tmp_path).find(second) is None
    write(tmp_path, second, make_result, 0.9)
    check_scores(tmp_path, (first, 0.3), (second, 0.9))


def test_a_file_of_the_earlier_name_is_found_and_renamed(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult
) -> None:
    case = named(tiny_case, "timm:net,depth=2")
    path = write(tmp_path, case, make_result, 0.3)
    early = path.with_name(f"{file_name(case.backbone.key)}.json")
    path.rename(early)
    found = store(tmp_path).find(case)
    assert found is not None
    assert found[1] == early
    other = replace(case, dataset=case.dataset.model_copy(update={"key": "other"}))
    assert write(tmp_path, other, make_result, 0.4) == path
    assert not early.exists()
    again = store(tmp_path).find(case)
    assert again is not None
    assert (again[0], again[1]) == (found[0], path)


def test_a_file_of_the_earlier_name_stays_its_backbones(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult
) -> None:
    first, second = named(tiny_case, "a/b"), named(tiny_case, "a_b")
    path = write(tmp_path, first, make_result, 0.3)
    path.rename(path.with_name("a_b.json"))
    assert store(tmp_path).find(second) is None
    write(tmp_path, second, make_result, 0.9)
    check_scores(tmp_path, (first, 0.3), (second, 0.9))


def test_names_are_kept_where_they_can_be() -> None:
    assert own_file_name("swin_micro_glyphs") == "swin_micro_glyphs"
    assert own_file_name("a b") != own_file_name("a_b") == "a_b"


def changed(path: Path, change: Any) -> Path:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return path


def of_the_only_setting(change: Any) -> Any:
    return lambda data: change(next(iter(data["settings"].values())))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data.update(backbone="other"), "is of backbone 'other'"),
        (lambda data: data.update(scale="large"), "is of scale 'large'"),
        (
            of_the_only_setting(lambda kept: kept["values"].update({"01000": {"top1": 0.1}})),
            "'01000' is no seed",
        ),
        (
            of_the_only_setting(lambda kept: kept["values"].update({"1000.0": {"top1": 0.1}})),
            "'1000.0' is no seed",
        ),
        (
            of_the_only_setting(lambda kept: kept["values"]["1000"].update(top1="0.5")),
            "valid number",
        ),
        (
            of_the_only_setting(lambda kept: kept["values"]["1000"].update(top1=True)),
            "valid number",
        ),
        (
            of_the_only_setting(
                lambda kept: kept.update(
                    samples={"1000": {"count": 10, "right": "AA==", "digest": "0"}}
                )
            ),
            "right holds 1 bytes of bits for 10 images",
        ),
        (
            of_the_only_setting(
                lambda kept: kept.update(
                    samples={"1000": {"count": 10, "right": "ä!", "digest": "0"}}
                )
            ),
            "right",
        ),
    ],
)
def test_files_that_are_not_what_they_should_be_are_named(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult, change: Any, told: str
) -> None:
    path = changed(write(tmp_path, tiny_case, make_result, 0.3), change)
    with pytest.raises(BobError) as caught:
        store(tmp_path).check(tiny_case.scale)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("value", [-0.5, 94.6])
def test_a_value_that_its_unit_does_not_hold_is_named(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult, value: float
) -> None:
    path = write(tmp_path, tiny_case, make_result, 0.3)
    changed(path, of_the_only_setting(lambda kept: kept["values"]["1000"].update(top1=value)))
    with pytest.raises(BobError, match=f"top1 {value:g} is no value of its unit"):
        store(tmp_path).find(tiny_case)


@pytest.mark.parametrize("count", [10_000, 10_001])
def test_other_images_right_are_told_however_many_there_are(
    tiny_case: Case, make_result: MakeResult, count: int
) -> None:
    def result(right: slice) -> Any:
        classes = np.ones((count, 1), dtype=np.int64)
        classes[right] = 0
        outcomes = Outcomes(
            targets=np.zeros(count, dtype=np.int64),
            target_log_probabilities=np.zeros(count, dtype=np.float32),
            square_sums=np.zeros(count, dtype=np.float32),
            top_classes=classes,
            top_probabilities=np.full((count, 1), 0.9, dtype=np.float32),
            class_names=("a", "b"),
        )
        return replace(make_result(tiny_case, 0.5), outcomes=outcomes)

    first, second = result(slice(0, 5000)), result(slice(5000, 10_000))
    before = samples_of(first)
    assert before is not None
    assert same_right(before, first)
    assert not same_right(before, second)


def broken_link(path: Path) -> None:
    path.symlink_to("nowhere.json")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [broken_link, loop, pipe, Path.mkdir])
def test_what_stands_where_a_reference_belongs_is_no_missing_reference(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult, make: Callable[[Path], None]
) -> None:
    """The packaged reference behind it would pass what this one fails."""
    packaged = ReferenceStore(tmp_path / "packaged", builtin=tmp_path / "none")
    packaged.write(tiny_case, [make_result(tiny_case, 0.1)])
    own = tmp_path / "own" / tiny_case.scale / f"{tiny_case.backbone.key}.json"
    own.parent.mkdir(parents=True)
    make(own)
    behind = ReferenceStore(tmp_path / "own", builtin=tmp_path / "packaged")
    for ask in (lambda: behind.find(tiny_case), lambda: behind.check(tiny_case.scale)):
        with pytest.raises(BobError, match="Cannot read reference file "):
            ask()


@pytest.mark.parametrize("make", [broken_link, loop, Path.touch])
@pytest.mark.parametrize("place", ["own", "own/tiny"])
def test_a_folder_of_references_that_is_none_is_told(
    tmp_path: Path, make: Callable[[Path], None], place: str
) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    make(tmp_path / place)
    with pytest.raises(BobError, match=f"Cannot read the references in .*{place}"):
        ReferenceStore(tmp_path / "own").check("tiny")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs a second user")
@pytest.mark.parametrize("place", [".", "tiny", "tiny/net.json"])
def test_references_that_may_not_be_read_are_told(place: str) -> None:
    with tempfile.TemporaryDirectory(prefix="bob-two-users-") as name:
        top = Path(name)
        top.chmod(0o755)
        (top / "own" / "tiny").mkdir(parents=True)
        (top / "own" / "tiny" / "net.json").write_text("{}")
        (top / "own" / place).chmod(0)
        os.seteuid(65534)
        try:
            with pytest.raises(BobError, match="Cannot read"):
                ReferenceStore(top / "own").check("tiny")
        finally:
            os.seteuid(0)
            (top / "own" / place).chmod(0o755)


def test_a_named_folder_of_references_that_is_missing_is_told(project: pytest.Pytester) -> None:
    words = ("-k", "pixels_coarse", "--references=reffs")
    told = project.runpytest(*words)
    told.stdout.fnmatch_lines(["*BobWarning: --references: there is no folder *reffs*"])
    required = project.runpytest(*words, "--require-bands")
    assert required.ret == pytest.ExitCode.USAGE_ERROR
    required.stderr.fnmatch_lines(["ERROR: --references: there is no folder *Bands are required*"])
    project.runpytest(*words, "--bands=new", "--seeds=2")
    assert (project.path / "reffs" / "tiny" / "pixels_coarse.json").is_file()
