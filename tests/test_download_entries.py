"""What a catalog may say under ``download``; what is wrong is named by file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from bob.catalog import load_catalog
from bob.cli import main
from bob.errors import BobError
from bob.fetching import planned

HEAD = """datasets:
  birds:
    loader: a.b:load
    sha256: null
    needs: [birds]
    download:
"""
URL = "https://owner.example/birds.tgz"
FILE = f"      files:\n        - urls: [{URL}]\n          gives: birds\n"


@pytest.mark.parametrize(
    ("text", "line", "field", "words"),
    [
        ("      files: birds\n", 7, "files", "valid tuple"),
        ("      from: here\n", 7, "from", "unknown key"),
        (f"      files:\n        - urls: [{URL}]\n", 8, "files.0.gives", "Field required"),
        (FILE.replace("https", "ftp"), 8, "files.0.urls.0", "such as https://owner.example"),
        (FILE.replace(URL, "https://owner.example"), 8, "files.0.urls.0", "such as https://owner.example"),
        (FILE.replace(f"[{URL}]", URL), 8, "files.0.urls", "valid tuple"),
        (FILE.replace(f"[{URL}]", "[]"), 8, "files.0", "give urls or torchvision"),
        (FILE + "          md5: 12ab\n", 10, "files.0.md5", "32 hexadecimal"),
        (FILE + f"          sha256: {'g' * 64}\n", 10, "files.0.sha256", "64 hexadecimal"),
        (FILE + "          md5_url: here\n", 10, "files.0.md5_url", "an address such as"),
        (FILE + "          bytes: -1\n", 10, "files.0.bytes", "greater than or equal to 1"),
        (FILE + "          bytes: many\n", 10, "files.0.bytes", "valid integer"),
        (FILE + "          to: /etc\n", 10, "files.0.to", "below the data root"),
        (FILE + "          to: a/../../b\n", 10, "files.0.to", "below the data root"),
        (FILE + "          to: 'a\\b'\n", 10, "files.0.to", "below the data root"),
        (FILE.replace("gives: birds", "gives: ../birds"), 9, "files.0.gives", "below the data"),
        (FILE.replace("gives: birds", "gives: /birds"), 9, "files.0.gives", "below the data root"),
        (FILE.replace("gives: birds", "gives: []"), 9, "files.0.gives", "at least 1 item"),
        (FILE + "          count: 3\n", 8, "files.0", "it goes with count"),
        (FILE.replace("birds.tgz", "'birds_{}.tgz'").replace("[https", "['https").replace(
            "'birds_{}.tgz'", "birds_{}.tgz'"), 8, "files.0", "it goes with count"),
        (FILE + "          mirror: x\n", 10, "files.0.mirror", "unknown key"),
        (FILE + "          flatten: perhaps\n", 10, "files.0.flatten", "valid boolean"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    tmp_path: Path, text: str, line: int, field: str, words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = tmp_path / "own.yaml"
    path.write_text(HEAD + text)
    with pytest.raises(BobError) as caught:
        load_catalog([path])
    assert str(caught.value).startswith(f"{path}:{line}: datasets.birds.download.{field}: ")
    assert words in str(caught.value)
    assert main(["datasets", "--catalog", str(path), "get", "birds", "--yes"]) == 2
    assert str(caught.value) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CIFAR11", "torchvision's CIFAR11 does not say where it is fetched from"),
        ("OxfordIIITPet/image.tar.gz", "Did you mean 'images.tar.gz'"),
        ("OxfordIIITPet", "images.tar.gz"),
    ],
)
def test_what_torchvision_does_not_have_is_told(
    tmp_path: Path, root: Path, name: str, words: str
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(f"{HEAD}      files: [{{torchvision: {name}, gives: birds}}]\n")
    entry = load_catalog([path]).dataset("birds")
    with pytest.raises(BobError) as caught:
        planned(entry)
    assert words in str(caught.value)


def test_a_whole_entry_is_taken(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "own.yaml"
    more = "          to: deep\n          gives: birds|other|/usr/share/birds\n"
    file = FILE.replace("          gives: birds\n", more).replace(URL, f"{URL}, {URL}2")
    path.write_text(f"{HEAD}{file}          bytes: 5\n          md5: {'a' * 32}\n")
    (wanted,) = planned(load_catalog([path]).dataset("birds")).files
    assert wanted.urls == (URL, f"{URL}2")
    assert (wanted.size, wanted.md5, wanted.to) == (5, "a" * 32, root / "deep")
    assert wanted.gives == ((root / "birds", root / "other", Path("/usr/share/birds")),)


def test_a_mirror_that_is_no_address(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOB_MIRROR", "mirror.example")
    with pytest.raises(BobError, match=r"BOB_MIRROR 'mirror\.example': expected"):
        planned(load_catalog().dataset("coco"))
