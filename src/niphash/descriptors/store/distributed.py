"""Photos dealt out to several processes by Lightning's ``predict``, brought together in the store."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from niphash.data.images import ImageSet
from niphash.descriptors.describer import Describer, DescribeReport
from niphash.descriptors.store.store import DescriptorStore, StoredDescriptors, checksums, describe_to_store
from niphash.training.callbacks import SpawnedProcess, spawned_errors
from niphash.training.trainer import quiet

#: Photos that a process describes at a time, and a shard it writes.
BLOCK = 128


def describe_distributed(
    describer: Describer,
    images: ImageSet,
    store: DescriptorStore,
    trainer: Callable[..., pl.Trainer],
    report: DescribeReport | None = None,
) -> StoredDescriptors:
    """Return what :func:`describe_to_store` would, described by several processes.

    Args:
        describer: Fitted; must be picklable where the trainer spawns its processes.
        images: N photos.
        store: The store of ``describer``, on a disk that all processes see.
        trainer: Makes the Lightning trainer that says which processes there are (``conf/trainer``).
        report: When given, unreadable photos are entered there and their rows are NaN.

    Raises:
        UnreadableImage: a photo cannot be read and no ``report`` was given.
    """
    store.refresh()
    keys, unreadable = checksums(images)
    absent = np.setdiff1d(np.flatnonzero(store.find(keys) < 0), list(unreadable))
    if len(absent):
        with quiet():
            runner = trainer(logger=False, enable_checkpointing=False, callbacks=[SpawnedProcess()])
        # as many blocks as keep all processes busy to the end, of BLOCK photos at most
        blocks = np.array_split(absent, runner.world_size * -(-len(absent) // (BLOCK * runner.world_size)))
        blocks = [block for block in blocks if len(block)]
        loader: DataLoader = DataLoader(blocks, batch_size=None)  # type: ignore[arg-type]  # a list will do
        with quiet(), spawned_errors():
            runner.predict(_Describing(describer, images, store), loader, return_predictions=False)
    return describe_to_store(describer, images, store, report)


class _Describing(pl.LightningModule):
    """Describes blocks of rows into the store; there is nothing to learn."""

    def __init__(self, describer: Describer, images: ImageSet, store: DescriptorStore) -> None:
        super().__init__()
        self.describer, self.images, self.store = describer, images, store

    def predict_step(self, rows: Any, batch_index: int) -> None:
        """Describe the photos at ``rows``; unreadable ones are reported by whoever reads the store."""
        describe_to_store(self.describer, self.images.subset(rows.tolist()), self.store, DescribeReport())

    def on_predict_end(self) -> None:
        """Wait until every process has written its last block."""
        self.trainer.strategy.barrier()
