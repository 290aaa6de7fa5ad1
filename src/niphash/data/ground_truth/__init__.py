"""Parsers of the official ground-truth formats; what they read is not believed."""
