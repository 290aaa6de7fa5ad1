"""What every describer offers: photos to L2-normalised global descriptors."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import torch

from niphash.data.decode import READING
from niphash.data.images import ImageSet, UnreadableImage
from niphash.data.survey import Survey
from niphash.errors import InputError
from niphash.progress import track


class Skipped(NamedTuple):
    """A photo that could not be described, and why."""

    row: int
    image_id: str
    reason: str


def unreadable(skipped: Sequence[Skipped], count: int, what: str = "fit photos") -> str:
    """Return, for a message, how many of ``count`` photos could not be read, and why the first could not."""
    first = min(skipped, key=lambda photo: photo.row)
    number = len({photo.image_id for photo in skipped})
    return f"{number} of {count} {what} could not be read, the first is {first.image_id} ({first.reason})"


def check_finite(descriptors: np.ndarray, ids: Sequence[str]) -> None:
    """Refuse NaN in the descriptors [N, D] of N photos named ``ids``.

    Raises:
        InputError: a descriptor holds NaN or infinite values; names its photo.
    """
    finite = np.isfinite(descriptors).all(axis=1)
    if not finite.all():
        raise InputError(
            f"{ids[int(np.argmin(finite))]}: its descriptor holds NaN or infinite values; give other "
            "backbone.weights, or leave the photo out"
        )


@dataclass(frozen=True)
class Described:
    """One batch of work: rows of the image set and what became of them.

    Attributes:
        rows: int64 [B], which images of the set these are.
        descriptors: float32 [B, D], L2-normalised.
        skipped: Images of the batch that could not be read (not in ``rows``).
        blank: Those of ``rows`` that had no local descriptor at all (a blank wall).
    """

    rows: np.ndarray
    descriptors: np.ndarray
    skipped: tuple[Skipped, ...] = ()
    blank: tuple[int, ...] = ()


@dataclass
class DescribeReport:
    """What happened while a set was described; filled by :meth:`Describer.describe` and the store.

    Attributes:
        skipped: Photos that could not be read.
        blank: Number of photos without any local descriptor.
        survey: Of the folder that the photos are from, where they are from one.
    """

    skipped: list[Skipped] = field(default_factory=list)
    blank: int = 0
    survey: Survey | None = None

    def summary(self) -> str:
        """Return one line: how many photos of the folder were described, what was left out and why."""
        if self.survey is None:
            raise ValueError("no survey: the photos that were described are not those of a folder")
        blank = f"; {self.blank} without any local descriptor" if self.blank else ""
        return self.survey.summary(photo.reason for photo in self.skipped) + blank


class Describer(ABC):
    """Photo to global descriptor. Instantiated from ``conf/descriptor``; knows nothing of hashing."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Number of components D of a descriptor, known before :meth:`fit`."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """32 hexadecimal digits over everything that determines the output, fitted parameters included."""

    def check(self, count: int) -> None:  # noqa: B027 - nothing to refuse is a fair answer
        """Refuse what :meth:`fit` could not do, before any photo is described.

        Args:
            count: Number of fit photos.

        Raises:
            InputError: more components than photos, ...
        """

    @abstractmethod
    def fit(self, images: ImageSet) -> None:
        """Fit what there is to fit (PCA, Gaussian mixture, whitening) on photos without labels."""

    @abstractmethod
    def batches(self, images: ImageSet) -> Iterator[Described]:
        """Describe ``images`` batch by batch, in order, reading each photo once."""

    @abstractmethod
    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return everything fitted or learned, as tensors for a safetensors file."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what :meth:`state_dict` returned."""

    def describe(self, images: ImageSet, report: DescribeReport | None = None) -> np.ndarray:
        """Return float32 [N, D], L2-normalised, one row an image.

        Args:
            images: N photos.
            report: When given, unreadable photos are entered there and their rows are NaN.

        Raises:
            UnreadableImage: a photo cannot be read and no ``report`` was given.
        """
        if report is not None:
            report.survey = images.survey
        descriptors = np.full((len(images), self.dim), np.nan, np.float32)
        for row, found, blank in track(self.photos(images), "describe", len(images)):
            if not isinstance(found, Skipped):
                descriptors[row] = found
            elif report is None:
                raise UnreadableImage(found.image_id, found.reason)
            else:
                report.skipped.append(found)
            if report is not None:
                report.blank += blank
        return descriptors

    def photos(self, images: ImageSet) -> Iterator[tuple[int, np.ndarray | Skipped, bool]]:
        """Yield row, descriptor float32 [D] (or why there is none) and whether the photo is blank."""
        for batch in self.batches(images):
            for row, descriptor in zip(batch.rows.tolist(), batch.descriptors, strict=True):
                yield row, descriptor, row in batch.blank
            for skipped in batch.skipped:
                yield skipped.row, skipped, False


class ComposedDescriber(Describer):
    """A describer whose tensors are those of its parts, each under ``<part>.<name>``."""

    @property
    @abstractmethod
    def parts(self) -> Mapping[str, Any]:
        """The parts by name: anything with ``state_dict()`` and ``load_state_dict()``."""

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the tensors of every part under ``<part>.<name>``."""
        return {f"{part}.{n}": t for part, owner in self.parts.items() for n, t in owner.state_dict().items()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what :meth:`state_dict` returned.

        Raises:
            InputError: a tensor is missing, unknown or of another shape.
        """
        parts = self.parts
        if foreign := sorted({name.split(".")[0] for name in state} - parts.keys()):
            raise InputError(f"unknown tensors {', '.join(foreign)}.* in a model of {', '.join(parts)}")
        for part, owner in parts.items():
            prefix = f"{part}."
            own = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
            try:
                owner.load_state_dict(own)
            except (RuntimeError, KeyError) as error:
                raise InputError(
                    f"the stored tensors of {part!r} do not fit its configuration; load the model with the "
                    "config.yaml that it was saved with"
                ) from error


def fingerprint(
    config: Mapping[str, Any], state: Mapping[str, torch.Tensor], libraries: tuple[str, ...]
) -> str:
    """Return 32 hexadecimal digits (blake2b-16) over a configuration, tensors and library versions.

    Args:
        config: Plain values (what JSON can hold) that change the output.
        state: Fitted or learned tensors, as of ``state_dict()``.
        libraries: Names of the distributions whose version may change the output.
    """
    versions = {name: version(name) for name in ("niphash", *libraries)}
    head = {"config": config, "versions": versions, "reading": READING}
    digest = hashlib.blake2b(json.dumps(head, sort_keys=True).encode(), digest_size=16)
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"|{name}{tuple(tensor.shape)}{tensor.dtype}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
