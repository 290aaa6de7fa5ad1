"""Data sets: where their photos lie and what is relevant to what."""
