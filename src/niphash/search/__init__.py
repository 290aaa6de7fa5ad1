"""Bits to ranking: exact Hamming search and float search, and the ranking they hand on."""
