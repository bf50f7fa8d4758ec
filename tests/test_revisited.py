"""The ground truth of revisitop: data that come as a pickle."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bob.catalog import Catalog
from bob.datasets import load_dataset
from bob.datasets.retrieval_sets.plain_pickle import read_plain_pickle
from bob.errors import BobError
from tests.retrieval_layouts import (
    REVISITED,
    revisited,
    small,
)
from tests.time_limit import within


class _Calls:
    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.pair = (call, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.pair


pytestmark = pytest.mark.usefixtures("root")


def hostile(tmp_path: Path) -> dict[str, tuple[bytes, str]]:
    mark = f"touch {tmp_path / 'ran'}"
    attribute = (
        b"\x80\x04cnumpy._core.numeric\n_frombuffer\nN}\x8c\x08_callingX\x01\x00\x00\x00xs\x86b."
    )
    return {
        "a command": (pickle.dumps(_Calls(os.system, mark)), "posix.system"),
        "code": (
            pickle.dumps({**REVISITED, "more": _Calls(eval, f"__import__('os').system({mark!r})")}),
            "builtins.eval",
        ),
        "a function of numpy": (pickle.dumps(_Calls(np.load, str(tmp_path))), "numpy.load"),
        "a class": (pickle.dumps([Path("x")]), "pathlib"),
        "an attribute of numpy": (
            b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", r"numpy\.ndarray\.tofile"),
        "a persistent object": (b"Pelsewhere\n.", "persistent object 'elsewhere'"),
        "another codec": (
            b"c_codecs\nencode\n(X\x02\x00\x00\x00hiX\x05\x00\x00\x00rot13tR.", "codec 'rot13'"),
        "changes to a function": (attribute, "no attribute '_calling' may be set"),
    }  # fmt: skip


def crafted() -> dict[str, tuple[bytes, str]]:
    """Pickles of a few bytes that took the process or its memory with them."""
    multiarray = b"numpy.core.multiarray\n"
    dtype = b"cnumpy\ndtype\n(X\x02\x00\x00\x00%sI00\nI01\ntR"
    empty = b"c" + multiarray + b"_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR"
    state = b"(I1\n(I2\nt%sI00\nC\x10" + b"\x01" * 16 + b"tb."
    twice = b"\x80\x02)" + b"".join(b"q%c0h%ch%c\x86" % (n, n, n) for n in range(40)) + b"N\x86."
    return {
        "an array of objects made from bytes": (
            empty + state % (dtype % b"O8"), "the type 'O8'"),
        "ndarray as a function": (
            b"cnumpy\nndarray\n((I1\nt" + dtype % b"i8" + b"tR.", "not a whole pickle"),
        "an array longer than its bytes": (
            empty + (state % (dtype % b"i8")).replace(b"I2", b"I9999999"), "has 16 bytes for it"),
        "a type of several parts": (
            dtype % b"i8" + b"(I3\nX\x01\x00\x00\x00|NNX\x01\x00\x00\x00xI-1\nI-1\nI0\ntb.",
            "a type of several parts"),
        "an object that is called an array of bytes": (
            pickle.dumps(np.array(["a", None], dtype=object)), "the type 'O8'"),
        "dates": (pickle.dumps(np.zeros(2, "M8[D]")), "the type 'M8'"),
        "a table of 64 GB": (b"\x80\x02Nr\xff\xff\xff\xff.", "number 4294967295"),
        "a tuple of a billion items": (b"\x80\x02}" + twice[2:-3] + b"Ns.", "twice over"),
    }  # fmt: skip


def test_a_small_pickle_cannot_take_the_process_down(tmp_path: Path) -> None:
    pickles = crafted()
    for number, (content, _) in enumerate(pickles.values()):
        (tmp_path / str(number)).write_bytes(content)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))\n"
        "from pathlib import Path\n"
        "from bob.errors import BobError\n"
        "from bob.datasets.retrieval_sets.plain_pickle import read_plain_pickle\n"
        "for name in sys.argv[2:]:\n"
        "    try:\n        print(repr(read_plain_pickle(Path(sys.argv[1], name))), flush=True)\n"
        "    except BobError as error:\n        print(error, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), *map(str, range(len(pickles)))],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert done.returncode == 0, (len(lines), done.stderr)
    for line, (what, (_, told)) in zip(lines, pickles.items(), strict=True):
        assert told in line, what


def test_lists_of_the_same_lists_are_told_in_few_words(root: Path, catalog: Catalog) -> None:
    laughs: Any = ["ha"]
    for _ in range(60):
        laughs = [laughs] * 10
    for content in (
        {**REVISITED, "imlist": [laughs]}, changed(easy=laughs), changed(bbx=[laughs] * 4),
    ):  # fmt: skip
        update, _ = revisited(root, key="rparis6k", content=content)
        with within(20), pytest.raises(BobError, match="gnd_rparis6k") as caught:
            load_dataset(small(catalog, "rparis6k", **update))
        assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("what", hostile(Path()))
def test_a_pickle_that_is_more_than_data_is_refused(
    what: str, root: Path, tmp_path: Path, catalog: Catalog
) -> None:
    update, _ = revisited(root, key="roxford5k")
    content, named = hostile(tmp_path)[what]
    file = root / "roxford5k" / "gnd_roxford5k.pkl"
    file.write_bytes(content)
    with pytest.raises(BobError, match=named) as caught:
        load_dataset(small(catalog, "roxford5k", **update))
    assert str(file) in str(caught.value)
    assert caught.value.kind == "dataset"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_of_every_protocol_are_read(protocol: int, tmp_path: Path) -> None:
    content = {
        "floats": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "scalar": np.int64(7),
        "words": np.array(["one", "two"]),
        "big": np.arange(3, dtype=">i4"),
        "nested": [("x", {1: 2}), b"\xff\x00", 1.5, True],
    }
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    read = read_plain_pickle(tmp_path / "file.pkl")
    assert read.keys() == content.keys()
    for key in ("floats", "fortran", "scalar", "words", "big"):
        np.testing.assert_array_equal(read[key], content[key])
    assert read["nested"] == content["nested"]
    # NumPy before 2 names its modules otherwise.
    older = pickle.dumps(content, protocol=0).replace(b"numpy._core", b"numpy.core")
    (tmp_path / "file.pkl").write_bytes(older)
    assert np.array_equal(read_plain_pickle(tmp_path / "file.pkl")["floats"], content["floats"])


def changed(**entry: Any) -> dict[str, Any]:
    return {**REVISITED, "gnd": [{**REVISITED["gnd"][0], **entry}, REVISITED["gnd"][1]]}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([1, 2], "no dictionary with imlist, qimlist and gnd"),
        ({**REVISITED, "gnd": REVISITED["gnd"][:1]}, "one entry for each of 2 queries"),
        ({**REVISITED, "gnd": [{"ok": [1], "junk": []}] * 2}, r"gnd\[0\] does not grade"),
        ({**REVISITED, "imlist": "hall"}, "imlist is no list of image names"),
        ({**REVISITED, "qimlist": ["a", "../../b"]}, r"qimlist holds '\.\./\.\./b'"),
        (changed(easy=[8]), r"gnd\[0\]\['easy'\] is no list of positions among 8 images"),
        (changed(junk=[-1]), r"gnd\[0\]\['junk'\] is no list of positions"),
        (changed(hard=[0.5]), r"gnd\[0\]\['hard'\] is no list of positions"),
        (changed(hard=[[1], [2, 3]]), r"gnd\[0\]\['hard'\] is no list of positions"),
        (changed(bbx=[1, 2, 3]), r"gnd\[0\]\['bbx'\] is no box of four numbers"),
        (changed(bbx=[5, 5, 5, 9]), r"gnd\[0\]\['bbx'\] is a box without area"),
        (changed(bbx=[0, 0, float("nan"), 9]), r"gnd\[0\]\['bbx'\] is a box without area"),
    ],
)
def test_a_malformed_ground_truth_names_the_place(
    content: Any, told: str, root: Path, catalog: Catalog
) -> None:
    update, _ = revisited(root, key="rparis6k", content=content)
    with pytest.raises(BobError, match=told) as caught:
        load_dataset(small(catalog, "rparis6k", **update))
    assert "gnd_rparis6k.pkl" in str(caught.value)


def test_a_cut_pickle_is_no_ground_truth(root: Path, catalog: Catalog) -> None:
    update, _ = revisited(root, key="rparis6k")
    file = root / "rparis6k" / "gnd_rparis6k.pkl"
    for content in (file.read_bytes()[:-20], b"", b"<html>not found</html>"):
        file.write_bytes(content)
        with pytest.raises(BobError, match="is not a whole pickle"):
            load_dataset(small(catalog, "rparis6k", **update))


def test_crop_needs_boxes(root: Path, catalog: Catalog) -> None:
    bare = [{key: entry[key] for key in ("easy", "hard", "junk")} for entry in REVISITED["gnd"]]
    update, _ = revisited(root, key="roxford5k", content={**REVISITED, "gnd": bare})
    load_dataset(small(catalog, "roxford5k", **update))
    options = {**catalog.dataset("roxford5k").options, "crop": True}
    with pytest.raises(BobError, match="no box"):
        load_dataset(small(catalog, "roxford5k", **update, options=options))
