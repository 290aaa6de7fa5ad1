"""Descriptors as a stream of shuffled batches, out of memory or off the disk, with bounded memory."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from niphash.errors import InputError
from niphash.training.fit_data import FitData
from niphash.training.rows import (
    Rows,
    SentByName,
    blocks,
    evenly_spaced,
    memory_map,
    release_pages,
    tensors_fingerprint,
)

BLOCK_ROWS = 256  # read together from the disk
BUFFER_ROWS = 4096  # shuffled together in memory
KEPT_BYTES = 256 * 2**20  # outputs of frozen stages up to this size are kept in memory
HELD_OUT_ROWS = 4096  # at most so many are looked at after an epoch


class DescriptorStream(SentByName, IterableDataset):
    """Float32 batches [B, D] of all rows, in another order every epoch.

    Blocks of consecutive rows are read in random order into a buffer and shuffled there, so a file is read
    in long runs and at most ``BUFFER_ROWS`` rows are in memory. The order is a function of ``seed`` and
    :attr:`epoch` alone. Rows that do not fill the last batch are left out of that epoch. In a distributed
    run every process takes an equal share of every batch: B is rounded down to a multiple of the processes.

    Args:
        descriptors: float [N, D], an array or a memory map.
        batch_size: B over all processes; cut down to N, raised to one row a process.
        seed: Determines every order.

    Raises:
        InputError: when it is read, there are fewer descriptors than processes.
    """

    def __init__(self, descriptors: Rows, batch_size: int, seed: int) -> None:
        self.descriptors = descriptors
        self.largest_batch = batch_size
        self.seed = seed
        self.epoch = 0

    @property
    def batch_size(self) -> int:
        """Rows of a batch over all processes of this run."""
        _, processes = process_place()
        if len(self.descriptors) < processes:
            raise InputError(
                f"{len(self.descriptors)} fit descriptors are too few for {processes} processes; "
                "ask for fewer (trainer.devices) or fit on more photos"
            )
        return max(min(self.largest_batch, len(self.descriptors)) // processes, 1) * processes

    def __len__(self) -> int:
        return len(self.descriptors) // self.batch_size

    def __iter__(self) -> Iterator[torch.Tensor]:
        rank, processes = process_place()
        for batch in self._batches(np.random.default_rng([self.seed, self.epoch])):
            yield torch.from_numpy(batch[rank::processes].astype(np.float32, copy=False))

    def _batches(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield whole batches [B, D]; what is left of a buffer begins the first batch of the next."""
        batch_size = self.batch_size
        left = np.empty((0, self.descriptors.shape[1]), self.descriptors.dtype)
        for source, order in self._buffers(rng):
            done = 0
            for end in range(batch_size - len(left), len(order) + 1, batch_size):
                drawn = source[order[done:end]]
                yield np.concatenate([left, drawn]) if len(left) else drawn
                left, done = left[:0], end
            left = np.concatenate([left, source[order[done:]]])

    def _buffers(self, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows to draw from, and the order to draw them in: at most ``BUFFER_ROWS`` at a time.

        A file is read in blocks of rows that lie side by side; rows in memory are drawn where they are.
        """
        every_row = np.arange(len(self.descriptors))
        starts = rng.permutation(every_row[::BLOCK_ROWS])
        together = BUFFER_ROWS // BLOCK_ROWS
        for first in range(0, len(starts), together):
            blocks = [slice(s, s + BLOCK_ROWS) for s in starts[first : first + together]]
            numbers = np.concatenate([every_row[block] for block in blocks])
            order = rng.permutation(len(numbers))
            if isinstance(self.descriptors, np.ndarray) and memory_map(self.descriptors) is None:
                yield self.descriptors, numbers[order]
                continue
            buffer = np.concatenate([self.descriptors[block] for block in blocks])
            release_pages(self.descriptors)
            yield buffer, order


class StageBatches(pl.LightningDataModule):
    """What a stage learns from; its hyperparameters (plain values) are saved as those of the stage are."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hexadecimal digits that tell the data, before any of the stage's own options, from other data."""


class DescriptorBatches(StageBatches):
    """The batches a stage learns from: descriptors as they come out of the frozen stages below it.

    Small sets go through the frozen stages once and are kept; large ones batch by batch, every epoch.
    Held-out rows, where there are two or more, are given to ``validation_step``, in order.

    Args:
        data: The descriptors.
        batch_size: Rows of a batch, over all processes.
        seed: Determines the order of the rows.
        below: Applied to every batch, on the device where the stage learns; takes [B, D].
    """

    def __init__(self, data: FitData, batch_size: int, seed: int, below: nn.Module | None = None) -> None:
        super().__init__()
        self.save_hyperparameters({"batch_size": batch_size, "seed": seed}, logger=False)
        self.data_fingerprint = data.fingerprint
        rows, self.below = (data.rows, None) if below is None else _below_applied(data.rows, below)
        self.below_fingerprint = "" if below is None else tensors_fingerprint(below.state_dict())
        self.stream = DescriptorStream(rows, batch_size, seed)
        held_out = np.empty((0, data.dim)) if data.held_out is None else data.held_out
        self.held_out = [
            part if below is None or self.below is not None else _applied(below, part)
            for part in evenly_spaced(held_out, HELD_OUT_ROWS).split(BLOCK_ROWS)
            if len(held_out) > 1
        ]

    @property
    def fingerprint(self) -> str:
        """See :attr:`StageBatches.fingerprint`; of the descriptors and of the frozen stages."""
        return self.data_fingerprint + self.below_fingerprint

    def train_dataloader(self) -> DataLoader:
        """Return the batches of the trainer's current epoch."""
        self.stream.epoch = self.trainer.current_epoch if self.trainer is not None else 0
        return DataLoader(self.stream, batch_size=None)

    def val_dataloader(self) -> DataLoader | list[Any]:
        """Return batches of the held-out rows, all of them to every process; none without held-out rows."""
        return DataLoader(_InOrder(self.held_out), batch_size=None) if self.held_out else []

    @torch.no_grad()
    def on_after_batch_transfer(self, batch: torch.Tensor, dataloader_idx: int) -> torch.Tensor:
        """Send the batch [B, D] through the frozen stages."""
        return batch if self.below is None else self.below.to(batch.device)(batch)

    def teardown(self, stage: str) -> None:
        """Bring the frozen stages back from the device; the trainer brings only what it trained."""
        if self.below is not None:
            self.below.to("cpu")


class _InOrder(IterableDataset):
    """Batches in order; Lightning deals the items of other data sets out to the processes."""

    def __init__(self, batches: list[torch.Tensor]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self.batches)


def _below_applied(rows: Rows, below: nn.Module) -> tuple[Rows, nn.Module | None]:
    """Return the rows to learn from and what is still to be applied to them."""
    width = _applied(below, torch.from_numpy(np.array(rows[:1], np.float32))).shape[1]
    if len(rows) * width * 4 > KEPT_BYTES:
        return rows, below
    return np.concatenate([_applied(below, torch.from_numpy(block)).numpy() for block in blocks(rows)]), None


@torch.inference_mode()
def _applied(below: nn.Module, rows: torch.Tensor) -> torch.Tensor:
    return below(rows)


def process_place() -> tuple[int, int]:
    """Return this process's number and how many there are."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


#: Makes one process's batch, a tuple of tensors, out of a random generator and the number of processes. It is
#: sent to processes that are spawned, so it can be pickled; so can a loss.
Draw = Callable[[np.random.Generator, int], Any]


class SampledStream(IterableDataset):
    """``length`` random batches an epoch, a function of ``seed``, :attr:`epoch` and the process alone.

    In a distributed run every process draws its share of a batch, rounded up.
    """

    def __init__(self, draw: Draw, length: int, seed: int) -> None:
        self.draw = draw
        self.length = length
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        rank, processes = process_place()
        generator = np.random.default_rng([self.seed, self.epoch, rank])
        for _ in range(self.length):
            yield self.draw(generator, processes)


class SampledBatches(StageBatches):
    """Sampled pairs or triplets for a trainer.

    Args:
        data: What they are sampled from.
        draw: Makes a batch.
        length: Batches an epoch.
        seed: Decides what is drawn.
    """

    def __init__(self, data: FitData, draw: Draw, length: int, seed: int) -> None:
        super().__init__()
        self.save_hyperparameters({"length": length, "seed": seed}, logger=False)
        self.data_fingerprint = data.fingerprint
        self.stream = SampledStream(draw, length, seed)

    @property
    def fingerprint(self) -> str:
        """See :attr:`StageBatches.fingerprint`; of the descriptors and the pairs."""
        return self.data_fingerprint

    def train_dataloader(self) -> DataLoader:
        """Return the batches of the trainer's current epoch."""
        self.stream.epoch = self.trainer.current_epoch if self.trainer is not None else 0
        return DataLoader(self.stream, batch_size=None)
