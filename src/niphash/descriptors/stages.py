"""Stages after a describer: centring, PCA whitening, whitening learned from views."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from niphash.data.images import ImageSet
from niphash.data.pictures.views import RandomView
from niphash.descriptors.describer import (
    ComposedDescriber,
    Described,
    Describer,
    DescribeReport,
    check_finite,
    fingerprint,
    unreadable,
)
from niphash.descriptors.pca import check_pca, fit_pca
from niphash.errors import InputError
from niphash.options import check_number
from niphash.training.fit_data import FitData
from niphash.training.rows import sample_numbers
from niphash.training.view_whitening import fit_view_whitening

log = logging.getLogger(__name__)


class Stage(ABC):
    """Descriptor to descriptor, fitted without labels."""

    #: Components of a descriptor afterwards; ``None``: as many as before.
    dim: int | None = None
    #: How many random views of each photo :meth:`fit` learns from, beside the photo; 0: none.
    views: int = 0

    def photos(self, count: int) -> int:
        """Return how many of ``count`` fit photos :meth:`fit` learns from."""
        return count

    def check(self, dim: int, count: int) -> None:  # noqa: B027 - nothing to refuse is a fair answer
        """Refuse what :meth:`fit` could not do, before any photo is described.

        Args:
            dim: Components of a descriptor before the stage.
            count: Number of fit photos.

        Raises:
            InputError: it could not.
        """

    @abstractmethod
    def fit(self, data: FitData) -> None:
        """Fit on float32 rows [N, D]; where :attr:`views` is not 0, each photo is paired with its views."""

    @abstractmethod
    def transform(self, descriptors: torch.Tensor) -> torch.Tensor:
        """Return float32 [N, dim], L2-normalised, of float32 [N, D]."""

    def __call__(self, descriptors: np.ndarray) -> np.ndarray:
        """Return float32 [N, dim], L2-normalised, of float32 [N, D]."""
        return self.transform(torch.from_numpy(np.ascontiguousarray(descriptors))).numpy()

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

    def fit(self, data: FitData) -> None:
        """Fit on float32 rows [N, D]."""
        self.mean = torch.from_numpy(np.asarray(data.rows).mean(0, dtype=np.float64).astype(np.float32))

    def transform(self, descriptors: torch.Tensor) -> torch.Tensor:
        """Return float32 [N, D], L2-normalised, of float32 [N, D]."""
        if self.mean is None:
            raise RuntimeError("the centring has not been fitted")
        return torch.nn.functional.normalize(descriptors - self.mean, dim=1)

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


class Projection(Stage):
    """Projection of x - mean onto axes, then L2; a sub-class learns mean and axes, and scales them.

    Args:
        dim: Components that are kept.
    """

    dim: int

    def __init__(self, dim: int) -> None:
        self.dim = check_number("dim", dim, least=1, whole=True, group="whitening")
        self.mean: torch.Tensor | None = None
        self.axes: torch.Tensor | None = None

    def transform(self, descriptors: torch.Tensor) -> torch.Tensor:
        """Return float32 [N, dim], L2-normalised, of float32 [N, D]."""
        if self.mean is None or self.axes is None:
            raise RuntimeError("the whitening has not been fitted")
        return torch.nn.functional.normalize((descriptors - self.mean) @ self.axes.T, dim=1)

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


class PCAWhitening(Projection):
    """Projection onto principal axes, each divided by its standard deviation, then L2.

    Jegou & Chum (ECCV 2012, section 3): it lowers the weight of components that always occur together.

    Args:
        dim: Components that are kept.
        power: Exponent of the variance that divides a component: 0.5 whitens, 0 only rotates and reduces.
        floor: Variances below this fraction of the largest count as this fraction, so that noise stays small.
    """

    def __init__(self, dim: int = 256, power: float = 0.5, floor: float = 1e-4) -> None:
        super().__init__(dim)
        self.power, self.floor = float(power), float(floor)

    def check(self, dim: int, count: int) -> None:
        """See :meth:`Stage.check`: N photos span N - 1 axes."""
        check_pca(self.dim, dim, count, "whitening.dim")

    def fit(self, data: FitData) -> None:
        """Fit on float32 rows [N, D].

        Raises:
            InputError: ``dim`` is more than D or N - 1.
        """
        principal = fit_pca(np.asarray(data.rows), self.dim, "whitening.dim")
        variances = principal.variances.clamp(min=self.floor * float(principal.variances[0]))
        self.mean, self.axes = principal.mean, principal.axes / variances[:, None].pow(self.power)

    @property
    def config(self) -> dict[str, Any]:
        """Plain values that determine the output; all the others are in the tensors."""
        return {"stage": "pca", "dim": self.dim}


class ViewWhitening(Projection):
    """Projection onto the directions in which photos differ most beside how much views change them, then L2.

    See :func:`niphash.training.view_whitening.fit_view_whitening`, which ``hashing=niphash`` shares. What
    views vary by is 1 along every axis; what photos differ by is largest along the first.

    Args:
        dim: Directions that are kept.
        views: Random views of each fit photo.
        fit_limit: Photos and views together, at most; so many photos are described again through views.
        rank: Principal components of the fit descriptors that it is learned in.
        shrinkage: Of the covariance of views towards a multiple of the identity, above 0 and up to 1.
        neighbours: Length of a photo's list of mutual neighbours; 0 learns from views alone.
        significance: How much more similar than chance neighbours must be, in robust standard deviations.
    """

    def __init__(
        self,
        dim: int = 128,
        views: int = 2,
        fit_limit: int = 4096,
        rank: int = 2048,
        shrinkage: float = 0.5,
        neighbours: int = 8,
        significance: float = 6.0,
    ) -> None:
        super().__init__(dim)
        check = partial(check_number, group="whitening")
        self.views = check("views", views, least=1, whole=True)
        self.fit_limit = check("fit_limit", fit_limit, least=2 * (1 + views), whole=True)
        self.rank = check("rank", rank, least=dim, whole=True)
        self.shrinkage = check("shrinkage", shrinkage, above=0, most=1)
        self.neighbours = check("neighbours", neighbours, least=0, whole=True)
        self.significance = check("significance", significance, least=0)

    def check(self, dim: int, count: int) -> None:
        """See :meth:`Stage.check`: no more directions than components, or than photos and views span."""
        most = min(dim, self.photos(count) * (1 + self.views) - 1)
        if self.dim > most:
            raise InputError(
                f"whitening.dim={self.dim} is more than the {most} directions in which {count} fit photos "
                "and their views can differ; give fewer, or more photos (fit.root)"
            )

    def photos(self, count: int) -> int:
        """Return how many of ``count`` fit photos are within ``fit_limit`` with their views."""
        return min(count, self.fit_limit // (1 + self.views))

    def fit(self, data: FitData) -> None:
        """Fit on float32 rows [N, D], each photo paired with its views.

        Raises:
            InputError: too few photos, or fewer directions in which they differ than ``dim``.
        """
        found = fit_view_whitening(
            data,
            dim=self.dim,
            rank=self.rank,
            shrinkage=self.shrinkage,
            neighbours=self.neighbours,
            significance=self.significance,
            limit=data.count,
            seed=0,
        )
        if found.axes.shape[1] < self.dim:
            raise InputError(
                f"whitening.dim={self.dim} is more than the {found.axes.shape[1]} directions in which "
                f"{found.groups} fit photos and their views differ; give fewer, or more photos (fit.root)"
            )
        self.mean, self.axes = torch.from_numpy(found.mean), torch.from_numpy(found.axes.T.copy())
        log.info("whitening=views: %d photos, %d pairs of neighbours", found.groups, found.neighbours)

    @property
    def config(self) -> dict[str, Any]:
        """Plain values that determine the output; all the others are in the tensors."""
        return {"stage": "views", "dim": self.dim}


class StagedDescriber(ComposedDescriber):
    """A describer and the stages after it, in order.

    Args:
        describer: Photo to descriptor.
        stages: Descriptor to descriptor; at least one.
        fit_images: The stages are fitted on so many photos at most, drawn at random.
        seed: Seed of that draw and of the random views.
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

    def check(self, count: int) -> None:
        """See :meth:`Describer.check`."""
        self.describer.check(count)
        dim, count = self.describer.dim, min(count, self.fit_images)
        for stage in self.stages:
            stage.check(dim, count)
            dim = stage.dim or dim

    def fit(self, images: ImageSet) -> None:
        """Fit the describer, then each stage on what the one before it gives for these photos.

        Random views are described for the stages that learn from them.

        Raises:
            InputError: no photo can be read, too few for a stage, or NaN in a descriptor.
        """
        self.describer.fit(images)
        rows = np.random.default_rng(self.seed).permutation(len(images))[: self.fit_images]
        drawn = images.subset(np.sort(rows).tolist())
        read, descriptors = self._describe(drawn)
        photos = drawn.subset(read.tolist())
        for number, stage in enumerate(self.stages):
            chosen = sample_numbers(len(photos), stage.photos(len(photos)), self.seed)
            rows = descriptors[chosen]
            data = FitData(rows)
            if stage.views:
                seen = photos.subset(chosen.tolist())
                data = self._with_views(seen, rows, stage.views, self.stages[:number])
            stage.fit(data)
            descriptors = stage(descriptors)

    def _describe(self, images: ImageSet) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows int64 [N] of photos that can be read, and their descriptors before any stage."""
        report = DescribeReport()
        descriptors = self.describer.describe(images, report)
        read = np.setdiff1d(np.arange(len(images)), [skipped.row for skipped in report.skipped])
        if not len(read):
            raise InputError(f"{unreadable(report.skipped, len(images))}; give other photos (fit.root)")
        check_finite(descriptors[read], [images.ids[row] for row in read])
        return read, descriptors[read]

    def _with_views(
        self, photos: ImageSet, descriptors: np.ndarray, views: int, stages: Sequence[Stage]
    ) -> FitData:
        """Return descriptors [N, D] of photos, followed by those of ``views`` random views of each.

        Args:
            photos: N photos.
            descriptors: Theirs, after ``stages``.
            views: How many of each.
            stages: Those that come before the one to be fitted.
        """
        parts, pairs = [descriptors], []
        for copy in range(views):
            read, seen = self._describe(photos.with_view(RandomView(self.seed, copy)))
            for stage in stages:
                seen = stage(seen)
            start = sum(map(len, parts))
            pairs.append(np.stack([read, np.arange(start, start + len(read))], axis=1))
            parts.append(seen)
        return FitData(np.concatenate(parts), np.concatenate(pairs))

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
