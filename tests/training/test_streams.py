import mmap
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from niphash.errors import InputError
from niphash.training import streams as stream
from niphash.training.fit_data import FitData
from niphash.training.fitting import fit_module
from niphash.training.rows import release_pages
from niphash.training.streams import DescriptorBatches, DescriptorStream


@pytest.fixture
def rows() -> np.ndarray:
    """Row i holds i in its first component."""
    values = np.random.default_rng(0).standard_normal((1003, 4)).astype(np.float32)
    values[:, 0] = np.arange(1003)
    return values


def order(batches: DescriptorStream) -> list[int]:
    return [int(i) for batch in batches for i in batch[:, 0]]


def test_an_epoch_gives_every_row_at_most_once_in_whole_batches(rows):
    batches = DescriptorStream(rows, 100, seed=0)
    sizes = [len(batch) for batch in batches]
    assert sizes == [100] * 10 == [100] * len(batches)
    seen = order(batches)
    assert len(set(seen)) == len(seen) == 1000
    for batch in batches:
        assert batch.dtype == torch.float32
        assert np.array_equal(batch.numpy(), rows[batch[:, 0].long().numpy()])


def test_the_order_depends_on_seed_and_epoch_alone(rows):
    first, second = DescriptorStream(rows, 100, seed=3), DescriptorStream(rows, 100, seed=3)
    torch.manual_seed(1)
    assert order(first) == order(second)
    second.epoch = 1
    assert order(first) != order(second)
    assert order(first) != order(DescriptorStream(rows, 100, seed=4))


def test_rows_are_mixed_across_blocks_and_buffers(rows, monkeypatch):
    monkeypatch.setattr(stream, "BLOCK_ROWS", 16)
    monkeypatch.setattr(stream, "BUFFER_ROWS", 256)
    seen = np.array(order(DescriptorStream(rows, 50, seed=0)))
    assert len(set(seen)) == 1000
    assert abs(np.corrcoef(np.arange(1000), seen)[0, 1]) < 0.2
    assert np.mean(np.abs(np.diff(seen)) == 1) < 0.1


def test_few_rows_are_one_batch(rows):
    assert [len(batch) for batch in DescriptorStream(rows[:7], 100, seed=0)] == [7]


def test_processes_share_every_batch(rows, monkeypatch):
    whole = [set(batch[:, 0].tolist()) for batch in DescriptorStream(rows, 100, seed=0)]
    shares = []
    for rank in range(2):
        monkeypatch.setattr(stream, "process_place", lambda rank=rank: (rank, 2))
        shares.append([set(batch[:, 0].tolist()) for batch in DescriptorStream(rows, 100, seed=0)])
    for batch, left, right in zip(whole, *shares, strict=True):
        assert len(left) == len(right) == 50
        assert left | right == batch


@pytest.mark.parametrize(
    ("batch_size", "processes", "share"), [(3, 2, 1), (1, 2, 1), (100, 3, 33), (5000, 2, 501)]
)
def test_the_shares_of_a_batch_are_equal(rows, monkeypatch, batch_size, processes, share):
    seen = []
    for rank in range(processes):
        monkeypatch.setattr(stream, "process_place", lambda rank=rank: (rank, processes))
        batches = DescriptorStream(rows, batch_size, seed=0)
        sizes = [len(batch) for batch in batches]
        assert sizes == [share] * (len(rows) // (share * processes)) == [share] * len(batches)
        seen += order(batches)
    assert len(set(seen)) == len(seen)


def test_more_processes_than_rows_are_refused(rows, monkeypatch):
    monkeypatch.setattr(stream, "process_place", lambda: (0, 8))
    with pytest.raises(InputError, match="7 fit descriptors are too few for 8 processes"):
        len(DescriptorStream(rows[:7], 100, seed=0))


def test_float16_file_is_read_in_blocks_and_sent_by_name(rows, tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, rows.astype(np.float16))
    mapped = np.load(path, mmap_mode="r")
    batches = DescriptorStream(mapped, 100, seed=0)
    sent = pickle.dumps(batches)
    assert len(sent) < 2000
    for here, there in zip(batches, pickle.loads(sent), strict=True):
        assert here.dtype == torch.float32
        assert torch.equal(here, there)
    part = DescriptorStream(mapped[10:500], 100, seed=0)
    for here, there in zip(part, pickle.loads(pickle.dumps(part)), strict=True):
        assert torch.equal(here, there)


def resident_pages(path) -> int:
    """Resident KiB of the mapping of ``path`` in this process."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.endswith(str(path)))
    return next(int(line.split()[1]) for line in lines[start:] if line.startswith("Rss:"))


def test_pages_of_a_file_are_given_back(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, np.ones((2000, 512), np.float32))
    mapped = np.load(path, mmap_mode="r")
    assert isinstance(mapped.base, mmap.mmap)
    assert mapped.sum() == 2000 * 512
    before = resident_pages(path)
    release_pages(mapped[100:])
    assert resident_pages(path) < before / 4
    assert mapped.sum() == 2000 * 512
    release_pages(np.ones(3))


def test_frozen_stages_are_applied_to_every_batch_of_a_large_set(rows, monkeypatch):
    monkeypatch.setattr("niphash.training.streams.KEPT_BYTES", 0)
    batches = DescriptorBatches(FitData(rows), 100, seed=0, below=torch.nn.Linear(4, 2))
    batch = next(iter(batches.train_dataloader()))
    passed = batches.on_after_batch_transfer(batch, 0)
    assert passed.shape == (100, 2)
    assert not passed.requires_grad
    assert torch.equal(passed, batches.below(batch))
    assert DescriptorBatches(FitData(rows), 100, seed=0).on_after_batch_transfer(batch, 0) is batch


class Recorded(torch.nn.Linear):
    """A frozen stage that notes what is done with it."""

    done: tuple[str, ...] = ()

    def to(self, device: torch.device | str) -> "Recorded":
        self.done += (f"to {device}",)
        return super().to(device)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.done += ("forward",)
        return super().forward(batch)


class Mean(pl.LightningModule):
    """Learns the mean of its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.nn.Parameter(torch.zeros(2))

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        return (batch - self.mean).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def test_frozen_stages_are_applied_once_to_a_small_set(rows):
    below = torch.nn.Linear(4, 2)
    batches = DescriptorBatches(FitData(rows), 100, seed=0, below=below)
    assert batches.below is None
    with torch.no_grad():
        torch.testing.assert_close(
            torch.from_numpy(batches.stream.descriptors), below(torch.from_numpy(rows))
        )
    batch = next(iter(batches.train_dataloader()))
    assert batch.shape == (100, 2)
    assert batches.on_after_batch_transfer(batch, 0) is batch


def test_the_fingerprint_tells_data_and_frozen_stages_apart(rows):
    below, other = torch.nn.Linear(4, 2), torch.nn.Linear(4, 2)
    found = [
        DescriptorBatches(FitData(data), 100, seed=0, below=stage).fingerprint
        for data, stage in ((rows, None), (rows + 1, None), (rows, below), (rows, other), (rows, below))
    ]
    assert len(set(found)) == 4
    assert found[2] == found[4]


@pytest.mark.parametrize("kept_bytes", [0, 2**20])
def test_held_out_rows_are_seen_in_order_behind_the_frozen_stages(rows, monkeypatch, kept_bytes):
    monkeypatch.setattr("niphash.training.streams.KEPT_BYTES", kept_bytes)
    below = torch.nn.Linear(4, 2)
    held_out = rows[:300] + 1
    batches = DescriptorBatches(FitData(rows, held_out=held_out), 100, seed=0, below=below)
    seen = torch.cat([batches.on_after_batch_transfer(batch, 0) for batch in batches.val_dataloader()])
    with torch.no_grad():
        torch.testing.assert_close(seen, below(torch.from_numpy(held_out)))
    assert DescriptorBatches(FitData(rows), 100, seed=0).val_dataloader() == []


def test_frozen_stages_are_brought_back_from_the_device(rows, monkeypatch):
    # without a GPU, only the calls can be seen: each batch takes the stage along, the end brings it back
    monkeypatch.setattr("niphash.training.streams.KEPT_BYTES", 0)
    below = Recorded(4, 2)
    batches = DescriptorBatches(FitData(rows), 500, seed=0, below=below)
    below.done = ()
    fit_module(Mean(), batches, None, "mean", 1)
    assert below.done == ("to cpu", "forward") * 2 + ("to cpu",)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_after_a_fit_on_a_gpu_everything_is_on_the_cpu(rows, monkeypatch):
    monkeypatch.setattr("niphash.training.streams.KEPT_BYTES", 0)
    below, module = torch.nn.Linear(4, 2), Mean()
    trainer = partial(pl.Trainer, accelerator="gpu", devices=1, logger=False, enable_checkpointing=False)
    fit_module(module, DescriptorBatches(FitData(rows), 500, seed=0, below=below), trainer, "mean", 1)
    assert {p.device.type for p in (*below.parameters(), *module.parameters())} == {"cpu"}
