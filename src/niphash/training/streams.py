"""Descriptors as a stream of shuffled batches, out of memory or off the disk, with bounded memory."""

import mmap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from niphash.errors import InputError
from niphash.training.rows import memory_map, release_pages

BLOCK_ROWS = 256  # read together from the disk


BUFFER_ROWS = 4096  # shuffled together in memory


class SentByName:
    """What holds ``descriptors`` [N, D]; a spawned process is sent the name of their file in their place."""

    descriptors: np.ndarray

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        array = self.descriptors
        # a process that is spawned opens a whole file map itself; parts and other arrays are sent to it
        if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.mode == "r":
            state["descriptors"] = (array.filename, array.dtype, array.shape, array.offset)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state["descriptors"], tuple):
            name, dtype, shape, offset = state["descriptors"]
            state["descriptors"] = np.memmap(name, dtype, mode="r", offset=offset, shape=shape)
        self.__dict__.update(state)


class DescriptorStream(SentByName, IterableDataset):
    """Float32 batches [B, D] of all rows, in another order every epoch.

    Blocks of consecutive rows are read in random order into a buffer and shuffled there, so a file is read
    in long runs and at most ``BUFFER_ROWS`` rows are in memory. The order is a function of ``seed`` and
    :attr:`epoch` alone. Rows that do not fill the last batch are left out of that epoch. In a distributed
    run every process takes an equal share of every batch: B is rounded down to a multiple of the processes.

    Args:
        descriptors: float [N, D], an array or a memory map.
        batch_size: B over all processes; at most N, at least one row a process.
        seed: Determines every order.

    Raises:
        InputError: when it is read, there are fewer descriptors than processes.
    """

    def __init__(self, descriptors: np.ndarray, batch_size: int, seed: int) -> None:
        self.descriptors = descriptors
        self.asked = batch_size
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
        return max(min(self.asked, len(self.descriptors)) // processes, 1) * processes

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


class DescriptorBatches(pl.LightningDataModule):
    """The batches a stage learns from: descriptors as they come out of the frozen stages below it.

    Args:
        descriptors: float [N, D], an array or a memory map.
        batch_size: Rows of a batch, over all processes.
        seed: Determines the order of the rows.
        below: Applied to every batch on the device where the stage learns.
    """

    def __init__(
        self, descriptors: np.ndarray, batch_size: int, seed: int, below: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.stream = DescriptorStream(descriptors, batch_size, seed)
        self.below = below

    def train_dataloader(self) -> DataLoader:
        """Return the batches of the trainer's current epoch."""
        self.stream.epoch = self.trainer.current_epoch if self.trainer is not None else 0
        return DataLoader(self.stream, batch_size=None)

    @torch.no_grad()
    def on_after_batch_transfer(self, batch: torch.Tensor, dataloader_idx: int) -> torch.Tensor:
        """Send the batch [B, D] through the frozen stages."""
        return batch if self.below is None else self.below.to(batch.device)(batch)

    def teardown(self, stage: str) -> None:
        """Bring the frozen stages back from the device; the trainer brings only what it trained."""
        if self.below is not None:
            self.below.to("cpu")


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


class SampledBatches(pl.LightningDataModule):
    """Sampled pairs or triplets for a trainer."""

    def __init__(self, draw: Draw, length: int, seed: int) -> None:
        super().__init__()
        self.stream = SampledStream(draw, length, seed)

    def train_dataloader(self) -> DataLoader:
        """Return the batches of the trainer's current epoch."""
        self.stream.epoch = self.trainer.current_epoch if self.trainer is not None else 0
        return DataLoader(self.stream, batch_size=None)
