"""Every hashing study runs on real photos at a small size, and says what it measured."""

import csv
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from PIL import Image

from niphash.config import compose
from niphash.errors import InputError
from niphash.pipeline.run import Run, assemble
from niphash.studies.curves import PAPER_NAMES, Curve, dashes, draw_against_bits, one_panel
from niphash.studies.depth import layer_sizes
from niphash.studies.fine_tuning_curves import follow, halved_layers
from niphash.studies.hashed import HashingBench, compared_methods, hashing_bench
from niphash.studies.margins import LayerPairs, layer_reports
from niphash.studies.published_values import find_published, published, published_name
from niphash.studies.result import StudyResult
from niphash.studies.true_pairs import with_true_pairs
from tests.photos import write_objects

FISHER = ["pooling.gaussians=8", "pooling.local_dim=16", "backbone.limit=200", "backbone.longer_side=160"]
QUICK = ["hashing.max_epochs=2", "hashing.min_steps=1", "hashing.layers=[32]"]
TUNED = [*QUICK, "hashing.iterations=200"]
QUESTIONS = {
    "margins": "dual margin or single margin?",
    "triplets": "threshold sampling or uniform sampling?",
    "start": "RBM start or random start?",
}
HASHING = {"margins": "rbm_siamese", "triplets": "rbm_triplet"}
STUDIES = {
    "regularizer": [*QUICK[:2], "study.bits=[16,32]"],
    "depth": [*QUICK[:2], "study.depths=[1,2]"],
    "margins": TUNED,
    "triplets": [*TUNED, "hashing.neighbours=10"],
    "start": [*TUNED, "hashing.neighbours=10"],
    "bits": ["study.methods=[itq,lsh,niphash,niphash+hamming]", "study.bits=[8,16,512]"],
    "float_loss": ["study.methods=[itq,lsh]", "bits=16"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with labelled photos, and room for their descriptors."""
    place = tmp_path_factory.mktemp("studies")
    write_objects(place / "photos", objects=10, views=4)
    return place


def configured(place: Path, *overrides: str) -> Run:
    data = ["data=folder", f"data.root={place / 'photos'}", f"paths.data_dir={place / 'data'}"]
    return assemble(compose([*data, "bits=16", *FISHER, *overrides]), place / "run")


@pytest.fixture(scope="module")
def others(place: Path) -> Path:
    """A folder with other photos, to fit on."""
    return write_objects(place / "others", objects=12, views=2, side=150)


@pytest.fixture(scope="module")
def bench(place: Path, others: Path) -> HashingBench:
    """The photos of the place, described once, and others to fit on."""
    return hashing_bench(configured(place, f"fit.root={others}"))


def run(place: Path, name: str, *overrides: str) -> StudyResult:
    configuration = configured(place, f"experiment={name}", *STUDIES[name], *overrides)
    return configuration.part("study")(configuration)


@pytest.fixture(scope="module")
def answered(place: Path) -> Callable[[str], StudyResult]:
    """A function that runs the study of a name once."""
    return cache(lambda name: run(place, name))


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_writes_table_picture_and_sentence(
    name: str, answered: Callable[[str], StudyResult], tmp_path: Path
):
    result = answered(name)
    result.write(tmp_path)
    with (tmp_path / f"{name}.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(result.rows) > 1
    for line in lines:
        assert float(line["low"]) <= float(line["value"]) <= float(line["high"])
        assert int(line["queries"]) == 40
    assert Image.open(tmp_path / f"{name}.png").width >= 800
    assert (tmp_path / f"{name}.txt").read_text().count("\n") == 1
    said = [line for line in lines if f"{float(line['value']):.3f}" in result.sentence]
    assert len(said) >= 2, "the sentence says what the table holds"
    assert "transductive" in result.sentence
    for axes in result.figure.axes:
        assert axes.get_xlabel()
        assert axes.get_ylabel()
        assert axes.get_title()


def test_one_seed_one_result(place: Path, answered: Callable[[str], StudyResult]):
    assert run(place, "regularizer").rows == answered("regularizer").rows


def test_a_study_leaves_the_configuration_as_it_was(place: Path):
    run = configured(place, "experiment=regularizer", *STUDIES["regularizer"])
    before = run.record
    run.part("study")(run)
    assert run.record == before


def test_codes_that_cannot_be_made_are_left_out(answered: Callable[[str], StudyResult]):
    rows = answered("bits").rows
    made = {(row["method"], row["bits"]) for row in rows}
    # descriptors of 256 dimensions have no 512 directions to choose from; random hyperplanes need none
    assert made == {(name, length) for name in ("itq", "lsh", "niphash") for length in (8, 16)} | {
        ("lsh", 512)
    }
    # ... and there is no code of ITQ to compare theirs with
    bases = {(row["against"], row["difference"] is None) for row in rows if row["bits"] == 512}
    assert bases == {(None, True)}


def test_the_distance_of_every_code_is_told(answered: Callable[[str], StudyResult]):
    result = answered("bits")
    told = {(row["method"], row["distance"]) for row in result.rows}
    assert told == {
        ("itq", "hamming"),
        ("lsh", "hamming"),
        ("niphash", "asymmetric"),
        ("niphash", "hamming"),
    }
    labels = result.figure.axes[0].get_legend_handles_labels()[1]
    for method, distance in told:
        assert f"{method} ({distance})" in labels
        assert f"{method} ({distance}) 0." in result.sentence
    assert {row["against"] for row in result.rows if row["bits"] == 8} == {"itq (hamming), 8 bits"}


def test_both_distances_of_a_method_are_of_one_fit(place: Path):
    bench = hashing_bench(configured(place))
    hasher = bench.fit(["hashing=itq"])
    methods = ["itq", "itq+asymmetric", "itq+hamming"]
    rows = run(place, "float_loss", f"study.methods=[{','.join(methods)}]").rows
    found = {row["distance"]: row["value"] for row in rows[1:]}
    assert found == {name: bench.report(hasher, name).means["mAP"] for name in ("hamming", "asymmetric")}
    assert len(rows) == 3, "a method and its distance once"


def test_methods_that_know_no_such_distance_keep_their_own(place: Path):
    run = configured(place, "distance=hamming")
    assert compared_methods(run, ["pq", "niphash", "niphash+asymmetric"]) == [
        ("pq", "asymmetric"),
        ("niphash", "hamming"),
        ("niphash", "asymmetric"),
    ]


@pytest.mark.parametrize("name", ["bits", "float_loss"])
def test_by_default_like_is_compared_with_like(name: str):
    run = assemble(compose([f"experiment={name}"]), Path("run"))
    compared = compared_methods(run, run.option("study.methods"))
    for method in ("itq", "niphash"):
        assert {(method, "hamming"), (method, "asymmetric")} <= set(compared)


def test_fine_tuning_is_followed_from_one_stack(answered: Callable[[str], StudyResult]):
    rows = [row for row in answered("margins").rows if row["part"] == "curve"]
    assert [row["iterations"] for row in rows] == [0, 100, 200] * 2
    at_start = [row["value"] for row in rows if row["iterations"] == 0]
    assert at_start[0] == at_start[1]
    assert len({row["value"] for row in rows}) > 1


def test_every_layer_is_measured_before_and_after(answered: Callable[[str], StudyResult]):
    result = answered("margins")
    rows = [row for row in result.rows if row["part"] == "layers"]
    assert [(row["variant"], row["layer"], row["units"], row["metric"]) for row in rows] == [
        (name, *layer, "recall@10")  # the database holds 40 photos, so there is no recall@100
        for name in ("before", "dual margin", "single margin")
        for layer in ((1, 32), (2, 16))
    ]
    ends = {
        (row["variant"], row["iterations"]): row["value"] for row in result.rows if row["part"] == "curve"
    }
    of_top = {row["variant"]: row["value"] for row in rows if row["layer"] == 2}
    assert of_top["before"] == ends["dual margin", 0]
    assert of_top["single margin"] == ends["single margin", 200]
    for row in rows:
        assert 0.5 < row["auc"] <= 1
        assert (row["difference"] == 0) == (row["variant"] == "before") or row["variant"] != "before"
        if row["layer"] == 2:
            assert f"{row['auc']:.3f} {row['variant']}" in result.sentence
    titles = [axes.get_title() for axes in result.figure.axes]
    assert sum("ROC AUC" in title for title in titles) == 6


def test_the_area_under_the_curve_counts_pairs_in_order():
    pairs = LayerPairs(8, np.array([1.0, 2.0, 5.0]), np.array([3.0, 4.0]))
    assert pairs.auc == pytest.approx(4 / 6)


def test_the_codes_of_a_lower_layer_are_those_of_a_stack_that_ends_there(bench: HashingBench):
    stack = ["hashing=rbm_stack", *QUICK, "hashing.regularize=all", "hashing.scaling=dimension"]
    lower = layer_reports(bench, bench.fit([*stack, "bits=16"]))[0]
    alone = bench.report(bench.fit([*stack, "bits=32"]))
    np.testing.assert_array_equal(lower.per_query["mAP"], alone.per_query["mAP"])


SMALL_PAPER = [
    "setting=paper",
    "hashing.max_epochs=1",
    "hashing.min_steps=1",
    "hashing.iterations=100",
    "study.every=100",
]


def test_the_margins_of_the_paper_learn_from_half_the_objects_and_are_tested_on_the_other(
    place: Path, others: Path
):
    run = configured(place, "experiment=margins", *SMALL_PAPER, f"fit.root={others}")
    result = run.part("study")(run)
    curve = [row for row in result.rows if row["part"] == "curve"]
    assert {row["queries"] for row in curve} == {20}
    assert {row["clusters"] for row in curve} == {5}
    assert list(dict.fromkeys(row["variant"] for row in curve)) == [
        "dual margin",
        "single margin",
        "non-matching only",
    ]
    # 256 dimensions, three layers
    units = {row["layer"]: row["units"] for row in result.rows if row["part"] == "layers"}
    assert units == {1: 128, 2: 64, 3: 16}
    assert "30 true pairs of 5 other objects" in result.sentence  # of four photos each
    assert "setting of the paper" in result.figure.axes[0].get_title()


def test_true_pairs_show_one_thing_and_nothing_that_is_tested(place: Path, others: Path):
    whole = hashing_bench(configured(place, f"fit.root={others}"), views=False)
    half = with_true_pairs(whole, seed=3)
    names = np.array([name.partition("/")[0] for name in whole.bench.task.database.ids])
    rows = {row.tobytes(): name for row, name in zip(whole.database, names, strict=True)}
    learned = [rows.get(row.tobytes()) for row in half.with_views]
    assert set(learned[: len(half.photos)]) == {None}
    assert {(learned[a], learned[b]) for a, b in half.pairs} == {
        (name, name) for name in set(learned) - {None}
    }
    task = half.bench.task
    tested = {name.partition("/")[0] for name in (*task.database.ids, *task.queries.ids)}
    assert tested == set(names) - set(learned)
    for name, truth in zip(task.queries.ids, task.relevance, strict=True):
        assert {task.database.ids[i].partition("/")[0] for i in truth.relevant} == {name.partition("/")[0]}
    np.testing.assert_array_equal(half.queries, whole.queries[np.isin(names, list(tested))])


def test_the_start_of_the_paper_has_unit_weights_and_no_thresholds(place: Path):
    run = configured(place, "experiment=start", *SMALL_PAPER, "hashing.neighbours=20")
    assert run.option("hashing.recenter") == "off"
    result = run.part("study")(run)
    assert [row["variant"] for row in result.rows] == ["RBM start"] * 2 + ["random start, unit norm"] * 2
    assert "RBM start less random start, unit norm: " in result.sentence


def test_the_triplets_of_the_paper_have_several_candidates(place: Path):
    run = configured(
        place, "experiment=triplets", *SMALL_PAPER, "hashing.neighbours=20", "study.candidates=[5,8]"
    )
    rows = run.part("study")(run).rows
    ends = {row["variant"]: row["value"] for row in rows if row["iterations"] == 100}
    assert list(ends) == [
        "threshold sampling, 5 candidates",
        "threshold sampling, 8 candidates",
        "uniform sampling",
    ]
    assert len({row["value"] for row in rows if row["iterations"] == 0}) == 1


def test_variants_of_one_start_train_it_once(bench: HashingBench, monkeypatch: pytest.MonkeyPatch):
    trained = []
    fit = HashingBench.fit_first_phase
    monkeypatch.setattr(HashingBench, "fit_first_phase", lambda *words: trained.append(1) or fit(*words))
    words = ["hashing=rbm_triplet", *QUICK, "hashing.neighbours=10", "hashing.iterations=100"]
    starts: dict = {}
    follow(bench, [*words, "hashing.sampling=uniform"], 100, starts)
    follow(bench, words, 100, starts)
    assert len(trained) == 1
    follow(bench, [*words, "hashing.start=random"], 100, starts)
    assert len(trained) == 2


def test_layers_are_halved():
    assert halved_layers(8192, 64, 3) == [4096, 2048, 64]
    assert halved_layers(8192, 64, 1) == [64]
    assert halved_layers(100, 32, 3) == [48, 32, 32]


def test_every_unit_has_a_line_in_the_pictures_of_the_regulariser(answered: Callable[[str], StudyResult]):
    result = answered("regularizer")
    pictures = [np.asarray(axes.images[0].get_array()) for axes in result.figure.axes if axes.images]
    assert [picture.shape for picture in pictures] == [(16, 40)] * 3
    for picture, row in zip(pictures, [r for r in result.rows if r["bits"] == 16], strict=True):
        means = picture.mean(axis=1)
        assert (np.diff(means) > -1e-6).all()
        assert means[[0, -1]] == pytest.approx([row["least_unit"], row["greatest_unit"]], abs=1e-6)


def test_published_numbers_stand_beside_the_same_method():
    assert PAPER_NAMES["sparsity"] == ("rbm",)
    assert "none" not in PAPER_NAMES
    known = {number.method for number in published()}
    assert {name for names in PAPER_NAMES.values() for name in names} <= known


@pytest.mark.parametrize("recenter", ["fit", "index", "off"])
@pytest.mark.parametrize("name", ["margins", "triplets"])
def test_the_last_point_is_the_hasher_that_fine_tuning_gives(name: str, recenter: str, bench: HashingBench):
    settings = [word for word in STUDIES[name] if "iterations" not in word]
    overrides = [
        f"hashing={HASHING[name]}",
        *settings,
        f"hashing.recenter={recenter}",
        "hashing.iterations=100",
    ]
    last = follow(bench, overrides, 100).last
    np.testing.assert_array_equal(last.per_query["mAP"], bench.report(bench.fit(overrides)).per_query["mAP"])


def test_thresholds_move_to_the_mean_of_the_database(bench: HashingBench):
    centred, moved = (
        bench.fit(["hashing=rbm", *QUICK[:2], f"hashing.recenter={name}"]) for name in ("fit", "index")
    )
    on_fit_photos = bench.report(centred).per_query["mAP"]
    centred.recenter(bench.database)
    on_database = bench.report(centred).per_query["mAP"]
    assert (on_fit_photos != on_database).any()
    np.testing.assert_array_equal(bench.report(moved).per_query["mAP"], on_database)


def test_differences_are_paired_by_query(answered: Callable[[str], StudyResult]):
    rows = answered("float_loss").rows
    exact, *codes = rows
    assert exact["method"] == "float"
    assert exact["difference"] == 0
    for code in codes:
        assert code["difference"] == pytest.approx(code["value"] - exact["value"])
        assert code["difference_low"] <= code["difference"] <= code["difference_high"]


def test_published_numbers_are_drawn_beside_ours_and_stay_out_of_the_table(
    place: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(HashingBench, "published_as", "holidays")
    result = run(place, "bits", "study.methods=[itq]", "study.metric=mAP", "study.bits=[16]")
    drawn = {line.get_label(): line.get_ydata() for line in result.figure.axes[0].lines}
    np.testing.assert_allclose(drawn["itq, published (uth, vgg19_fc6)"], [0.367, 0.537, 0.66, 0.715])
    assert [row["bits"] for row in result.rows] == [16]
    ticks = [label.get_text() for label in result.figure.axes[0].get_xticklabels()]
    assert ticks == ["16", "32", "64", "128", "256"]


def test_published_numbers_cross_the_curves_of_fine_tuning(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(HashingBench, "published_as", "holidays")
    result = run(place, "triplets", "study.metric=mAP", "bits=64", "hashing.layers=[64]")
    drawn = {line.get_label(): line.get_ydata()[0] for line in result.figure.axes[0].lines}
    assert drawn["uth, published (uth, vgg19_fc6), 0.571"] == 0.571
    assert drawn["uth_uniform_sampling, published (uth, vgg19_fc6), 0.547"] == 0.547
    assert drawn["rbm_stack, published (uth, vgg19_fc6), 0.516"] == 0.516


def test_the_published_series_of_the_margins_is_drawn(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(HashingBench, "published_as", "holidays")
    result = run(place, "margins", "bits=64", "hashing.layers=[64]", "hashing.iterations=100")
    lines = {line.get_label(): line for line in result.figure.axes[0].lines}
    said = "{}, published (deephash, fv8192), {:.3f}".format
    names = {"deephash": 0.523, "deephash+": 0.527, "deephash+_peak": 0.537, "deephash+_single_margin": 0.233}
    for name, value in names.items():
        assert lines[said(name, value)].get_ydata()[0] == value
    dashes = [lines[said(name, names[name])].get_linestyle() for name in ("deephash+", "deephash+_peak")]
    assert len(set(dashes)) == 2


def test_the_published_series_of_another_data_set_has_a_panel_of_its_own(place: Path):
    result = run(place, "margins", "bits=64", "hashing.layers=[64]", "hashing.iterations=100")
    curves, bars = result.figure.axes[:2]
    assert not any("published" in label for label in curves.get_legend_handles_labels()[1])
    assert "another data set (holidays)" in bars.get_title()
    names = [text.get_text() for text in bars.get_yticklabels()]
    assert names == ["deephash", "deephash+", "deephash+_peak", "deephash+_single_margin"]
    assert [bar.get_width() for bar in bars.patches] == [0.523, 0.527, 0.537, 0.233]


def test_numbers_of_the_cdvs_edition_stand_beside_nothing():
    assert find_published(dataset="smvs_graphics")
    assert published_name("smvs-graphics") == ""
    assert published_name("ukbench") == "ukbench"


@pytest.mark.parametrize(("name", "asked"), QUESTIONS.items())
def test_pictures_of_fine_tuning_name_their_question(
    name: str, asked: str, answered: Callable[[str], StudyResult]
):
    assert answered(name).figure.axes[0].get_title().startswith(asked)


@pytest.mark.parametrize("name", [*QUESTIONS, "bits", "float_loss", "regularizer"])
def test_legends_cover_no_curves(name: str, answered: Callable[[str], StudyResult]):
    figure = answered(name).figure
    FigureCanvasAgg(figure).draw()
    axes = figure.axes[0]
    assert axes.get_legend().get_window_extent().x0 >= axes.get_window_extent().x1


def test_a_legend_speaks_of_published_numbers_only_where_some_are_drawn(
    place: Path, answered: Callable[[str], StudyResult], monkeypatch: pytest.MonkeyPatch
):
    def published(result: StudyResult) -> list[str]:
        labels = result.figure.axes[0].get_legend_handles_labels()[1]
        return [label for label in labels if "published" in label]

    assert published(answered("float_loss")) == []
    monkeypatch.setattr(HashingBench, "published_as", "holidays")
    result = run(place, "float_loss", "bits=32", "study.metric=mAP", "study.methods=[itq+asymmetric,itq]")
    assert "published on the whole data set, same method and bits" in published(result)
    drawn = [line for line in result.figure.axes[0].lines if line.get_xdata() == pytest.approx([0.367])]
    assert len(drawn) == 1, "beside the code that is compared as the paper's was"


def test_no_two_curves_look_alike_or_hide_each_other():
    axes = one_panel()[1]
    lengths = [32, 64]
    curves = [Curve(f"{n}", lengths, [0.5, 0.6], [(0.4, 0.6), (0.5, 0.7)]) for n in range(20)]
    published = [
        [Curve("fv", [16, 64], [0.5, 0.6], dashes=dashes(0)), Curve("fc", [64], [1], dashes=dashes(1))]
    ]
    draw_against_bits(axes, curves, published)
    handles, _ = axes.get_legend_handles_labels()
    drawn = [handle.lines[0] for handle in handles if isinstance(handle, ErrorbarContainer)]
    assert len({(line.get_color(), line.get_marker()) for line in drawn}) == 20
    assert len({line.get_color() for line in drawn}) == 20
    at = np.array([line.get_xdata() for line in drawn], float)
    assert len(np.unique(at)) == 40
    np.testing.assert_allclose(np.exp2(np.log2(at).mean(axis=0)), lengths)
    assert at[:, 0].max() < at[:, 1].min()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["16", "32", "64"]
    theirs = [line for line in axes.lines if line.get_label() in ("fv", "fc")]
    assert len({line.get_linestyle() for line in theirs}) == 2


@pytest.mark.parametrize("name", ["triplets", "start"])
def test_triplets_are_measured_as_they_were_published(name: str):
    assert compose([f"experiment={name}", "data=ukbench"]).study.metric == "mAP"
    assert find_published(paper="uth", dataset="ukbench", metric="mAP", bits=64)


def test_distractors_are_named_and_have_no_published_numbers(place: Path, tmp_path: Path):
    others = write_objects(tmp_path / "others", objects=3, views=2, side=150)
    settings = ["distractors=folder", f"distractors.root={others}", "distractors.limit=5"]
    result = run(place, "float_loss", *settings)
    said = "with 5 distractors of folder"
    assert said in result.sentence
    assert said in result.figure.axes[0].get_title()
    assert hashing_bench(configured(place, *settings), views=False).published_as == ""


def test_views_are_the_matches_of_methods_that_need_pairs(place: Path):
    bench = hashing_bench(configured(place, "fit.views=1"))
    assert len(bench.photos) == 40
    assert len(bench.with_views) == 80
    np.testing.assert_array_equal(bench.pairs, [[row, row + 40] for row in range(40)])
    np.testing.assert_array_equal(bench.with_views[:40], bench.photos)


def test_unreadable_photos_are_left_out(place: Path, tmp_path: Path):
    root = write_objects(tmp_path / "photos", objects=3, views=3)
    (root / "object01" / "view1.jpg").write_bytes(b"no photo")
    bench = hashing_bench(configured(place, f"data.root={root}", "fit.views=1"))
    assert len(bench.photos) == len(bench.queries) == len(bench.bench.task.queries) == 8
    assert bench.readable.sum() == 8
    assert len(bench.database) == 9
    assert len(bench.with_views) == 16
    assert bench.pairs.tolist() == [[row, row + 8] for row in range(8)]
    report = bench.report(bench.fit(["hashing=lsh"]))
    assert report.counts["queries"] == 8


def test_photos_of_another_folder_make_no_transductive_study(place: Path, tmp_path: Path):
    others = write_objects(tmp_path / "others", objects=4, views=2, side=150)
    bench = hashing_bench(configured(place, f"fit.root={others}"), views=False)
    assert len(bench.photos) == len(bench.with_views) == 8
    assert not bench.transductive
    assert "transductive" not in bench.title + bench.footnote


def test_layers_shrink_by_one_factor():
    assert layer_sizes(8192, 64, 1) == [64]
    assert layer_sizes(8192, 128, 2) == [1024, 128]
    assert layer_sizes(4096, 64, 3) == [1024, 256, 64]


@pytest.mark.parametrize(
    ("name", "override", "said"),
    [
        ("bits", "study.bits=[7]", "positive multiples of 8"),
        ("bits", "study.metric=best", "choose one of mAP"),
        ("bits", "study.methods=[magic,itq]", "magic is unknown; choose from bihalf"),
        ("bits", "study.methods=[none]", "none is unknown"),
        ("bits", "study.methods=[]", "choose from bihalf"),
        ("float_loss", "study.methods=[itq+cosine]", "itq[+]cosine: codes of itq are compared by hamming or"),
        ("float_loss", "study.methods=[pq+hamming]", "write pq[+]asymmetric"),
        ("float_loss", "study.methods=[itq,niphash] bits=4096", "can make such a code"),
        ("depth", "study.depths=[0]", "from 1 on"),
        ("margins", "study.every=50", "a multiple of 100"),
        ("margins", "study.losses=[tripl]", "tripl is unknown; choose from dual, single, nonmatching"),
        ("margins", "study.pairs=views", "views is unknown; choose from fit, labels"),
        ("margins", "study.pairs=labels fit.pairs=some.csv", "leave out fit.pairs"),
        ("margins", "study.depth=0", "study.depth=0"),
        ("margins", "hashing.layers=[33]", "give multiples of 8"),
        ("start", "study.random=none", "choose random or unit"),
        ("triplets", "study.candidates=[6]", "hashing.candidates=6 must be at most half"),
        ("regularizer", "study.regularizers=[foo,rbmh]", "foo is unknown; choose from none, sparsity, rbmh"),
        ("depth", "study.regularizers=[]", "study.regularizers=.*choose from none, sparsity, rbmh"),
        ("depth", "study.regularizers=[rbm]", "rbm is unknown"),
        ("bits", "study.published=[nonsense]", "nonsense is unknown; choose from alexnet_fc6"),
        ("float_loss", "study.published=[nonsense]", "nonsense is unknown"),
        ("regularizer", "study.published=[fv]", "fv is unknown"),
        ("start", "study.published=[fv8192,fv]", "fv is unknown"),
    ],
)
def test_impossible_options_are_refused(place: Path, name: str, override: str, said: str):
    with pytest.raises(InputError, match=said):
        run(place, name, *override.split())


@pytest.mark.parametrize(
    "words",
    [
        "bits study.methods=[magic]",
        "float_loss study.methods=[]",
        "depth study.regularizers=[foo]",
        "regularizer study.regularizers=[foo]",
        "margins study.published=[fv]",
        "bits study.bits=[7]",
        "regularizer hashing=itq",
        "depth hashing=none",
    ],
)
def test_unknown_names_are_refused_before_any_photo_is_described(place: Path, words: str):
    name, override = words.split()
    run = configured(place, f"experiment={name}", override, "data.root=nowhere")
    with pytest.raises(InputError, match=override.partition("=")[0]):
        run.part("study")(run)
