"""Bilinear projections: a long descriptor as a matrix, rotated from both sides, rounded to signs."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from niphash.errors import InputError
from niphash.hashing.checks import check_number, check_numbers
from niphash.hashing.closed_form.itq import random_rotation
from niphash.hashing.signs import ClosedFormHasher


class BPBC(ClosedFormHasher):
    """Gong, Kumar, Rowley & Lazebnik, *Learning Binary Codes ... Using Bilinear Projections* (CVPR 2013).

    A centred descriptor is read as X [d1, d2]; the code is sign(R1^T X R2), where R1 [d1, c1] and R2 [d2, c2]
    have orthonormal columns and c1 c2 = bits. Signs, R1 and R2 are found in turn (sections 3.2 and 3.3), and
    have far fewer parameters than a full rotation.

    Args:
        bits: Length of a code, at most the number of dimensions.
        seed: Seed of the rotations that the iteration starts from.
        shape: ``[d1, d2]`` of the matrix; the most nearly square when ``None``.
        iterations: Alternations.
        fit_limit: Fit on a random sample of at most this many descriptors.
    """

    def __init__(
        self,
        bits: int,
        seed: int = 0,
        shape: Sequence[int] | None = None,
        iterations: int = 20,
        fit_limit: int = 20_000,
    ) -> None:
        super().__init__(bits, seed, fit_limit)
        self.shape = None if shape is None else check_numbers("shape", shape, least=1, whole=True)
        self.iterations = check_number("iterations", iterations, least=0, whole=True)

    def check(self, dim: int, count: int) -> None:
        """See :meth:`Hasher.check`: the matrix must have ``dim`` entries and hold a block of ``bits``."""
        code_shape(self.bits, self._matrix_shape(dim))

    def _matrix_shape(self, dim: int) -> tuple[int, int]:
        if self.shape is None:
            return nearly_square(dim)
        if len(self.shape) != 2 or math.prod(self.shape) != dim:
            raise InputError(f"hashing.shape={self.shape} does not make a matrix of {dim} dimensions")
        return self.shape[0], self.shape[1]

    def solve(self, centred: np.ndarray) -> dict[str, torch.Tensor]:
        """Return ``left`` [d1, c1] and ``right`` [d2, c2]."""
        matrix = self._matrix_shape(centred.shape[1])
        rows, columns = code_shape(self.bits, matrix)
        generator = np.random.default_rng(self.seed)
        left = torch.from_numpy(random_rotation(matrix[0], generator)[:, :rows].copy())
        right = torch.from_numpy(random_rotation(matrix[1], generator)[:, :columns].copy())
        sample = torch.from_numpy(centred).view(-1, *matrix)  # [N, d1, d2]
        for _ in range(self.iterations):
            half = sample @ right  # [N, d1, c2]
            signs = torch.sign(left.T @ half)  # [N, c1, c2]
            left = orthonormal(torch.einsum("nij,nkj->ik", half, signs))
            half = left.T @ sample  # [N, c1, d2]
            signs = torch.sign(half @ right)
            right = orthonormal(torch.einsum("nij,nik->jk", half, signs))
        return {"left": left, "right": right}

    def project_centred(self, centred: torch.Tensor) -> torch.Tensor:
        """Return the bilinear forms of centred descriptors, float32 [B, bits]."""
        left, right = self.state["left"], self.state["right"]
        matrices = centred.view(-1, len(left), len(right))  # [B, d1, d2]
        return (left.T @ matrices @ right).flatten(1)

    def code_length(self, state: Mapping[str, torch.Tensor]) -> int:
        """Return c1 c2."""
        return state["left"].shape[1] * state["right"].shape[1]


def orthonormal(matrix: torch.Tensor) -> torch.Tensor:
    """Return the matrix with orthonormal columns nearest to ``matrix`` [d, c], d >= c (its polar factor)."""
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    return left @ right


def nearly_square(dim: int) -> tuple[int, int]:
    """Return the factors (d1, d2) of ``dim``, d1 <= d2, that are closest to each other."""
    rows = next(rows for rows in range(math.isqrt(dim), 0, -1) if dim % rows == 0)
    return rows, dim // rows


def code_shape(bits: int, matrix: tuple[int, int]) -> tuple[int, int]:
    """Return (c1, c2), c1 c2 = ``bits``, inside ``matrix`` and with c1 / d1 as close to c2 / d2 as can be.

    Raises:
        InputError: no factors of ``bits`` fit.
    """
    d1, d2 = matrix
    fitting = [(c, bits // c) for c in range(1, d1 + 1) if bits % c == 0 and bits // c <= d2]
    if not fitting:
        raise InputError(
            f"bits={bits} cannot be split into rows and columns inside a {d1} x {d2} descriptor; "
            "ask for fewer bits or another hashing.shape"
        )
    return min(fitting, key=lambda c: abs(math.log(c[0] * d2 / (c[1] * d1))))
