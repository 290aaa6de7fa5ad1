"""The report in a real browser: it asks for nothing, fits every screen, and is dark where the screen is."""

from pathlib import Path
from typing import Any

import pytest

from niphash.studies.report.beside import Beside
from niphash.studies.report.page import Answer, page

pytestmark = pytest.mark.browser

METHODS = "a method whose name is quite a lot longer than others", "itq", "lsh", "rbm_stack"
CURVES = "method,bits,metric,value,low,high\n" + "".join(
    f"{method},{bits},mAP,{0.1 * place + bits / 400},{0.1 * place},{0.1 * place + bits / 200}\n"
    for place, method in enumerate(METHODS)
    for bits in (32, 64, 128)
)
MARKS = "variant,value,low,high\n" + "".join(f"{method},0.5,0.4,0.6\n" for method in METHODS)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    said = {
        "sentence": "0.512 [0.480, 0.544]",
        "csv_name": "a/a.csv",
        "command": "niphash train " + "x" * 300,
    }
    answers = [
        Answer("a", "Methods", "Which?", beside=Beside("deephash", ["fv8192"]), csv=CURVES, **said),
        Answer("b", "Variants", "What?", beside=Beside("practical_guide"), csv=MARKS, **said),
        Answer("c", "Network", "Why?", "niphash train", reason="/a/very/long/path" * 20 + " is not here"),
    ]
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page({"data set": "sample", "effort": "quick"}, answers))
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1440])
def test_it_fits_the_screen(browser: Any, report: Path, width: int, scheme: str):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab, faults = context.new_page(), []
    tab.on("console", lambda message: faults.append(message.text))
    tab.on("request", lambda r: faults.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
    tab.goto(report.as_uri())
    for table in tab.query_selector_all("summary"):
        table.click()
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    sizes = tab.eval_on_selector_all(
        ".chart", "all => all.map(c => 12.5 * c.getBoundingClientRect().width / c.viewBox.baseVal.width)"
    )
    assert len(sizes) == 4
    assert min(sizes) >= (8 if width < 390 else 9), "numbers of a chart can be read"
    outside = tab.eval_on_selector_all(
        ".chart text",
        "all => all.filter(t => { const a = t.getBoundingClientRect();"
        " const b = t.ownerSVGElement.getBoundingClientRect();"
        " return a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1 ||"
        " a.bottom > b.bottom + 1;"
        " }).map(t => t.textContent)",
    )
    assert outside == []
    crossing = tab.eval_on_selector_all(
        ".chart .strong",
        "all => all.filter(t => t.getBoundingClientRect().right >"
        " t.nextElementSibling.getBoundingClientRect().left).map(t => t.textContent)",
    )
    assert crossing == [], "no label runs into its value"
    red, *_ = tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (red < 60) == (scheme == "dark")
    colours = tab.eval_on_selector_all(
        ".chart .mark", "all => [...new Set(all.map(m => getComputedStyle(m).fill))]"
    )
    assert len(colours) == 8
    assert faults == []
    context.close()


def test_it_prints(browser: Any, report: Path):
    context = browser.new_context(color_scheme="dark")
    tab = context.new_page()
    tab.goto(report.as_uri())
    tab.emulate_media(media="print")
    red, *_ = tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert red == 255, "paper is white"
    assert tab.pdf(format="A4").startswith(b"%PDF")
    context.close()
