"""Where detectron2 is missing or broken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bob.detection.detectron2_engine import (
    INSTALL,
)

REQUIRE = """
import json, sys
from bob.detection.detectron2_engine import require_detectron2
from bob.errors import BobError

def said():
    try:
        require_detectron2()
    except BobError as error:
        return [error.kind, str(error)]

found = {}
sys.modules["detectron2"] = None
found["missing"] = said()
for name in ("broken", "hollow"):
    del sys.modules["detectron2"]
    sys.path.insert(0, f"{sys.argv[1]}/{name}")
    found[name] = said()
    sys.path.pop(0)
    sys.modules.setdefault("detectron2", None)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Kind and message of what is raised where detectron2 is missing, broken or half there."""
    folder = tmp_path_factory.mktemp("detectron2")
    for name, text in (
        ("broken", "raise ImportError('libtorch.so: undefined symbol: _ZN3c10')"),
        ("hollow", "import a_package_it_needs"),
    ):
        package = folder / name / "detectron2"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", REQUIRE, str(folder)],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def test_where_detectron2_is_missing_the_message_says_how_to_get_it(
    said: dict[str, list[str]],
) -> None:
    kind, message = said["missing"]
    assert kind == "unavailable"
    assert "detectron2 is not installed" in message
    assert INSTALL in message
    assert "--engine torchvision" in message


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("broken", "ImportError: libtorch.so: undefined symbol: _ZN3c10"),
        ("hollow", "ModuleNotFoundError: No module named 'a_package_it_needs'"),
    ],
)
def test_where_detectron2_is_broken_the_message_says_why(
    said: dict[str, list[str]], name: str, cause: str
) -> None:
    kind, message = said[name]
    assert kind == "import"
    assert cause in message
    assert INSTALL in message
    assert "--engine torchvision" in message
