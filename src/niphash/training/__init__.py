"""How anything learns: trainer, fitting, callbacks, streams, loggers. Knows no photo and no bit."""

from niphash.lazy import exports

__getattr__, __all__ = exports(
    __name__,
    {
        "trainer": ("TrainerFactory", "stage_trainers"),  # what conf/trainer calls
        "fit_data": ("FitData",),  # what a stage learns from
        "fitting": ("fit_module",),  # one LightningModule, resumable
        "stage": ("Stage",),  # its name, hyperparameters and loss
        "callbacks": ("EpochCheckpoint", "StageProgress"),  # checkpoint and progress of a stage
        "streams": ("StageBatches", "DescriptorBatches", "SampledBatches"),  # shuffled batches
        "view_whitening": ("fit_view_whitening",),  # directions that views do not change
        "loggers": ("CSVLogger", "TensorBoardLogger", "wandb_logger"),  # experiment loggers
    },
)
