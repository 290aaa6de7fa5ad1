"""A folder that holds an index, the photos' names and checksums, and the model that made the codes."""

from niphash.lazy import exports

__getattr__, __all__ = exports(
    __name__,
    {
        "collection": ("Collection",),  # the folder: open, add, remove, search
        "changes": ("Changes",),  # what adding did
        "answers": ("Answer", "Match"),  # what a search returns
        "duplicates": ("Group", "duplicate_groups"),  # photos that are nearly the same
    },
)
