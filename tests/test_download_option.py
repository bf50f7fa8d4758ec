"""``pytest --download``: what cannot be fetched skips its own cases with the remedy."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.fetching_parts import tar
from tests.file_server import FileServer, serving

DEAD = "http://127.0.0.1:9"


@pytest.fixture
def server(root: Path) -> Iterator[FileServer]:
    with serving() as started:
        yield started


def picture(label: int, number: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), (40 + 150 * label, 90, 20 * number)).save(stream, "PNG")
    return stream.getvalue()


def images(name: str) -> bytes:
    """Two classes of pictures, to learn from and to score on."""
    return tar(
        {
            f"{name}/{part}/{label}/{part}{number}.png": picture(label, number)
            for part in ("train", "test")
            for label in (0, 1)
            for number in range(4)
        }
    )


def with_sets(project: pytest.Pytester, **offers: str) -> pytest.Pytester:
    """Add datasets to a project's catalog.

    Args:
        project: It.
        offers: What stands under ``download`` of each, by its name; archives without more words.
    """
    offers = {
        name: offer if offer.startswith("form") else f"files: [{offer}]"
        for name, offer in offers.items()
    }
    text = "".join(
        f"  {name}:\n    loader: bob.datasets.library.folders:load\n    sha256: null\n"
        f"    options: {{train: {name}/train, test: {name}/test}}\n    needs: [{name}]\n"
        f"    obtain: Ask the owner of {name}.\n    licence: mine\n    download: {{{offer}}}\n"
        for name, offer in offers.items()
    )
    (project.path / "sets.yaml").write_text(f"datasets:\n{text}")
    ini = project.path / "tox.ini"
    ini.write_text(ini.read_text().replace("tiny.yaml", "tiny.yaml\n    sets.yaml"))
    return project


def at(url: str, gives: str, *, md5: str = "") -> str:
    """One archive, as a catalog says it."""
    digest = f", md5: '{md5}'" if md5 else ""
    return f"{{urls: ['{url}'], gives: {gives}{digest}}}"


def run(project: pytest.Pytester, *sets: str) -> pytest.RunResult:
    words = [word for name in (*sets, "digits") for word in ("--dataset", name)]
    return project.runpytest("--download", "-rs", "-k", "coarse", "--junitxml", "junit.xml", *words)


def skips(project: pytest.Pytester) -> dict[str, str]:
    """Why each test was skipped, by its dataset."""
    cases = ElementTree.parse(project.path / "junit.xml").iter("testcase")
    found = {case.attrib["name"].split("-")[-1].rstrip("]"): case.find("skipped") for case in cases}
    return {key: skip.attrib["message"] for key, skip in found.items() if skip is not None}


def test_what_is_missing_is_fetched_and_run(
    project: pytest.Pytester, server: FileServer, root: Path
) -> None:
    server.files["/birds.tgz"] = images("birds")
    result = run(with_sets(project, birds=at(f"{server.url}/birds.tgz", "birds")), "birds")
    result.assert_outcomes(passed=2)
    assert "bob: birds: fetched; `bob datasets verify birds` pins it" in result.stdout.str()
    assert (root / "birds/test/1/test3.png").exists()
    server.asked.clear()
    again = run(project, "birds")
    again.assert_outcomes(passed=2)
    assert server.asked == []


def test_every_failure_skips_its_own_cases(
    project: pytest.Pytester, server: FileServer, root: Path
) -> None:
    """A network that fails in five ways, an owner that wants a form: the rest runs."""
    server.files |= {
        "/birds.tgz": images("birds"), "/fish.tgz": images("fish"), "/bees.tgz": images("bees"),
        "/cats.tgz": tar({"../cats/a": b"x"}),
    }  # fmt: skip
    server.cut = [300, 0, 0]
    sets = {
        "ants": at(f"{server.url}/ants.tgz", "ants"),  # breaks off
        "birds": at(f"{server.url}/birds.tgz", "birds"),
        "cats": at(f"{server.url}/cats.tgz", "cats"),  # hostile
        "cows": at(f"{DEAD}/cows.tgz", "cows"),
        "dogs": at(f"{server.url}/dogs.tgz", "dogs"),  # gone
        "fish": at(f"{server.url}/fish.tgz", "fish", md5="1" * 32),
        "bees": "form: 'Bees want a form at https://bees.example.'",
    }  # fmt: skip
    server.files["/ants.tgz"] = images("ants")
    with_sets(project, **sets)
    result = run(project, *sets)
    result.assert_outcomes(passed=2, skipped=6)  # birds and digits
    assert result.ret == 0
    reasons = skips(project)
    assert set(reasons) == sets.keys() - {"birds"}
    for key, words in {
        "ants": "broke off at 300", "cats": "would write outside its folder",
        "cows": f"Cannot reach {DEAD}/cows.tgz", "dogs": "the server answers 404",
        "fish": "its md5 is",
    }.items():  # fmt: skip
        assert words in reasons[key]
        assert f"{key} was not fetched." in reasons[key]
        assert f"`bob datasets get {key}`" in reasons[key]
        assert f"By hand: Ask the owner of {key}." in reasons[key]
    assert "Bees want a form at https://bees.example. Ask the owner of bees." in reasons["bees"]
    assert f"Still missing under the data root {root}: bees." in reasons["bees"]
    table = [line.split() for line in result.outlines if line.startswith("pixels_coarse ")]
    assert {"cows", "skipped"} < next(set(words) for words in table if "cows" in words)
    # what broke off goes on
    rest = run(project, "ants")
    rest.assert_outcomes(passed=2)
    assert server.asked[-1] == ("/ants.tgz", "bytes=300-")


def test_a_set_that_is_there_in_part_is_not_scored(
    project: pytest.Pytester, server: FileServer, root: Path
) -> None:
    """Its loader would take what is there, and its score would be another dataset's."""
    server.files["/birds.tgz"] = images("birds")
    archives = (
        at(f"{server.url}/birds.tgz", "birds/test"), at(f"{DEAD}/more.tgz", "birds/train/0/9.png")
    )  # fmt: skip
    with_sets(project, birds=", ".join(archives))
    server.files["/more.tgz"] = tar({"birds/train/0/9.png": picture(0, 9)})
    result = run(project, "birds")
    result.assert_outcomes(passed=1, skipped=1)
    assert "Cannot reach" in skips(project)["birds"]
    sets = (project.path / "sets.yaml").read_text()
    (project.path / "sets.yaml").write_text(sets.replace(DEAD, server.url))
    run(project, "birds").assert_outcomes(passed=2)
    assert (root / "birds/train/0/9.png").exists()


def test_only_what_is_selected_is_fetched(
    project: pytest.Pytester, server: FileServer, root: Path
) -> None:
    with_sets(project, birds=at(f"{server.url}/birds.tgz", "birds"))
    result = run(project)
    result.assert_outcomes(passed=1)
    assert server.asked == []
    result = project.runpytest("--download", "--collect-only", "--dataset", "birds")
    assert result.ret == 0
    assert server.asked == []


def test_a_data_root_that_cannot_be_written_ends_it_before_anything_runs(
    project: pytest.Pytester, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No case of it could have its data, and the remedy is one word."""
    server.files["/birds.tgz"] = images("birds")
    with_sets(project, birds=at(f"{server.url}/birds.tgz", "birds"))
    monkeypatch.setenv("BOB_DATA", "/proc/bob")
    result = run(project, "birds")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Cannot write to /proc/bob/.bob" in "\n".join(result.errlines)
    assert "BOB_DATA" in "\n".join(result.errlines)
