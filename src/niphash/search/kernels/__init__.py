"""The inner loops of search, compiled by numba."""
