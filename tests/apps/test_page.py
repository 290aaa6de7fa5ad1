"""The page of ``niphash serve`` in a real Chromium: what a person does with it, by mouse, keys and finger."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from niphash.collection.collection import Collection
from niphash.data.images import Box
from tests.apps.served import collect, served
from tests.photos import real_photos

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Twelve photos, two of them the same file."""
    folder = tmp_path_factory.mktemp("page")
    made = collect(folder)
    shutil.copy(folder / "photos/object00/view0.jpg", folder / "photos/object03/twin.jpg")
    made.update([folder / "photos"])
    return made


@pytest.fixture(scope="module")
def address(collection: Collection) -> Iterator[str]:
    """Of a service of ``collection``."""
    with served(collection) as address:
        yield address


@pytest.fixture
def open_page(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Open the page; a test fails when the page reports an error or asks another server for anything."""
    contexts, faults = [], []

    def open(path: str = "/", at: str = address, width: int = 1280, height: int = 900, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "console",
            lambda m: faults.append(m.text) if m.type == "error" and "status of" not in m.text else 0,
        )
        page.on(
            "request", lambda r: faults.append(r.url) if not r.url.startswith((at, "blob:", "data:")) else 0
        )
        page.goto(at + path)
        page.wait_for_selector("#results li, #door[open]")
        return page

    yield open
    for context in contexts:
        context.close()
    assert faults == []


def is_fault(message: Any) -> bool:
    """Tell whether the console speaks of an error other than a refused question."""
    return message.type == "error" and "status of" not in message.text


def until(page: Any, condition: str) -> None:
    """Wait until ``condition`` holds. Asked from outside: the page itself may not evaluate text."""
    for _ in range(600):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never held: {condition}; the page said {page.inner_text('#message')!r}")


def heading(page: Any, text: str) -> None:
    """Wait until the results have this heading."""
    until(page, f"document.getElementById('heading').textContent === '{text}'")


def shown(page: Any) -> list[int]:
    """Ids of the results, in order, after the page is at rest."""
    page.wait_for_selector("body:not([aria-busy])")
    return [
        int(number)
        for number in page.eval_on_selector_all("#results button", "all => all.map(b => b.dataset.id)")
    ]


def ids(matches: list) -> list[int]:
    return [match.id for match in matches]


def set_slider(page: Any, name: str, value: int) -> None:
    page.eval_on_selector(
        f"#{name}",
        "(slider, value) => { slider.value = value;"
        " for (const kind of ['input', 'change']) slider.dispatchEvent(new Event(kind)); }",
        value,
    )


def test_the_collection_is_there_at_once(open_page):
    page = open_page()
    assert shown(page) == list(range(13))
    assert page.inner_text("#count") == "13 photos, 8 bits each"
    until(page, "[...document.querySelectorAll('#results img')].every(image => image.naturalWidth)")


def test_clicking_a_photo_asks_with_it(open_page, collection: Collection):
    page = open_page()
    page.click("#results button[data-id='4']")
    heading(page, "Similar photos")
    set_slider(page, "within", 8)
    assert shown(page) == ids(collection.search(4, within=8))
    assert page.inner_text("#results li:first-child .caption") == "the photo itself"
    for bits in (0, 2, 5):
        set_slider(page, "within", bits)
        assert shown(page) == ids(collection.search(4, within=bits))
        assert page.inner_text("#within-value") == str(bits)
    assert page.url.endswith("#4")
    page.click("#results li:nth-child(2) button")
    until(page, "!location.hash.endsWith('#4')")
    page.go_back()
    until(page, "location.hash === '#4'")
    page.wait_for_selector("body:not([aria-busy])")
    assert "/photos/4/" in page.get_attribute("#query", "src")
    page.go_back()
    heading(page, "Collection")
    assert shown(page) == list(range(13))


def test_an_address_names_a_query(open_page):
    page = open_page("/#7")
    assert 7 in shown(page)
    assert "/photos/7/" in page.get_attribute("#query", "src")


def test_a_photo_is_chosen_and_added(open_page, collection: Collection, tmp_path: Path):
    path = tmp_path / "new.png"
    real_photos()[2].crop((30, 30, 260, 200)).save(path)
    page = open_page()
    page.set_input_files("#file", path)
    heading(page, "Similar photos")
    set_slider(page, "within", 8)
    assert shown(page) == ids(collection.search(path, within=8))
    page.click("#keep")
    until(page, "document.getElementById('message').textContent.startsWith('Added')")
    assert page.inner_text("#count").startswith("14 photos")
    number = int(page.url.split("#")[1])
    assert collection.path(number).read_bytes() == path.read_bytes()
    collection.remove([number])


def test_a_photo_is_dropped(open_page, collection: Collection):
    page = open_page()
    content = list(collection.path(9).read_bytes())
    transfer = page.evaluate_handle(
        "bytes => { const t = new DataTransfer();"
        " t.items.add(new File([new Uint8Array(bytes)], 'd.jpg', { type: 'image/jpeg' })); return t; }",
        content,
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    heading(page, "Similar photos")
    set_slider(page, "within", 0)
    assert 9 in shown(page)


def test_a_box_is_drawn_with_the_mouse(open_page, collection: Collection):
    page = open_page("/#1")
    shown(page)
    set_slider(page, "within", 8)
    until(page, "document.getElementById('query').naturalWidth")
    area = page.locator("#box").bounding_box()
    with page.expect_response(re.compile("/search")) as response:
        page.mouse.move(area["x"] + 0.25 * area["width"], area["y"] + 0.25 * area["height"])
        page.mouse.down()
        page.mouse.move(area["x"] + 0.6 * area["width"], area["y"] + 0.5 * area["height"], steps=4)
        page.mouse.move(area["x"] + 0.9 * area["width"], area["y"] + 0.75 * area["height"])
        page.mouse.up()
    edges = [float(edge) for edge in re.search(r"box=([^&]*)", response.value.url)[1].split("%2C")]
    assert edges == pytest.approx([40, 40, 144, 120], abs=2)
    assert shown(page) == ids(collection.search(1, within=8, box=Box(*edges)))
    page.click("#whole")
    assert shown(page) == ids(collection.search(1, within=8))
    assert not page.is_visible("#edge")


def test_matched_regions_are_drawn_where_they_are(open_page, collection: Collection, tmp_path: Path):
    real = Image.open(collection.path(4)).convert("RGB")
    real.crop((30, 20, 150, 140)).save(tmp_path / "part.png")
    page = open_page()
    page.set_input_files("#file", tmp_path / "part.png")
    heading(page, "Similar photos")
    with page.expect_response(re.compile("rerank=geometric")):
        page.select_option("#order", "geometric")
    expected = collection.search(tmp_path / "part.png", k=13, rerank="geometric")
    page.wait_for_selector("#results svg")
    assert shown(page)[0] == expected[0].id == 4
    caption = page.inner_text("#results li:first-child .caption")
    assert caption.endswith(f"{expected[0].score:.0f} points")
    picture = page.locator("#results li:first-child img").bounding_box()
    corners = page.eval_on_selector(
        "#results li:first-child polygon.edge",
        "edge => [...edge.points].map(point => point.matrixTransform(edge.getScreenCTM()))"
        ".map(point => [point.x, point.y])",
    )
    scale = picture["width"] / 160
    in_photo = [[(x - picture["x"]) / scale, (y - picture["y"]) / scale] for x, y in corners]
    assert np.abs(np.array(in_photo) - [[30, 20], [150, 20], [150, 140], [30, 140]]).max() < 3
    page.screenshot(path=tmp_path / "regions.png")
    page.select_option("#order", "none")
    until(page, "!document.querySelector('#results svg')")
    assert set(shown(page)) <= set(ids(collection.search(tmp_path / "part.png", k=13)))


def test_everything_by_keys_alone(open_page, collection: Collection):
    page = open_page()
    for _ in range(30):  # to the first photo
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.id") == "0":
            break
    page.keyboard.press("Enter")
    heading(page, "Similar photos")
    page.focus("#box")
    with page.expect_response(re.compile("box=")) as response:
        page.keyboard.press("Enter")
    assert "box=40.0%2C40.0%2C120.0%2C120.0" in response.value.url
    with page.expect_response(re.compile("box=")) as response:
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Shift+ArrowDown")
    assert "box=44.8%2C40.0%2C124.8%2C124.8" in response.value.url
    with page.expect_response(re.compile("/search")) as response:
        page.keyboard.press("Escape")
    assert "box" not in response.value.url
    page.focus("#within")
    page.keyboard.press("End")
    assert len(shown(page)) == 13
    page.keyboard.press("Home")
    assert shown(page) == ids(collection.search(0, within=0))
    page.focus("#tab-search")
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#view-duplicates")
    assert page.evaluate("document.activeElement.id") == "tab-duplicates"


def test_duplicates_are_a_tab(open_page, collection: Collection):
    page = open_page()
    page.click("#tab-duplicates")
    page.wait_for_selector("#groups .group")
    set_slider(page, "near", 0)
    page.wait_for_selector("body:not([aria-busy])")
    groups = page.eval_on_selector_all(
        "#groups .group",
        "all => all.map(g => [...g.querySelectorAll('button')].map(b => Number(b.dataset.id)))",
    )
    assert [n for n in next(group for group in groups if 0 in group) if n in (0, 12)] == [0, 12]
    assert "the same file" in page.inner_text("#groups")
    page.click("#groups button[data-id='12']")
    heading(page, "Similar photos")
    assert page.is_visible("#view-search")


def test_what_goes_wrong_is_said(open_page, tmp_path: Path):
    page = open_page()
    (tmp_path / "text.jpg").write_text("no photo")
    page.set_input_files("#file", tmp_path / "text.jpg")
    until(page, "document.getElementById('message').textContent.includes('not an image')")
    Image.new("RGB", (90, 90), "white").save(tmp_path / "white.png")
    page.set_input_files("#file", tmp_path / "white.png")
    until(page, "document.getElementById('message').textContent.includes('no local descriptor')")
    page.goto(page.url.split("#")[0] + "#999")
    until(page, "document.getElementById('message').textContent.includes('no photo 999')")


def test_a_file_name_is_text_whatever_it_holds(open_page, collection: Collection):
    path = collection.path(2).with_name("<img src=x onerror=alert(1)>.jpg")
    shutil.copy(collection.path(2), path)
    (number,) = collection.add(path).added
    page = open_page()
    assert "<img src=x onerror=alert(1)>.jpg" in page.inner_text(f"#results button[data-id='{number}'] .name")
    assert page.eval_on_selector_all("img[src='x']", "all => all.length") == 0
    collection.remove([number])
    path.unlink()


def test_a_token_is_asked_for_once(browser: Any, collection: Collection, open_page):
    with served(collection, token="open sesame") as address:
        page = open_page(at=address)
        page.fill("#token", "wrong one")
        page.keyboard.press("Enter")
        until(page, "document.getElementById('message').textContent === 'not the token'")
        page.wait_for_selector("#door[open]")
        page.fill("#token", "open sesame")
        page.keyboard.press("Enter")
        page.wait_for_selector("#results li")
        page.reload()
        page.wait_for_selector("#results li")
        assert not page.is_visible("#door")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1440])
def test_it_fits_the_screen_and_can_be_read(open_page, width: int, scheme: str, tmp_path: Path):
    """No sideways scrolling, targets of a finger's size, and contrast of text as WCAG 2.2 AA asks (4.5)."""
    page = open_page("/#4", width=width, height=844, color_scheme=scheme, has_touch=width < 500)
    shown(page)
    for tab in ("search", "duplicates"):
        page.click(f"#tab-{tab}")
        page.wait_for_selector("body:not([aria-busy])")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        small = page.eval_on_selector_all(
            "button, .button, select",
            "all => all.filter(b => b.offsetParent && b.offsetHeight < 44).map(b => b.outerHTML)",
        )
        assert small == []
    paper, ink, quiet = page.evaluate(
        "() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
        " getComputedStyle(document.querySelector('.quiet')).color]"
    )
    assert min(contrast(paper, ink), contrast(paper, quiet)) >= 4.5
    assert (luminance(paper) < 0.1) == (scheme == "dark")


def luminance(colour: str) -> float:
    """Relative luminance of ``rgb(r, g, b)``, as WCAG 2.2 defines it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
