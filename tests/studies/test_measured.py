"""What studies share."""

from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from niphash.config import compose, variant
from niphash.errors import InputError
from niphash.pipeline.run import assemble
from niphash.studies.measured import paired, prepare, selected, shared_fits
from niphash.studies.published_values import find_published, published_name


@pytest.fixture
def cfg(object_folder: Path, tmp_path: Path):
    return compose(
        [
            *("data=folder", f"data.root={object_folder}", f"paths.data_dir={tmp_path}"),
            *("backbone=squeezenet", "backbone.weights=random", "backbone.size=64", "pooling=mean"),
        ]
    )


@pytest.fixture
def run(cfg, tmp_path: Path):
    return assemble(cfg, tmp_path / "run")


def test_a_variant_takes_choices_and_values_and_leaves_the_original_alone(cfg):
    before = OmegaConf.to_yaml(cfg)
    changed = variant(cfg, ["pooling=nip", "pooling.rotations=5", "backbone.layer=features.5"])
    assert (changed.pooling.rotations, changed.pooling.scales) == (5, 10)
    assert changed.descriptor.pooling.rotations == 5
    assert changed.descriptor.backbone.layer == "features.5"
    assert changed.backbone.size == 64
    assert OmegaConf.to_yaml(cfg) == before


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("hashing.recenter=off", "off"),
        ("hashing.layers=[64,32]", [64, 32]),
        ("hashing.layers=null", None),
        ("hashing.learning_rate=1e-3", 0.001),
        ("fit.root='a b/c=d'", "a b/c=d"),
    ],
)
def test_values_of_a_variant_are_read_as_on_the_command_line(cfg, override: str, value: object):
    key = override.partition("=")[0]
    assert OmegaConf.select(variant(cfg, [override]), key) == value
    assert OmegaConf.select(compose([override]), key) == value


@pytest.mark.parametrize("override", ["pooling=meen", "pooling.rotatoins=5", "bitz=64"])
def test_a_variant_of_nothing_is_refused(cfg, override: str):
    with pytest.raises(InputError, match=override.partition("=")[0]):
        variant(cfg, [override])


def test_only_known_names_are_selected():
    assert selected({"a": 1, "b": 2}, ["b"]) == {"b": 2}
    assert selected({"a": 1, "b": 2}, None) == {"a": 1, "b": 2}
    with pytest.raises(InputError, match="choose from a, b"):
        selected({"a": 1, "b": 2}, ["c"])


def test_a_draw_of_queries_keeps_their_ground_truth(run):
    whole, drawn = prepare(run).task, prepare(run, queries=5).task
    assert len(drawn.queries) == 5
    for name, truth in zip(drawn.queries.ids, drawn.relevance, strict=True):
        original = whole.relevance[whole.queries.ids.index(name)]
        np.testing.assert_array_equal(truth.relevant, original.relevant)
    with pytest.raises(InputError, match="two queries"):
        prepare(run, queries=1)


def test_a_report_is_the_mean_of_naive_average_precisions(run):
    bench = prepare(run)
    describe = bench.describer()
    queries, database = describe(bench.task.queries), describe(bench.task.database)
    expected = []
    for query, truth in zip(queries, bench.task.relevance, strict=True):
        order = [i for i in np.argsort(-(database @ query), kind="stable") if i not in truth.junk]
        hits = [rank for rank, i in enumerate(order, 1) if i in truth.relevant]
        expected.append(np.mean([n / rank for n, rank in enumerate(hits, 1)]))
    assert bench.report(queries, database).means["mAP"] == pytest.approx(np.mean(expected), abs=1e-3)
    # a second, useless copy of the database changes nothing
    assert bench.report(queries, database, -database).means == bench.report(queries, database).means


@pytest.mark.parametrize(
    ("dataset", "distractors", "name"),
    [
        ("smvs-graphics", 0, ""),  # raw photos are not those of the CDVS edition
        ("holidays", 0, "holidays"),
        ("holidays", 5, ""),
        ("holidays", 100_071, ""),
        ("holidays", 1_000_000, "holidays+1m"),
        ("ukbench", 1_001_001, "ukbench+1m"),
    ],
)
def test_published_numbers_are_found_by_data_set_and_distractors(dataset: str, distractors: int, name: str):
    assert published_name(dataset, distractors) == name
    assert bool(find_published(dataset=name)) == bool(name)


def test_paired_differences_are_those_of_the_queries(run):
    bench = prepare(run)
    first, second = (
        bench.report(describe(bench.task.queries), describe(bench.task.database))
        for describe in (bench.describer(), bench.describer(["pooling=max"]))
    )
    change = paired(first, second, "mAP")
    assert change.mean == pytest.approx(second.means["mAP"] - first.means["mAP"])
    assert change.low <= change.mean <= change.high
    assert paired(first, first, "mAP") == (0, 0, 0)


def test_two_ways_of_fitting_one_descriptor_share_no_fit(object_folder: Path, tmp_path: Path):
    words = ["data=folder", f"data.root={object_folder}", f"paths.data_dir={tmp_path}"]
    words += ["pooling.gaussians=2", "pooling.local_dim=8"]
    with shared_fits():
        bench = prepare(assemble(compose(words), tmp_path / "run"))
        first, again, shorter = (bench.describer(o) for o in ([], [], ["pooling.iterations=1"]))
    assert first.describer is again.describer
    assert first.describer.fingerprint != shorter.describer.fingerprint
