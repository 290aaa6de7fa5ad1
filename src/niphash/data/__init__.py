"""What is photographed: photos, data sets with their ground truth, views of photos, downloads."""

from niphash.lazy import exports

__getattr__, __all__ = exports(
    __name__,
    {
        "images": ("Box", "ImageSet", "View", "as_image_set"),  # photos by id
        "decode": ("UnreadableImage", "read_photo"),  # a file to an RGB picture
        "task": ("Relevance", "RetrievalTask"),  # database, queries, what is relevant
        "dataset": ("DataSet",),  # the contract of a data set
        "sets.folder": ("FolderData",),  # the user's own photos
        "sets.held_out_views": ("HeldOutViews",),  # what constants are chosen on
        "sets.sample": ("SampleData",),  # drawn at first use, no network
        "sets.landmarks": ("LandmarkData",),  # Oxford5k, Paris6k
        "sets.revisited": ("RevisitedData",),  # ROxford, RParis
        "sets.holidays": ("HolidaysData",),  # INRIA Holidays
        "sets.ukbench": ("UKBenchData",),  # UKBench
        "sets.smvs": ("StanfordMobileData",),  # Stanford Mobile Visual Search
        "sets.distractors": ("DistractorSet", "add_distractors", "with_distractors"),  # up to a million
        "pictures.views": ("RandomView", "RotatedDisc", "Scaled", "Composed"),  # a photo seen otherwise
        "pictures.strong_views": ("StrongView",),  # what a backbone learns from
    },
)
