"""How anything learns: trainer, fitting, callbacks, streams, loggers. Knows no photo and no bit."""

from niphash.lazy import exports

__getattr__, __all__ = exports(
    __name__,
    {
        "trainer": ("TrainerFactory", "lightning_trainer"),  # what conf/trainer calls
        "fitting": ("fit_module",),  # one LightningModule, resumable
        "callbacks": ("EpochCheckpoint", "StageProgress"),  # checkpoint and progress of a stage
        "streams": (
            "DescriptorStream",
            "DescriptorBatches",
            "SampledStream",
        ),  # batches out of memory or off disk
        "fit_data": ("FitData",),  # what is learned from
        "view_whitening": ("fit_view_whitening",),  # directions that views do not change
        "loggers": ("CSVLogger", "wandb_logger"),  # experiment loggers
    },
)
