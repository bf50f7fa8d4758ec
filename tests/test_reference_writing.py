"""Reference files written by several processes at once, by killed ones, and where nobody may."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bob.case import Case
from bob.errors import BobError
from bob.references.files import ReferenceStore
from bob.references.writing import (
    LOCK,
    WAIT_SECONDS,
    WRITING,
    alone_in,
    check_writable,
    replace_file,
)
from tests.conftest import MakeResult

WRITER = """
import sys
from pathlib import Path
from dataclasses import replace
from bob.case import Result
from bob.catalog import load_catalog
from bob.plan import Plan, Selection
from bob.references.files import ReferenceStore

folder, number, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
case = Plan(load_catalog(), Selection(backbones=("resnet_micro_glyphs",))).cases("finetune")[0]
metrics = {judged.name: number / 100 for judged in case.judged}
print("ready", flush=True)
sys.stdin.readline()
for index in range(count):
    data = case.dataset.model_copy(update={"key": f"data_{number}_{index}"})
    own = replace(case, dataset=data)
    ReferenceStore(folder).write(own, [Result(case=own, metrics=metrics, weights_digest="w")])
"""


def started(program: str, folder: Path, *words: str, temporary: Path) -> subprocess.Popen[str]:
    """A process with a temporary folder of its own, which waits for a line."""
    temporary.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(folder), *words],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_no_update_is_lost_among_processes_with_temporary_folders_of_their_own(
    tmp_path: Path,
) -> None:
    folder, writers, count = tmp_path / "references", 3, 40
    processes = [
        started(WRITER, folder, str(number), str(count), temporary=tmp_path / f"tmp{number}")
        for number in range(writers)
    ]
    for process in processes:
        go(process)
    assert [process.wait(timeout=120) for process in processes] == [0] * writers
    (file, *others) = [
        file for file, _, _ in ReferenceStore(folder, builtin=tmp_path / "none").all("smoke")
    ]
    assert {id(file)} == {id(other) for other in others}
    wanted = {
        f"finetune/data_{number}_{index}" for number in range(writers) for index in range(count)
    }
    assert set(file.settings) == wanted
    for setting, reference in file.settings.items():
        assert reference.values[0]["top1"] == int(setting.split("_")[1]) / 100
    assert names_in(folder) == ["resnet_micro_glyphs.json"]
    assert not any(names_in(tmp_path / f"tmp{number}") for number in range(writers))


KILLED = """
import os, sys
from pathlib import Path
from bob.references import writing

folder = Path(sys.argv[1])
with writing.alone_in(folder):
    os.replace = lambda *_: os.kill(os.getpid(), 9)
    print("ready", flush=True)
    sys.stdin.readline()
    writing.replace_file(folder / "a.json", "half")
"""


def test_a_killed_writer_leaves_no_lock_and_what_it_leaves_the_next_one_removes(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "references"
    folder.mkdir()
    (folder / "a.json").write_text("whole")
    process = started(KILLED, folder, temporary=tmp_path / "tmp")
    go(process)
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert names_in(folder) == sorted([f".a.json{WRITING}", LOCK, "a.json"])
    assert (folder / "a.json").read_text() == "whole"
    began = time.monotonic()
    with alone_in(folder):
        replace_file(folder / "b.json", "other")
    assert time.monotonic() - began < WAIT_SECONDS / 2
    assert names_in(folder) == ["a.json", "b.json"]


def test_an_error_on_the_way_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("whole")
    with pytest.raises(UnicodeEncodeError), alone_in(tmp_path):
        replace_file(path, "half \ud800")
    assert path.read_text() == "whole"
    assert names_in(tmp_path) == ["a.json"]


def test_whether_files_can_be_written_is_tried_and_leaves_nothing(tmp_path: Path) -> None:
    check_writable([tmp_path / "new" / "smoke" / "a.json", tmp_path / "b.json"])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a file").write_text("no folder")
    with pytest.raises(BobError, match=r"Cannot write references in .*--references=DIR"):
        check_writable([tmp_path / "a file" / "smoke" / "a.json"])
    (tmp_path / "b.json").write_text("kept")
    (tmp_path / "b.json").chmod(0o444)
    with pytest.raises(BobError, match=r"b\.json: it is read-only"):
        check_writable([tmp_path / "b.json"])


def test_a_read_only_file_is_not_replaced(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult
) -> None:
    store = ReferenceStore(tmp_path)
    store.write(tiny_case, [make_result(tiny_case, 0.5)])
    (path,) = tmp_path.rglob("*.json")
    before = path.read_bytes()
    path.chmod(0o444)
    with pytest.raises(BobError, match="it is read-only"):
        store.write(tiny_case, [make_result(tiny_case, 0.9)])
    assert path.read_bytes() == before


def test_a_link_stays_one_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "b.json").write_text("before")
    folder = tmp_path / "references"
    folder.mkdir()
    link = folder / "a.json"
    link.symlink_to("../kept/b.json")
    check_writable([link])
    with alone_in(folder):
        replace_file(link, "after")
    assert link.is_symlink()
    assert (tmp_path / "kept" / "b.json").read_text() == "after"
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "a.json", "b.json", "kept", "references"
    ]  # fmt: skip


def test_a_folder_where_a_file_belongs_is_told_before_training(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(BobError, match=r"a\.json: something that is no file has its name"):
        check_writable([tmp_path / "a.json"])


def test_the_reference_before_is_the_one_that_another_session_has_just_written(
    tmp_path: Path, tiny_case: Case, make_result: MakeResult
) -> None:
    """The anchor is the first accepted value, also where this session looked before there was."""
    late = ReferenceStore(tmp_path, builtin=tmp_path / "none")
    assert late.find(tiny_case) is None
    ReferenceStore(tmp_path).write(tiny_case, [make_result(tiny_case, 0.5)])
    old, new = late.write(tiny_case, [make_result(replace(tiny_case, seed=1), 0.9)])
    assert old is not None
    assert new.anchored("top1") == [0.5]


@pytest.mark.parametrize("bands", ["new", "failed", "all"])
@pytest.mark.parametrize("what", ["folder", "file"])
def test_references_that_cannot_be_written_stop_a_session_before_it_trains(
    project: pytest.Pytester, bands: str, what: str
) -> None:
    folder = project.mkdir("references") / "tiny"
    if what == "folder":  # in which not even root can make one
        folder.symlink_to("/proc/self/fdinfo")
    else:
        folder.mkdir()
        file = folder / "pixels_coarse.json"
        file.write_text(
            '{"schema": 1, "backbone": "pixels_coarse", "scale": "tiny", "settings": {}}'
        )
        file.chmod(0o444)
    result = project.runpytest("--bands", bands)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line]
    assert line.startswith("ERROR: Cannot write reference")
    assert line.endswith("choose another folder with --references=DIR.") or what == "folder"
    assert not (project.path / "mlruns").exists()
