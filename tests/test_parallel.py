"""Work ahead: order, bound, errors."""

import threading
import time

import pytest

from niphash.parallel import map_ahead


def test_results_keep_their_order():
    def slow_when_even(i: int) -> int:
        time.sleep(0.002 * (i % 2 == 0))
        return i * i

    assert list(map_ahead(slow_when_even, range(50), workers=4, ahead=8)) == [i * i for i in range(50)]


def test_runs_no_further_ahead_than_allowed():
    drawn = 0

    def count(items):
        nonlocal drawn
        for item in items:
            drawn += 1
            yield item

    results = map_ahead(lambda i: i, count(range(100)), workers=2, ahead=5)
    for taken in range(20):
        next(results)
        assert drawn <= taken + 1 + 5


def test_an_error_reaches_the_caller_and_ends_the_threads():
    def fail(i: int) -> int:
        if i == 3:
            raise ValueError("three")
        return i

    before = threading.active_count()
    with pytest.raises(ValueError, match="three"):
        list(map_ahead(fail, range(100), workers=2))
    assert threading.active_count() == before
