"""The page of a board: one file that needs nothing else, whatever names it holds."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bob.case import Status, Verdict
from bob.catalog import Catalog
from bob.cli import main
from bob.ledger import Ledger
from bob.references.files import BUILTIN
from bob.report.board import Board, make_board
from bob.report.charts import charts
from bob.report.page import page
from tests.board_parts import facts, made_up
from tests.test_compare_command import ledger, ran, right

__all__ = ["ledger"]
VOID = {"meta", "link", "input", "br", "img"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


class Reader(HTMLParser):
    """Notes what a browser would: elements that are not closed, ids, links, and requests."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.headings: list[str] = []
        self.targets: list[str] = []
        self.rows: list[dict[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        if tag not in VOID:
            self.open.append(tag)
        if "id" in named:
            self.ids.append(named["id"])
        if tag == "h2":
            self.headings.append(named["id"])
        if tag == "a":
            self.targets.append(named["href"])
        assert "src" not in named
        if tag == "link":
            assert named["href"] == "data:,"
        if "data-backbone" in named:
            self.rows.append(named)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if "id" in dict(attrs):
            self.ids.append(str(dict(attrs)["id"]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def board() -> Board:
    rows = made_up(12, 14, seeds=3, lacking=2)
    verdict = Verdict(status=Status.FAIL, reason="fell <by> 3 points")
    verdicts = {("backbone_000", "finetune/data0"): verdict}
    return make_board(rows, scale="smoke", units={}, facts=facts(rows), verdicts=verdicts)


def details(text: str) -> list[dict[str, object]]:
    found = re.search(r'<script type="application/json" id="cells">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    plain: list[dict[str, object]] = json.loads(found.group(1))
    return plain


def test_the_page_is_whole_and_asks_for_nothing(board: Board) -> None:
    board = replace(board, published=("Of one protocol.",), disagreements=("In one setting.",))
    text = page(board, title="A board", subtitle="of nothing", command="bob report")
    read = Reader(text)
    assert read.open == []
    assert len(read.ids) == len(set(read.ids))
    inside = {target[1:] for target in read.targets if target.startswith("#")}
    assert inside <= set(read.ids)
    assert set(read.headings) - {"detail-title"} <= inside  # of what opens
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", text)
    assert len(read.rows) == 12 + 7 * 12  # board and incomplete, and each task
    cells = details(text)
    assert len(cells) == 12 * 14 - 2
    judged = next(cell for cell in cells if cell["title"] == "backbone_000: finetune/data0 top1")
    names = {row[0] for row in judged["rows"]}  # type: ignore[attr-defined]
    assert names >= {"score", "seeds", "verdict", "again"}
    assert "fail: fell <by> 3 points" in json.dumps(cells, ensure_ascii=False)


def test_names_from_outside_stay_text(board: Board) -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    rows = [replace(row, backbone=row.backbone.replace("backbone_000", evil), session=evil)
            for row in made_up(3, 2)]  # fmt: skip
    described = {
        name: replace(fact, url="https://example.org/?a=1&b=2", licence=evil)
        for name, fact in facts(rows).items()
    }
    text = page(
        make_board(rows, scale="smoke", units={}, facts=described), title=evil, subtitle=evil
    )
    read = Reader(text)
    assert read.open == []
    assert "<img" not in text
    assert evil in {row["data-backbone"] for row in read.rows}
    assert any(evil in str(cell["title"]) for cell in details(text))


def test_charts_are_sound_pictures_with_words(board: Board) -> None:
    found = charts(board)
    assert [chart.title for chart in found] == [
        "Score against parameters", "Score against pretraining data",
        "Score against throughput", "Score against running time", "What goes with what",
    ]  # fmt: skip
    for chart in found:
        root = ElementTree.fromstring(chart.svg)
        first, second = list(root)[:2]
        assert (first.tag, first.text) == ("title", chart.title)
        assert (second.tag, second.text) == ("desc", chart.caption)
        assert root.get("role") == "img"
        _, _, width, height = map(float, str(root.get("viewBox")).split())
        for circle in root.iter("circle"):
            assert 0 <= float(str(circle.get("cx"))) <= width
            assert 0 <= float(str(circle.get("cy"))) <= height
    few = make_board(made_up(2, 2), scale="smoke", units={}, facts=facts(made_up(2, 2)))
    assert "What goes with what" not in [chart.title for chart in charts(few)]
    alone = make_board(made_up(1, 2), scale="smoke", units={}, facts=facts(made_up(1, 2)))
    assert charts(alone) == []
    assert "there is nothing to rank" in page(alone, title="t", subtitle="s")
    apart = [row for row in made_up(2, 2) if (row.backbone[-1] == "0") is (row.task == "finetune")]
    nobody = make_board(apart, scale="smoke", units={}, facts=facts(apart))
    assert nobody.incomplete == ()
    assert "there is nothing to rank" in page(nobody, title="t", subtitle="s")


def test_the_front_of_throughput_is_of_the_fast_ones() -> None:
    """More is better there, as less is everywhere else."""
    rows = [replace(row, gpu_hours=row.seconds / 3600) for row in made_up(6, 3)]
    board = make_board(rows, scale="smoke", units={}, facts=facts(rows))
    found = {chart.title: chart for chart in charts(board)}
    points = {
        row.facts.backbone: (row.facts.images_per_second, row.mean_z)
        for row in board.rows
        if row.facts.images_per_second
    }
    front = {
        name for name, (speed, z) in points.items()
        if not any(s > speed and other > z for s, other in points.values())
    }  # fmt: skip
    assert 0 < len(front) < len(points) == 5
    chart = found["Score against throughput"]
    told = chart.caption.partition("than these: ")[2].partition(".")[0]
    assert set(told.split(", ")) == front
    assert "Not known of 1 of 6." in chart.caption
    hours = {row.facts.backbone: row.gpu_hours for row in board.rows}
    for title in ElementTree.fromstring(found["Score against GPU-hours"].svg).iter("title"):
        name, _, words = str(title.text).partition(": ")
        if words:
            assert words.startswith(f"{hours[name]:,.4g} GPU-hours")


def test_ninety_backbones_are_a_small_page_soon() -> None:
    rows = made_up(90, 42)
    began = time.perf_counter()
    text = page(
        make_board(rows, scale="full", units={}, facts=facts(rows)), title="Ninety", subtitle="made"
    )
    assert time.perf_counter() - began < 10
    assert len(text.encode()) < 3_000_000


def test_the_command_writes_what_the_ending_says(
    ledger: Ledger, catalog: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = right(597, 0.9), right(597, 0.6, 1)
    ran(ledger, catalog, "first", 1, a=("knn", [good]), b=("knn", [bad]), c=("linear_probe", [bad]))
    assert main(["report"]) == 0
    assert "bob-report.html: 2 backbones ranked, 1 incomplete" in capsys.readouterr().err
    outputs = [word for name in ("x.html", "x.md", "x.csv", "x.parquet") for word in ("-o", name)]
    assert main(["report", "a", "b", *outputs, "-k", "knn"]) == 0
    assert "x.html: 2 backbones ranked, 0 incomplete, 1 settings" in capsys.readouterr().err
    for name in ("x.html", "x.md", "x.csv"):
        assert "a" in (tmp_path / name).read_text()
    assert main(["report", "-o", "-", "-k", "knn"]) == 0
    assert "| 1 | 1 | a |" in capsys.readouterr().out
    for words, told in (
        (["-o", "x.pdf"], "Unknown ending of --output '.pdf'"),
        (["d"], "Unknown measured backbone 'd'"),
        (
            ["-k", "retrieval"],
            "scale 'smoke' and 'retrieval' in its name in the ledger",
        ),
        (["-o", "no/such/x.html"], "Cannot write no/such/x.html"),
        (["--scale", "full"], "There is no score of scale 'full'"),
    ):
        assert main(["report", *words]) == 2
        assert told in capsys.readouterr().err


def test_drift_of_references_is_shown(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = json.loads((BUILTIN / "smoke" / "resnet_micro_glyphs.json").read_text())
    reference = shipped["settings"]["knn/digits"]
    for values in reference["anchor"]["values"].values():
        values["top1"] += 0.02
    reference["anchor"]["recorded"] = "2020-02-02"
    folder = tmp_path / "own" / "smoke"
    folder.mkdir(parents=True)
    (folder / "resnet_micro_glyphs.json").write_text(json.dumps(shipped))
    words = ["report", "--from", "references", "-o", "x.html", "--references"]
    assert main([*words, str(tmp_path / "own")]) == 0
    text = (tmp_path / "x.html").read_text("utf-8")
    first = text.partition('id="drift"')[2].partition("<tbody>")[2].partition("</tr>")[0]
    assert "resnet_micro_glyphs" in first
    assert "#drift" in Reader(text).targets
    assert "-0.0200 worse" in first
    assert "2020-02-02 to" in first


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_browser_sorts_filters_and_opens(board: Board, tmp_path: Path) -> None:
    """Clicks are made by a script in the page itself; what it finds becomes the title."""
    text = page(board, title="A board", subtitle="s")
    probe = """<script>{
    const errors = []; addEventListener("error", (event) => errors.push(event.message));
    const table = document.querySelector("table.sortable");
    const first = () => table.tBodies[0].rows[0].cells[0].textContent;
    const heads = table.tHead.querySelectorAll("button");
    const found = {best: first()};
    heads[1].click(); found.worst = first();
    heads[1].click(); found.again = first();
    heads[0].click(); found.alphabetical = first();
    const form = document.getElementById("filters");
    form.elements.words.value = "_003"; form.dispatchEvent(new Event("input"));
    found.count = document.getElementById("count").textContent;
    found.visible = [...table.tBodies[0].rows].filter((row) => !row.hidden).length;
    document.querySelector("button.cell").click();
    const dialog = document.getElementById("detail");
    found.open = dialog.open; found.terms = dialog.querySelectorAll("dt").length;
    found.requests = performance.getEntriesByType("resource").length;
    found.errors = errors; document.title = JSON.stringify(found);
    }</script></body>"""
    path = tmp_path / "page.html"
    path.write_text(text.replace("</body>", probe), encoding="utf-8")
    done = subprocess.run(
        [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom",
         f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    shown = re.search(r"<title>(\{.*?\})</title>", done.stdout)
    assert shown is not None, done.stderr[-2000:]
    found = json.loads(shown.group(1).replace("&quot;", '"'))
    order = [row.facts.backbone for row in board.rows]
    assert (found["best"], found["worst"], found["again"]) == (order[0], order[-1], order[0])
    assert found["alphabetical"] == min(order)
    assert (found["count"], found["visible"]) == ("1 backbones shown", 1)
    assert found["open"]
    assert found["terms"] >= 4
    assert (found["requests"], found["errors"]) == (0, [])
