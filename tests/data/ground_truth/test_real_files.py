"""The real ground truth beside the checkout: sizes, boxes, and agreement of its two forms."""

from pathlib import Path

import pytest

from niphash.data.ground_truth.holidays import holidays_groups, read_holidays_list
from niphash.data.ground_truth.matlab import read_matlab_truth
from niphash.data.ground_truth.oxford_text import read_oxford_text
from niphash.data.ground_truth.ranked_lists import read_holidays_results, write_holidays_results

pytestmark = pytest.mark.shared


@pytest.fixture
def truth(shared: Path) -> Path:
    return shared / "data" / "ground_truth"


def test_oxford_text_files_agree_with_the_matlab_file_query_by_query(truth: Path) -> None:
    matlab = read_matlab_truth(truth / "gnd_oxford5k.mat")
    text = read_oxford_text(truth / "oxford5k_anonymised")
    assert matlab.images is not None
    assert len(matlab.images) == 5062
    assert len(matlab.queries) == len(text.queries) == 55
    for one, other in zip(matlab.queries, text.queries, strict=True):
        assert one.box == other.box
        assert len(set(one.relevant)) == len(set(other.relevant)) == len(one.relevant)
        assert len(set(one.junk)) == len(set(other.junk)) == len(one.junk)
        assert one.image in one.relevant
        assert other.image in other.relevant


def test_oxford_shuffled_ids_are_a_renaming_of_the_real_names(truth: Path) -> None:
    """Each anonymous id plays, over all queries, the part of one real name."""

    def patterns(queries: tuple) -> list[tuple]:
        seen: dict[str, list[tuple[int, str]]] = {}
        for number, query in enumerate(queries):
            for label in ("relevant", "junk"):
                for name in getattr(query, label):
                    seen.setdefault(name, []).append((number, label))
        return sorted(tuple(sorted(pattern)) for pattern in seen.values())

    matlab = read_matlab_truth(truth / "gnd_oxford5k.mat")
    text = read_oxford_text(truth / "oxford5k_anonymised")
    assert patterns(matlab.queries) == patterns(text.queries)


def test_oxford_queries_are_the_landmarks_in_order(truth: Path) -> None:
    text = read_oxford_text(truth / "oxford5k_anonymised")
    assert [query.name for query in text.queries[:6]] == [
        *(f"all_souls_{i}" for i in range(1, 6)),
        "ashmolean_1",
    ]
    matlab = read_matlab_truth(truth / "gnd_oxford5k.mat")
    assert matlab.queries[0].image == "all_souls_000013"
    assert matlab.queries[0].box == (136.5, 34.1, 648.5, 955.7)


def test_paris(truth: Path) -> None:
    paris = read_matlab_truth(truth / "gnd_paris6k.mat")
    assert paris.images is not None
    assert (len(paris.images), len(paris.queries)) == (6392, 55)
    assert paris.queries[0].image == "paris_defense_000605"
    assert all(query.image in query.relevant and query.box is not None for query in paris.queries)


def test_holidays_names_list_and_matlab_file_agree(truth: Path) -> None:
    matlab = read_matlab_truth(truth / "gnd_holidays.mat")
    names = read_holidays_list(truth / "holidays_images.dat")
    assert matlab.images == names
    assert len(names) == 1491
    groups = holidays_groups(names)
    assert len(groups) == len(matlab.queries) == 500
    assert sum(len(others) for others in groups.values()) == 991
    for query in matlab.queries:
        assert groups[query.image] == tuple(sorted(query.relevant))
        assert query.junk == (query.image,)


def test_holidays_results_are_read_and_written(truth: Path, tmp_path: Path) -> None:
    results = read_holidays_results(truth / "peng_result.txt")
    assert len(results) == 500
    assert all(len(ranked.images) == 10 for ranked in results)
    assert results[0].query == results[0].images[0] == "100000.jpg"
    write_holidays_results(tmp_path / "again.txt", results)
    assert read_holidays_results(tmp_path / "again.txt") == results
    original = (truth / "peng_result.txt").read_text().splitlines()
    assert [line.split() for line in (tmp_path / "again.txt").read_text().splitlines()] == [
        line.split() for line in original
    ]
