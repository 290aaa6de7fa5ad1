"""Ranking to numbers and pictures: metrics, reports, plots."""
