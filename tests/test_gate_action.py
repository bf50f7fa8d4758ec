"""The gate of CI as its runner runs it: its steps in order, on a repository and its comments."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file

import bob
from bob.report.summary_text import MARKER, Outcome, markdown_text, outcome
from tests.test_example import copy_of_example, name_digest_of, site

__all__ = ["site"]
ACTION = Path(__file__).resolve().parents[1] / ".github" / "actions" / "gate"
STEPS = yaml.safe_load((ACTION / "action.yml").read_text())


class Comments(BaseHTTPRequestHandler):
    """Comments of a pull request, as the host of repositories keeps them."""

    kept: list[dict[str, Any]]

    def _answer(self, body: Any) -> None:
        assert self.headers["Authorization"] == "Bearer secret-token"
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        return found

    def do_GET(self) -> None:
        assert self.path.startswith("/repos/me/net/issues/7/comments?per_page=100&page=")
        page = int(self.path.rpartition("=")[2])
        self._answer(self.kept[100 * (page - 1) : 100 * page])

    def do_POST(self) -> None:
        assert self.path == "/repos/me/net/issues/7/comments"
        self.kept.append({"id": len(self.kept), **self._body()})
        self._answer(self.kept[-1])

    def do_PATCH(self) -> None:
        self.kept[int(self.path.rpartition("/")[2])]["body"] = self._body()["body"]
        self._answer({})

    def log_message(self, *words: object) -> None:
        """Nothing."""


@contextmanager
def host(kept: list[dict[str, Any]]) -> Iterator[str]:
    handler = type("Handler", (Comments,), {"kept": kept})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class Runner:
    """What CI does with the steps of an action, as far as this one needs it."""

    def __init__(self, folder: Path, site: Path, api: str, **inputs: str) -> None:
        self.folder = folder
        known = {name: str(spec.get("default", "")) for name, spec in STEPS["inputs"].items()}
        self.facts = {f"inputs.{name}": text for name, text in {**known, **inputs}.items()}
        self.facts["inputs.base"] = inputs.get("base", "main")
        self.facts["inputs.token"] = "secret-token"
        self.facts["github.event.pull_request.number"] = "7"
        self.facts["github.action_path"] = str(ACTION)
        self.facts["github.event_name"] = "pull_request"
        self.temporary = folder.with_name("runner")
        self.temporary.mkdir(exist_ok=True)
        root = Path(bob.__file__).resolve().parents[1]
        self.environment = {
            **{name: text for name, text in os.environ.items() if not name.startswith("PYTEST")},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{site}:{root}", "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1",
            "RUNNER_TEMP": str(self.temporary), "GITHUB_API_URL": api,
            "GITHUB_REPOSITORY": "me/net",
        }  # fmt: skip
        self.environment.pop("MLFLOW_TRACKING_URI", None)

    def _resolved(self, text: str) -> str:
        return re.sub(r"\$\{\{ *([\w.]+) *\}\}", lambda found: self.facts[found[1]], text)

    def _wanted(self, condition: str) -> bool:
        """Whether a condition of comparisons joined by && holds."""

        def holds(part: str) -> bool:
            name, equal, value = re.split(r" *(==|!=) *", part)
            return (self.facts[name] == value.strip("'")) is (equal == "==")

        return all(holds(part.strip()) for part in condition.split("&&") if part)

    def run(self) -> tuple[int, str, str]:
        """Status of the last step that ran, all output, and the job summary."""
        output = ""
        for step in STEPS["runs"]["steps"]:
            if "run" not in step or not self._wanted(step.get("if", "")):
                continue
            files = {name: self.temporary / name for name in ("ENV", "OUTPUT", "STEP_SUMMARY")}
            for name in ("ENV", "OUTPUT"):
                files[name].write_text("")
            more = {name: self._resolved(text) for name, text in step.get("env", {}).items()}
            more |= {f"GITHUB_{name}": str(path) for name, path in files.items()}
            done = subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", self._resolved(step["run"])],
                cwd=self.folder, env={**self.environment, **more}, text=True, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600,
            )  # fmt: skip
            output += f"--- {step['name']}\n{done.stdout}"
            for line in files["OUTPUT"].read_text().splitlines():
                name, _, value = line.partition("=")
                self.facts[f"steps.{step['id']}.outputs.{name}"] = value
            for line in files["ENV"].read_text().splitlines():
                name, _, value = line.partition("=")
                self.environment[name] = value
            if done.returncode:
                break
        return done.returncode, output, (self.temporary / "STEP_SUMMARY").read_text()


def git(folder: Path, *words: str) -> None:
    known = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    subprocess.run(["git", *known, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of the example's repository."""
    owners = copy_of_example(tmp_path)
    (owners / ".gitignore").write_text("mlruns/\n__pycache__/\n")
    git(owners, "init", "--quiet", "--initial-branch=main")
    git(owners, "add", "-A")
    git(owners, "commit", "--quiet", "-m", "as it is")
    git(tmp_path, "clone", "--quiet", str(owners), "clone")
    return tmp_path / "clone"


@pytest.mark.slow
def test_a_pull_request_is_judged_by_the_references_of_its_base(clone: Path, site: Path) -> None:
    kept: list[dict[str, Any]] = [{"id": 0, "body": "Looks good."}]
    with host(kept) as api:
        chosen = {"select": '-m "knn or retrieval"'}
        status, output, told = Runner(clone, site, api, **chosen).run()
        assert status == 0, output
        assert "as good as its reference; 2 pass" in told
        assert len(kept) == 2
        assert kept[1]["body"].startswith(MARKER)
        assert (clone / "bob-board.html").exists()

        # a worse backbone, and references that were made to fit it
        file = clone / "pebblenet" / "pebblenet.safetensors"
        state = load_file(file)
        state["merge.1.weight"] = state["merge.1.weight"].flip(1).contiguous()
        save_file(state, file)
        name_digest_of(file, clone)
        shutil.rmtree(clone / "references")
        status, output, told = Runner(clone, site, api, **chosen).run()
        assert status == Outcome.REGRESSION, output
        assert "worse than its reference; 2 fail" in told
        assert "| pebblenet | knn | digits | top1 0." in told
        assert len(kept) == 2  # the table was replaced
        assert "worse than its reference" in kept[1]["body"]
        assert kept[0]["body"] == "Looks good."
        assert "secret-token" not in output + told

        status, output, _ = Runner(clone, site, api, select="-k nothing_at_all").run()
        assert status == Outcome.NOTHING, output
        assert len(kept) == 2
        assert "nothing ran" in kept[1]["body"]

        status, output, _ = Runner(clone, site, api, select='-k "swin and knn').run()
        assert status == 2, output
        assert "is no list of words" in output
        assert "test session starts" not in output  # or everything would run


@pytest.mark.slow
def test_what_is_undecided_fails_where_that_was_asked(clone: Path, site: Path) -> None:
    shutil.rmtree(clone / "references")
    with host([]) as api:
        words = {"select": "-m knn", "base": "", "comment": "false"}
        status, output, told = Runner(clone, site, api, **words).run()
        assert status == 0, output
        assert "not all is decided; 1 no reference" in told
        status, output, _ = Runner(clone, site, api, strict="true", **words).run()
        assert status == Outcome.INCOMPLETE, output


def test_a_long_comment_is_cut_before_what_is_folded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[dict[str, Any]] = [{"id": 0, "body": None}]
    text = tmp_path / "x.md"
    text.write_text(f"{MARKER}\nshort\n<details>{'long ' * 20_000}</details>\n")
    with host(kept) as api:
        monkeypatch.setenv("GITHUB_API_URL", api)
        facts = {"TOKEN": "secret-token", "REPOSITORY": "me/net"}
        for name, value in facts.items():
            monkeypatch.setenv(f"GITHUB_{name}", value)
        monkeypatch.setenv("NUMBER", "7")
        words = [sys.executable, str(ACTION / "comment.py"), str(text)]
        subprocess.run(words, check=True)
        assert kept[1]["body"].endswith("short\n\nThe rest is in the summary of the job.\n")
        text.write_text("")
        assert subprocess.run(words, check=False, capture_output=True).returncode == 1


def row(status: str, **changes: Any) -> dict[str, Any]:
    plain = {
        "backbone": "a|b", "task": "knn", "dataset": "digits", "metric": "top1", "score": 0.5,
        "failure": None, "status": status, "reason": "fell", "bands": {}, "unchanged": False,
    }  # fmt: skip
    return {**plain, **changes}


def summary(*rows: dict[str, Any], status: str = "FINISHED") -> dict[str, Any]:
    counts: dict[str, int] = {}
    for each in rows:
        counts[each["status"]] = counts.get(each["status"], 0) + 1
    return {"status": status, "rows": rows, "counts": counts}


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (Outcome.GOOD, summary(row("pass"))),
        (Outcome.REGRESSION, summary(row("pass"), row("fail"), row("fail", failure="error"))),
        (Outcome.ERROR, summary(row("pass"), row("fail", failure="out-of-memory"))),
        (Outcome.NOTHING, summary()),
        (Outcome.NOTHING, summary(row("skipped"))),
        (Outcome.INCOMPLETE, summary(row("pass"), row("skipped"))),
        (Outcome.INCOMPLETE, summary(row("pass"), row("inconclusive"))),
        (Outcome.INCOMPLETE, summary(row("pass"), status="KILLED")),
        (Outcome.INCOMPLETE,
         summary(row("fail", reason="reference created from 3 seeds. Look at it."))),
    ],
)  # fmt: skip
def test_each_end_has_a_status(expected: Outcome, found: dict[str, Any]) -> None:
    assert outcome(found) is expected
    text = markdown_text("s", found)
    assert text.startswith(MARKER)
    if found["rows"]:
        assert "a\\|b" in text
    band = {"low": 0.1, "high": "inf", "value": "nan", "reference": 0.2}
    strange = {**found, "rows": [row("fail", score="nan", bands={"top1": band})]}
    assert "| top1 nan | [0.1000, inf] | nan |" in markdown_text("s", strange)


def test_the_action_and_the_workflow_say_what_they_take() -> None:
    workflow = yaml.safe_load((ACTION.parents[1] / "workflows" / "gate.yml").read_text())
    step = workflow["jobs"]["battle"]["steps"][-1]
    assert set(step["with"]) <= set(STEPS["inputs"])
    taken = set(re.findall(r"inputs\.(\w+)", json.dumps(workflow["jobs"])))
    assert taken == set(workflow[True]["workflow_call"]["inputs"])
    used = set(re.findall(r"inputs\.(\w+)", json.dumps(STEPS["runs"])))
    assert used == set(STEPS["inputs"])
