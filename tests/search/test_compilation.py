"""A user's first search does not wait for the compiler."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import time
import numpy as np
from niphash.search import FlatIndex, compilation

codes = np.random.default_rng(0).integers(0, 256, (400_000, 8), np.uint8)
index = FlatIndex(64)
index.add(codes)
queries = codes[::40_000]
before = index.search(queries, 5)
assert compilation._compiled is None and compilation._compiler is not None
assert compilation._compiler.wait(timeout=500) == 0
after = index.search(queries, 5)
assert compilation._compiled is not None
assert all(np.array_equal(a, b) for a, b in zip(before, after))
assert after[1][:, 0].tolist() == list(range(0, 400_000, 40_000))
dispatcher = compilation._compiled.flat.scan
assert sum(dispatcher.stats.cache_hits.values()) == 1 and not dispatcher.stats.cache_misses
"""


@pytest.mark.slow
def test_until_the_kernels_are_compiled_plain_scans_answer(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_small_search_loads_no_compiler():
    program = (
        "import sys, numpy as np\n"
        "from niphash.search import FlatIndex\n"
        "index = FlatIndex(64)\n"
        "index.add(np.zeros((1000, 8), np.uint8))\n"
        "index.search(np.zeros((5, 8), np.uint8), 3)\n"
        "print('numba' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"
