"""The questions of the papers, each a small function over the rooms."""
