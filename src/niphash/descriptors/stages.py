"""Stages after a describer: centring, PCA whitening."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from niphash.data.images import ImageSet
from niphash.descriptors.describer import (
    ComposedDescriber,
    Described,
    Describer,
    DescribeReport,
    check_finite,
    fingerprint,
    unreadable,
)
from niphash.descriptors.pca import fit_pca
from niphash.errors import InputError


class Stage(ABC):
    """Descriptor to descriptor, fitted without labels."""

    #: Components of a descriptor afterwards; ``None``: as many as before.
    dim: int | None = None

    @abstractmethod
    def fit(self, descriptors: np.ndarray) -> None:
        """Fit on float32 [N, D]."""

    @abstractmethod
    def __call__(self, descriptors: np.ndarray) -> np.ndarray:
        """Return float32 [N, dim], L2-normalised, of float32 [N, D]."""

    @abstractmethod
    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return everything fitted."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what :meth:`state_dict` returned."""

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain values that determine the output, for the fingerprint."""


def no_stage() -> None:
    """Return no stage at all (``whitening=none``)."""


class Centring(Stage):
    """Subtraction of the fit set's mean, then L2.

    Activations of a network are not negative, so all its descriptors are similar; without what they have in
    common the differences count, and a fusion with descriptors of another kind is a balanced one.
    """

    def __init__(self) -> None:
        self.mean: torch.Tensor | None = None

    def fit(self, descriptors: np.ndarray) -> None:
        """Fit on float32 [N, D]."""
        self.mean = torch.from_numpy(descriptors.mean(0, dtype=np.float64).astype(np.float32))

    def __call__(self, descriptors: np.ndarray) -> np.ndarray:
        """Return float32 [N, D], L2-normalised, of float32 [N, D]."""
        if self.mean is None:
            raise RuntimeError("the centring has not been fitted")
        centred = torch.from_numpy(np.ascontiguousarray(descriptors)) - self.mean
        return torch.nn.functional.normalize(centred, dim=1).numpy()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return ``mean`` [D]; nothing before the fit."""
        return {} if self.mean is None else {"mean": self.mean}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what :meth:`state_dict` returned.

        Raises:
            InputError: there is no mean of a descriptor among the tensors.
        """
        mean = state.get("mean")
        if mean is None or mean.ndim != 1:
            raise InputError("the stored tensors hold no mean for whitening=centring; train the model again")
        self.mean = mean.float()

    @property
    def config(self) -> dict[str, Any]:
        """Plain values that determine the output; the mean is in the tensors."""
        return {"stage": "centring"}


class PCAWhitening(Stage):
    """Projection onto principal axes, each divided by its standard deviation, then L2.

    Jegou & Chum (ECCV 2012, section 3): it lowers the weight of components that always occur together.

    Args:
        dim: Components that are kept.
        power: Exponent of the variance that divides a component: 0.5 whitens, 0 only rotates and reduces.
        floor: Variances below this fraction of the largest count as this fraction, so that noise stays small.
    """

    dim: int

    def __init__(self, dim: int = 256, power: float = 0.5, floor: float = 1e-4) -> None:
        if dim < 1:
            raise InputError(f"whitening.dim={dim}: give 1 or more")
        self.dim, self.power, self.floor = int(dim), float(power), float(floor)
        self.mean: torch.Tensor | None = None
        self.axes: torch.Tensor | None = None

    def fit(self, descriptors: np.ndarray) -> None:
        """Fit on float32 [N, D].

        Raises:
            InputError: ``dim`` is more than D or N - 1.
        """
        principal = fit_pca(descriptors, self.dim, "whitening.dim")
        variances = principal.variances.clamp(min=self.floor * float(principal.variances[0]))
        self.mean, self.axes = principal.mean, principal.axes / variances[:, None].pow(self.power)

    def __call__(self, descriptors: np.ndarray) -> np.ndarray:
        """Return float32 [N, dim], L2-normalised, of float32 [N, D]."""
        if self.mean is None or self.axes is None:
            raise RuntimeError("the whitening has not been fitted")
        projected = (torch.from_numpy(np.ascontiguousarray(descriptors)) - self.mean) @ self.axes.T
        return torch.nn.functional.normalize(projected, dim=1).numpy()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return ``mean`` [D] and ``axes`` [dim, D] (scaled); nothing before the fit."""
        return {} if self.mean is None or self.axes is None else {"mean": self.mean, "axes": self.axes}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what :meth:`state_dict` returned.

        Raises:
            InputError: the tensors are those of another configuration.
        """
        mean, axes = state.get("mean"), state.get("axes")
        if mean is None or axes is None or axes.shape != (self.dim, len(mean)):
            raise InputError(f"the stored whitening is not one to whitening.dim={self.dim}")
        self.mean, self.axes = mean.float(), axes.float()

    @property
    def config(self) -> dict[str, Any]:
        """Plain values that determine the output; all the others are in the tensors."""
        return {"stage": "pca", "dim": self.dim}


class StagedDescriber(ComposedDescriber):
    """A describer and the stages after it, in order.

    Args:
        describer: Photo to descriptor.
        stages: Descriptor to descriptor; at least one.
        fit_images: The stages are fitted on so many photos at most, drawn at random.
        seed: Of that draw.
    """

    def __init__(
        self, describer: Describer, stages: Sequence[Stage], fit_images: int = 10_000, seed: int = 0
    ) -> None:
        self.describer, self.stages = describer, list(stages)
        self.fit_images, self.seed = fit_images, seed

    @property
    def dim(self) -> int:
        """Components of a descriptor after the last stage."""
        return next((stage.dim for stage in reversed(self.stages) if stage.dim), self.describer.dim)

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits over the describer's fingerprint and the fitted stages."""
        config = {"describer": self.describer.fingerprint, "stages": [stage.config for stage in self.stages]}
        fitted = {f"{i}.{k}": t for i, stage in enumerate(self.stages) for k, t in stage.state_dict().items()}
        return fingerprint(config, fitted, ("torch",))

    def fit(self, images: ImageSet) -> None:
        """Fit the describer, then each stage on what the one before it gives for these photos.

        Raises:
            InputError: no photo can be read, too few for a stage, or NaN in a descriptor.
        """
        self.describer.fit(images)
        rows = np.random.default_rng(self.seed).permutation(len(images))[: self.fit_images]
        drawn, report = images.subset(np.sort(rows).tolist()), DescribeReport()
        descriptors = self.describer.describe(drawn, report)
        read = np.setdiff1d(np.arange(len(drawn)), [skipped.row for skipped in report.skipped])
        if not len(read):
            raise InputError(f"{unreadable(report.skipped, len(drawn))}; give other photos (fit.root)")
        descriptors = descriptors[read]
        check_finite(descriptors, [drawn.ids[row] for row in read])
        for stage in self.stages:
            stage.fit(descriptors)
            descriptors = stage(descriptors)

    def batches(self, images: ImageSet) -> Iterator[Described]:
        """Describe ``images`` batch by batch, in order, reading each photo once."""
        for batch in self.describer.batches(images):
            descriptors = batch.descriptors
            if len(descriptors):
                for stage in self.stages:
                    descriptors = stage(descriptors)
            else:
                descriptors = np.empty((0, self.dim), np.float32)
            yield replace(batch, descriptors=descriptors)

    @property
    def parts(self) -> dict[str, Any]:
        """The describer, ``stage0``, ``stage1``, ..."""
        return {"describer": self.describer} | {f"stage{i}": stage for i, stage in enumerate(self.stages)}
