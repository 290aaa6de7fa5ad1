"""The report: slides that go on where they stopped, and a page that needs nothing else."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from niphash.config import compose, quoted
from niphash.errors import InputError
from niphash.pipeline.run import assemble
from niphash.studies.report import page as pages
from niphash.studies.report.beside import Beside
from niphash.studies.report.chart import LETTER, WIDTH, Point, Series, curves, marks, style
from niphash.studies.report.page import Answer, page
from niphash.studies.report.pictures import pictures
from niphash.studies.report.slides import WrittenReport, report
from tests.photos import write_objects

FISHER = ["pooling.gaussians=4", "pooling.local_dim=16", "backbone.limit=100", "backbone.longer_side=160"]
SIFT = ["backbone=sift_dog", "pooling=fisher"]
SLIDES: dict[str, dict[str, Any]] = {
    "loss": {
        "title": "Loss",
        "question": "What is lost?",
        "experiment": "float_loss",
        "trial": [*FISHER, "bits=8", "study.methods=[itq,lsh]"],
        "beside": {"paper": "deephash", "descriptors": ["fv8192"], "bits": 256},
    },
    "methods": {
        "title": "Methods",
        "question": "Which one?",
        "experiment": "bits",
        "trial": [*FISHER, "study.bits=[8,16]", "study.methods=[itq,lsh]"],
    },
    "nip": {"title": "NIP", "question": "Why?", "experiment": "nip_order", "network": True},
    "scale": {
        "title": "Scale",
        "question": "How small?",
        "experiment": "scale",
        "network": True,
        "trial": ["study.ratios=[1,0.5]"],
        "without": [*FISHER, *SIFT, "study.descriptors.fisher_dog=[]", "study.only=[fisher_dog]"],
    },
}


class Page(HTMLParser):
    """What a page holds: its tags with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def count(self, tag: str, **attributes: str) -> int:
        return sum(t == tag and attributes.items() <= a.items() for t, a in self.tags)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with labelled photos, and room for their descriptors."""
    place = tmp_path_factory.mktemp("report")
    write_objects(place / "photos", objects=8, views=3)
    return place


def make(place: Path, out: Path, *words: str, **options: Any) -> WrittenReport:
    overrides = ["data=folder", f"data.root={place / 'photos'}", f"paths.data_dir={place / 'data'}", *words]
    run = assemble(compose(["experiment=report", *overrides]), out, overrides=overrides)
    return report(run, **{"slides": SLIDES, "effort": "trial", **options})


@pytest.fixture(scope="module")
def written(place: Path) -> Path:
    """The folder of a report without a network."""
    return make(place, place / "out", weights=str(place / "nowhere.pt")).path.parent


def test_every_slide_is_answered_or_left_out_with_its_reason(written: Path):
    text = (written / "report.html").read_text()
    found = Page(text)
    assert found.count("section") == len(SLIDES)
    assert "nowhere.pt" in text
    assert text.count("Left out.") == 1
    for name, slide in SLIDES.items():
        assert slide["question"] in text
        assert f"niphash train experiment={slide['experiment']} " in text
        if name != "nip":
            (sentence,) = (path.read_text().strip() for path in (written / name).glob("*.txt"))
            assert sentence in "".join(found.words)
            (table,) = (written / name).glob("*.csv")
            assert base64.b64encode(table.read_bytes()).decode() in text
    assert "slides are missing" not in text


def test_a_page_asks_for_no_other_file_and_runs_no_script(written: Path):
    found = Page((written / "report.html").read_text())
    assert found.count("script") == found.count("img") == found.count("link") == 0
    links = {value for _, a in found.tags for key, value in a.items() if key in ("href", "src", "action")}
    assert all(str(link).startswith(("#", "data:text/csv;base64,")) for link in links)
    assert found.count("svg", **{"class": "chart"}) >= 4  # of three answers, and one of published numbers
    assert not re.search(r"url\(|@import", pages.STYLE.read_text())


def test_a_slide_that_was_answered_is_not_answered_again(place: Path, written: Path, tmp_path: Path):
    folder = shutil.copytree(written, tmp_path / "out")
    (mark,) = (folder / "loss").glob("*.txt")
    before = mark.read_text()
    mark.write_text("as it lay there\n")
    options = {"weights": str(place / "nowhere.pt"), "only": ["loss"]}
    assert make(place, folder, **options).answers[0].sentence == "as it lay there"
    assert make(place, folder, "seed=1", **options).answers[0].sentence != "as it lay there"
    assert make(place, folder, **options).answers[0].sentence == before.strip()


def test_a_report_that_was_cut_short_keeps_what_it_has(place: Path, tmp_path: Path):
    bad = {**SLIDES["loss"], "experiment": "bits", "trial": ["no.such=1"]}
    with pytest.raises(Exception, match=r"no\.such"):
        make(place, tmp_path, slides={"methods": SLIDES["methods"], "bad": bad})
    text = (tmp_path / "report.html").read_text()
    assert "slides are missing" in text
    assert text.count('<section id="methods">') == 1
    assert json.loads((tmp_path / "methods" / "finished.json").read_text())["result"] == "bits"


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        (["backbone=squeezenet"], {}, "backbone=squeezenet: every slide .* study.network"),
        (["pooling.gaussians=8"], {}, "pooling.gaussians=8: every slide"),
        ([], {"effort": "much"}, "study.effort=much: choose one of trial, quick, paper"),
        ([], {"only": ["magic"]}, "magic is unknown; choose from loss"),
        ([], {"slides": {"a": {"name": 1}}}, "study.slides.a: .*a slide has title"),
        ([], {"slides": {"nip": SLIDES["nip"]}, "weights": "nowhere.pt"}, "no slide could be answered"),
        (["data.root=nowhere"], {}, "nowhere"),
    ],
)
def test_what_cannot_be_is_said(place: Path, tmp_path: Path, words: list[str], options: dict, said: str):
    with pytest.raises(InputError, match=said):
        make(place, tmp_path, *words, **options)


def test_all_slides_of_the_configuration_name_experiments_that_take_their_overrides():
    slides = compose(["experiment=report"]).study.slides
    for slide in slides.values():
        for effort in ("trial", "quick", "paper"):
            network = ["backbone=squeezenet"] if slide.get("network") else []
            words = [f"experiment={slide.experiment}", *network, *slide.get(effort, [])]
            assert compose(words).study._target_
        if "beside" in slide:
            for data in ("sample", "ukbench", "oxford"):
                assert Beside(**slide.beside).numbers(data)[1]


def test_texts_of_others_are_text():
    evil = "<img src=x onerror=alert(1)>\"'"
    table = f"method,metric,value,low,high\n{evil.replace(chr(34), '')},mAP,0.5,0.4,0.6\nb,mAP,0.6,0.5,0.7\n"
    answer = Answer(evil, evil, evil, evil, sentence=evil, csv=table, csv_name=evil, seconds=1)
    left_out = Answer("b", evil, evil, evil, reason=evil)
    found = Page(page({"data set": evil, evil: evil}, [answer, left_out]))
    assert found.count("img") == 0
    assert all(not name.startswith("on") for _, attributes in found.tags for name in attributes)
    assert "".join(found.words).count("onerror=alert(1)") >= 10


def test_published_numbers_are_of_the_same_data_set_or_say_whose():
    numbers = Beside("deephash", ["fv8192"])
    assert numbers.numbers("ukbench")[0] == "ukbench"
    name, elsewhere = numbers.numbers("sample")
    assert name == "holidays"
    assert {number.metric for number in elsewhere} == {elsewhere[0].metric}
    turned = Beside("practical_guide", turned=True).numbers("sample")[1]
    assert {number.dataset for number in turned} == {f"holidays_rotated_{a}" for a in (0, 10, 30, 90, 180)}


def places(svg: str) -> list[tuple[float, float]]:
    """Return the centres of the round marks of a chart."""
    return [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg)]


def test_curves_stand_where_their_numbers_are():
    points = (Point(32, 0.5, 0.4, 0.6), Point(64, 0.6, 0.5, 0.7), Point(128, 0.7, 0.6, 0.8))
    svg = curves([Series("itq", points)], "bits", "mAP", log=True)
    at = places(svg)
    (x0, y0), (x1, y1), (x2, y2) = at
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert y0 > y1
    band = np.array(re.findall(r"([\d.]+) ([\d.]+)", re.search(r'd="M([^Z"]*)Z" fill', svg)[1]), float)
    below, above = band[:, 1].max(), band[:, 1].min()
    assert above < y2 < y0 < below
    assert y0 - band[0, 1] == pytest.approx(y0 - y1, abs=0.2), (
        "an interval of 0.1 is as high as a step of 0.1"
    )
    for number in ("32", "64", "128", "0.4", "0.8"):
        assert f">{number}</text>" in svg


def test_marks_stand_where_their_numbers_are():
    svg = marks([Series("a", (Point(0, 0.2, 0.1, 0.3),)), Series("b", (Point(0, 0.4),))], "mAP")
    left, width = map(float, re.search(r'<rect x="([\d.]+)" y="\d+" width="([\d.]+)"', svg).groups())
    assert places(svg)[0][0] == pytest.approx(left + width / 2, abs=0.1)
    assert "0.200 [0.100, 0.300]" in svg
    assert ">0.400</text>" in svg


def test_numbers_below_marks_are_not_cut_off():
    svg = marks([Series("a", (Point(0, 0.63),)), Series("b", (Point(0, 0.75),))], "mAP")
    at = {text: float(x) for x, text in re.findall(r'<text x="([\d.]+)" y="114.0"[^>]*>([^<]+)<', svg)}
    assert list(at) == ["0.625", "0.65", "0.675", "0.7", "0.725", "0.75"]
    assert all(LETTER * len(text) / 2 <= x <= WIDTH - LETTER * len(text) / 2 for text, x in at.items())


def test_a_single_number_can_be_drawn():
    assert places(curves([Series("a", (Point(3, 0.5, 0.5, 0.5),))], "x", "y"))
    assert places(marks([Series("a", (Point(0, 0.0, 0.0, 0.0),))], "y"))


def test_columns_decide_what_is_drawn():
    rows = [
        {
            "method": m,
            "distance": "hamming",
            "bits": b,
            "metric": "mAP",
            "value": "0.5",
            "low": "0.4",
            "high": "0.6",
        }
        for m in ("itq", "lsh")
        for b in ("32", "64")
    ]
    (picture,) = pictures(rows)
    assert [label for _, label in picture.legend] == ["itq", "lsh"]
    assert "code length [bits]" in picture.svg
    assert not pictures([row for row in rows if row["bits"] == "32"])[0].legend
    pairs = [
        {"chain": c, "what": "mean of pairs", "query": "", "distance": d, "low": "0.1", "high": "1"}
        for c, d in (("pool5", "0.9"), ("A_S", "0.7"))
    ]
    (picture,) = pictures([*pairs, {**pairs[0], "what": "single pair", "distance": "9"}])
    assert "L2 distance" in picture.svg
    assert "9.000" not in picture.svg
    variants = [{"variant": v, "value": "0.5", "ratio": r} for v, r in (("a", "1"), ("b", "0.9"))]
    assert not pictures(variants)[0].legend, "what stands behind the value is no axis"
    [picture] = pictures([{"variant": "a", "metric": "mAP", "value": "0.5"}])
    assert "mean average precision" in picture.svg
    two = [{**row, "metric": metric} for row in rows for metric in ("mAP", "recall@10")]
    assert len(pictures(two)) == 2


def test_points_that_make_no_curve_are_rows():
    of_two_lengths = [
        {"method": "float", "bits": "65536", "metric": "mAP", "value": "0.9"},
        {"method": "itq", "bits": "256", "metric": "mAP", "value": "0.8"},
    ]
    (picture,) = pictures(of_two_lengths)
    assert not picture.legend
    assert len(places(picture.svg)) == 1, "the other one is a square"
    assert ">float</text>" in picture.svg


def test_a_picture_says_what_its_rows_share_where_others_differ():
    """Of a million: the recall among so many that only simulated distractors reach."""
    rows = [
        {"method": method, "distractors are": kind, "images": images, "metric": metric, "value": "0.5"}
        for method in ("itq", "lsh")
        for kind, images, metric in (
            ("measured", "684", "mAP"),
            ("simulated", "10384", "mAP"),
            ("simulated", "10384", "recall@1000"),
            ("simulated", "1000384", "recall@1000"),
        )
    ]
    _, recall = pictures(rows)
    assert [label for _, label in recall.legend] == ["itq, simulated", "lsh, simulated"]
    assert ">10.4k</text>" in recall.svg
    assert ">1M</text>" in recall.svg


def test_parts_of_a_table_are_drawn_apart():
    """As the table of margins is: fine-tuning along its iterations, then every layer after it."""
    head = {"metric": "recall@10", "value": "0.5"}
    curve = [
        {"part": "curve", "layer": "", "variant": variant, "iterations": iterations, **head}
        for variant in ("dual", "single")
        for iterations in ("0", "500")
    ]
    layers = [
        {"part": "layers", "layer": layer, "variant": variant, "iterations": iterations, **head}
        for variant, iterations in (("before", "0"), ("dual", "500"), ("single", "500"))
        for layer in ("1", "2")
    ]
    along, by_layer = pictures([*curve, *layers])
    assert [label for _, label in along.legend] == ["dual", "single"]
    assert "iterations of fine-tuning" in along.svg
    assert [label for _, label in by_layer.legend] == ["before", "dual", "single"]
    assert "layer of the stack" in by_layer.svg
    names = [{**row, "layer": f"features.{row['layer']}"} for row in layers[:2]]
    assert ">features.2</text>" in pictures(names)[0].svg, (
        "layers of a network have names, and lie along no axis"
    )
    (of_one_layer,) = pictures([row for row in layers if row["layer"] == "1"])
    assert all(f">{variant}</text>" in of_one_layer.svg for variant in ("before", "dual", "single"))


def test_no_two_series_look_alike():
    assert len({style(number) for number in range(56)}) == 56


def colours(scheme: str) -> dict[str, np.ndarray]:
    """Return the colours of the page, float [3] of linear sRGB, in ``light`` or ``dark``."""
    css = pages.STYLE.read_text()
    start = css.index("prefers-color-scheme: dark") if scheme == "dark" else 0
    found: dict[str, np.ndarray] = {}
    for name, value in re.findall(r"--(\w+): #([0-9a-f]{6})", css[start:]):
        parts = np.array([int(value[i : i + 2], 16) for i in (0, 2, 4)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        found.setdefault(name, linear)
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_seen_and_told_apart(scheme: str):
    """Contrast as WCAG 2.2 asks; differences in CIE Lab as protanopes and deuteranopes see them."""
    found = colours(scheme)

    def contrast(name: str) -> float:
        low, high = sorted(found[n] @ [0.2126, 0.7152, 0.0722] + 0.05 for n in (name, "paper"))
        return high / low

    assert min(contrast(name) for name in ("ink", "quiet", "link")) >= 4.5
    series = [f"s{number}" for number in range(8)]
    assert min(contrast(name) for name in series) >= 3
    for seen in (np.eye(3), PROTANOPIA, DEUTERANOPIA):
        lab = np.array([to_lab(seen @ found[name]) for name in series])
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=2)[np.triu_indices(8, 1)]
        assert apart.min() >= 10, apart.min()


#: Machado, Oliveira and Fernandes, IEEE TVCG 15 (2009): severity 1, linear sRGB.
PROTANOPIA = np.array(
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
)
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)


def to_lab(linear: np.ndarray) -> np.ndarray:
    """CIE Lab of linear sRGB, white point D65."""
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    ratio = to_xyz @ np.clip(linear, 0, 1) / np.array([0.95047, 1, 1.08883])
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize(
    "value", ["a b", "it's", "x\\", "\\'", "a=b,{c}", "[1]", "/1/2e5", "./null", "a/b.pt"]
)
def test_quoted_values_come_back(value: str):
    assert compose([f"paths.data_dir={quoted(value)}"]).paths.data_dir == value


def test_a_path_is_shown_without_quotes_in_quotes():
    assert quoted("/weights/squeezenet1_0.pt") == "/weights/squeezenet1_0.pt"
    assert quoted("true") == "'true'"
