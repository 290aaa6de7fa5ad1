"""``niphash dashboard``: one page over many runs, whatever they hold in it is text."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from niphash.apps.dashboard.curves import MOST_POINTS, read_curves, thinned
from niphash.apps.dashboard.page import dashboard_page
from niphash.errors import InputError
from niphash.pipeline.run_folders import find_runs
from tests.apps.test_programs import run
from tests.model_folders import write_run_folder

HOSTILE = "<script>alert(1)</script>\"'&\x1b[31m"


class Page(HTMLParser):
    """Tags, text and attributes of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.rows: list[list[str]] = []
        self.in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, data: str) -> None:
        if self.in_cell:
            self.rows[-1][-1] += data


def write_curves(folder: Path, epochs: int, scale: float) -> None:
    bins = [f"layer1/activations_0.{tenth}" for tenth in range(10)]
    lines = [",".join(["epoch", "layer1/loss", *bins, "step"])]
    for epoch in range(epochs):
        shares = np.roll([0.5, 0.3, 0.2, 0, 0, 0, 0, 0, 0, 0], epoch % 10)
        lines.append(",".join([str(epoch), str(scale / (1 + epoch)), *map(str, shares), str(epoch)]))
    (folder / "csv").mkdir()
    (folder / "csv" / "metrics.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three finished runs, with curves and contact sheets, and one that failed."""
    folder = tmp_path_factory.mktemp("runs")
    for number, (method, value) in enumerate({"itq": 0.5, "rbm": 0.75, "lsh": 0.25}.items()):
        one = folder / str(number)
        write_run_folder(one, {"hashing": method, "bits": "16"}, {"mAP": value})
        write_curves(one, 20, value)
        noise = np.random.default_rng(number).integers(0, 255, (60, 90, 3), np.uint8)
        Image.fromarray(noise).resize((900, 600)).save(one / "ranking.png")
    (folder / "3" / ".hydra").mkdir(parents=True)
    (folder / "3" / ".hydra" / "overrides.yaml").write_text('["hashing=pq", "bits=16"]')
    (folder / "3" / "error.txt").write_text("36 fit descriptors are too few\n")
    return folder


def test_the_page_has_table_curves_histograms_and_contact_sheets(runs: Path):
    page = Page(dashboard_page(find_runs([runs]), "mAP"))
    heads, *rows = [row for row in page.rows if row]
    assert heads[:7] == ["run", "mAP", "descriptor", "state", "data", "bits", "distance"]
    assert [row[0] for row in rows] == ["hashing=rbm", "hashing=itq", "hashing=lsh", "hashing=pq"]
    assert rows[0][1] == "0.7500 [0.650, 0.850]"
    assert rows[3][3:] == ["failed", "36 fit descriptors are too few"]
    assert [tag for tag, _ in page.tags].count("polyline") == 3
    labels = [attributes.get("aria-label") or "" for tag, attributes in page.tags if tag == "svg"]
    assert "layer1/loss: 3 runs against the step" in labels
    assert sum("share of values" in label for label in labels) == 3
    pictures = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 3
    assert all(source.startswith("data:image/jpeg;base64,") for source in pictures)


def test_the_page_needs_nothing_from_elsewhere(runs: Path):
    html = dashboard_page(find_runs([runs]), "mAP")
    for tag, attributes in Page(html).tags:
        assert tag not in ("link", "iframe", "object", "form")
        source = attributes.get("src") or attributes.get("href") or "data:"
        assert source.startswith("data:")
    assert not re.search(r"url\(|@import|https?://", html)


def test_what_runs_hold_is_text(tmp_path: Path):
    folder = tmp_path / "<b>run"
    write_run_folder(folder, {"data.root": HOSTILE, "<i>": "1"}, {"mAP": 0.5})
    text = (folder / "metrics.json").read_text().replace('"bits": 16', f'"bits": "{"<script>x</script>"}"')
    (folder / "metrics.json").write_text(text)
    (folder / "csv").mkdir()
    (folder / "csv" / "metrics.csv").write_text(f'step,"a/{"<script>"}"\n0,1\n1,2\n')
    (folder / "study.csv").write_text("a\n1\n")
    (folder / "study.txt").write_text(HOSTILE)
    (folder / "ranking.png").write_bytes(b"\x89PNG no picture")
    write_run_folder(tmp_path / "other", {"data.root": "x"}, {"mAP": 0.5})
    html = dashboard_page(find_runs([tmp_path]), "mAP")
    assert [tag for tag, _ in Page(html).tags].count("script") == 1
    assert "alert(1)</script>" not in html
    assert "<i>" not in html
    assert "<b>" not in html
    assert "\x1b" not in html
    assert "ranking.png: cannot be shown" in html


def test_numbers_that_are_none_are_left_out(tmp_path: Path):
    write_run_folder(tmp_path / "a", {"bits": "16"}, {"mAP": 0.5})
    (tmp_path / "a" / "csv").mkdir()
    (tmp_path / "a" / "csv" / "metrics.csv").write_text("step,x/y\n0,nan\n1,inf\nq,1e400\n2,5\n3,six\n4,7\n")
    assert read_curves(tmp_path / "a").lines == {"x/y": [(2.0, 5.0), (4.0, 7.0)]}


def test_long_curves_are_thinned_to_their_ends():
    points = [(float(step), float(step)) for step in range(10_000)]
    shown = thinned(points)
    assert len(shown) == MOST_POINTS
    assert (shown[0], shown[-1]) == (points[0], points[-1])


def test_the_command_writes_the_page_and_says_how_many_runs(runs: Path, tmp_path: Path):
    done = run("niphash", "dashboard", str(runs), "--out", "board.html", cwd=tmp_path)
    assert done.stdout.startswith("4 runs in board.html")
    assert (tmp_path / "board.html").read_text().startswith("<!doctype html>")
    done = run("niphash", "dashboard", "nowhere", cwd=tmp_path, expect=2)
    assert "nowhere: no such folder" in done.stderr
    assert not (tmp_path / "dashboard.html").exists()


def test_damaged_metrics_are_named(tmp_path: Path):
    write_run_folder(tmp_path / "a", {}, {"mAP": 0.5})
    (tmp_path / "a" / "metrics.json").write_text("[1, 2")
    with pytest.raises(InputError, match=r"metrics\.json: damaged"):
        dashboard_page(find_runs([tmp_path]), "mAP")


@pytest.mark.browser
def test_the_table_is_sorted_and_filtered_and_fits_a_phone(browser: Any, runs: Path, tmp_path: Path):
    (tmp_path / "board.html").write_text(dashboard_page(find_runs([runs]), "mAP"))
    faults: list[str] = []
    for scheme in ("light", "dark"):
        page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text))
        page.goto((tmp_path / "board.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        names = page.locator("td.run")
        for column in range(page.locator("th button").count()):
            page.locator("th button").nth(column).click()
        page.locator("th button").nth(1).click()
        assert names.all_inner_texts()[0].strip() == "hashing=rbm"
        page.locator("th button").nth(1).click()
        assert names.all_inner_texts()[0].strip() == "hashing=lsh"
        page.fill("input[type=search]", "itq")
        assert page.locator("tbody tr:visible").count() == 1
    assert faults == []
