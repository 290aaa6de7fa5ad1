"""Descriptors on disk, so that a photo is described once."""
