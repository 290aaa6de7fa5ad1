"""Tests of indexes use the compiled kernels from the first query on."""

import pytest

from niphash.search import compilation


@pytest.fixture(scope="session", autouse=True)
def compiled_kernels():
    compilation.compile_kernels()
