"""Reports: names, variants, counts, intervals, files."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from niphash.data.images import ImageSet
from niphash.data.task import Relevance, RetrievalTask
from niphash.errors import InputError
from niphash.evaluation.evaluator import evaluate, results_table
from niphash.search.ranking import rank_codes, ranking_from_lists


def small_task(average_precision: str = "trapezoid") -> RetrievalTask:
    images = ImageSet(tuple("abcdefghijkl"), tuple(Image.new("RGB", (4, 4)) for _ in range(12)))
    relevance = (Relevance([1, 2]), Relevance([]), Relevance([5], [6]))
    variants = {"easy": (Relevance([1]), Relevance([3]), Relevance([]))}
    return RetrievalTask(
        "t", "p", images, images.subset([0, 8, 7]), relevance, variants, average_precision=average_precision
    )


LISTS = [[1, 0, 2], [4, 3], [6, 5]]


def test_report_of_a_task_with_variants():
    task = small_task()
    report = evaluate(ranking_from_lists(LISTS, task, 12), task)
    block = json.loads(json.dumps(report.to_dict()))
    assert block["mAP"] == pytest.approx(((1 + (1 / 2 + 2 / 3) / 2) / 2 + 1) / 2)
    assert block["mAP_easy"] == pytest.approx((1 + 1 / 4) / 2)
    assert block["recall@1"] == pytest.approx((1 / 2 + 1) / 2)
    assert block["ukb"] is None  # no query has four relevant images
    assert "ukb" not in report.means
    assert block["hit_rate@1"] == pytest.approx((1 + 1) / 2)
    assert block["precision@5"] == pytest.approx((2 / 5 + 1 / 5) / 2)
    assert block["mP@5"] == pytest.approx((2 / 3 + 1) / 2)
    assert (block["queries"], block["empty_queries"]) == (2, 1)
    assert (block["queries_easy"], block["empty_queries_easy"]) == (2, 1)
    assert (block["clusters"], block["clusters_easy"]) == (2, 2)
    assert (block["ties"], block["average_precision"]) == ("expected", "trapezoid")
    assert set(block["intervals"]) == set(report.means)
    for name, (low, high) in block["intervals"].items():
        assert low <= block[name] <= high
    assert "recall@10" in block
    assert "recall@100" not in block


def test_the_convention_of_the_task_can_be_overridden():
    task = small_task()
    ranking = ranking_from_lists(LISTS, task, 12)
    assert evaluate(ranking, task, average_precision="finite").means["mAP"] == pytest.approx((5 / 6 + 1) / 2)
    with pytest.raises(InputError, match="average_precision=other"):
        evaluate(ranking, task, average_precision="other")


def test_nothing_relevant_at_all_is_null_and_counted():
    truth = [Relevance([])] * 2
    report = evaluate(ranking_from_lists([[0], [1]], truth, 3), truth)
    block = json.loads(json.dumps(report.to_dict()))
    assert block["mAP"] is None
    assert block["intervals"]["mAP"] == [None, None]
    assert (block["queries"], block["empty_queries"]) == (0, 2)


def test_queries_that_share_a_photo_are_one_cluster_and_one_cluster_has_no_interval():
    truth = [Relevance([0, 1]), Relevance([1, 2]), Relevance([])]
    ranking = ranking_from_lists([[0, 1], [3, 1], [0]], truth, 4)
    report = evaluate(ranking, truth)
    block = json.loads(json.dumps(report.to_dict()))
    assert (block["queries"], block["clusters"]) == (2, 1)
    assert report.clusters.tolist() == [0, 0, 1]
    assert block["mAP"] == pytest.approx((1 + 1 / 4) / 2)
    assert block["intervals"]["mAP"] == [None, None]
    console = Console(width=120)
    with console.capture() as capture:
        console.print(results_table({"code": report}, "t"))
    assert "[no interval]" in capture.get()


@pytest.mark.parametrize("relevant", [3, 4, 5])
def test_ukb_is_given_where_every_query_has_four_relevant_images(relevant):
    truth = [Relevance(np.arange(4) + 4 * i) for i in range(3)] + [Relevance([])]
    truth[0] = Relevance(np.arange(relevant))
    ranking = ranking_from_lists([[0, 1, 2, 3], [4, 5, 9, 6, 7], [8], []], truth, 20)
    block = evaluate(ranking, truth).to_dict()
    assert block["ukb"] == (pytest.approx((4 + 3 + 1) / 3) if relevant == 4 else None)


def test_metrics_deeper_than_the_lists_are_left_out():
    truth = [Relevance([0]), Relevance([1])]
    ranking = ranking_from_lists([[0], [0, 1]], truth, 500)
    names = evaluate(ranking, truth, depth=2).means
    assert list(names) == ["mAP", "recall@1", "hit_rate@1", "precision@1"]
    assert "recall@100" in evaluate(ranking, truth).means


def test_per_query_file(tmp_path):
    task = small_task()
    report = evaluate(ranking_from_lists(LISTS, task, 12), task)
    report.write_csv(tmp_path / "q.csv", task.queries.ids)
    with (tmp_path / "q.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["query"] for row in rows] == ["a", "i", "h"]
    assert rows[1]["mAP"] == ""
    assert float(rows[0]["mAP"]) == report.per_query["mAP"][0]
    assert list(rows[0]) == ["query", "cluster", *report.means]
    assert [int(row["cluster"]) for row in rows] == report.clusters.tolist()


def test_table_names_every_metric():
    task = small_task()
    report = evaluate(ranking_from_lists(LISTS, task, 12), task)
    console = Console(width=120)
    with console.capture() as capture:
        console.print(results_table({"descriptor": report, "code": report}, "t"))
    for text in (
        "mAP_easy",
        "hit_rate@5",
        "clusters: 2",
        "descriptor [95 % interval]",
        f"{report.means['mAP']:.4f} [",
    ):
        assert text in capture.get()


def test_one_seed_one_report():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (60, 8), np.uint8)
    truth = [Relevance(rng.choice(60, 4, replace=False)) for _ in range(60)]
    ranking = rank_codes(codes, codes, truth)
    assert evaluate(ranking, truth).to_dict() == evaluate(ranking, truth).to_dict()
