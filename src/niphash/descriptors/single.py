"""One backbone, one pooling, and the stages after them (``descriptor=single``)."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from niphash.descriptors.describer import Describer
from niphash.descriptors.encoders import Encoder
from niphash.descriptors.local import LocalBackbone
from niphash.errors import InputError


def single(
    backbone: Any,
    pooling: Any,
    stages: Sequence[Any] = (),
    precision: str = "auto",
    batch_size: int = 32,
    seed: int = 0,
) -> Describer:
    """Return the describer that ``backbone`` and ``pooling`` make together.

    Args:
        backbone: A local backbone (SIFT) or a network.
        pooling: An encoder for the former, a pooling of feature maps for the latter.
        stages: What is done to the descriptor afterwards, in order (whitening); ``None`` entries are skipped.
        precision: Arithmetic of a network: ``auto``, ``fp32`` or ``bf16``.
        batch_size: Photos at a time.
        seed: Of what is drawn at random for fitting.

    Raises:
        InputError: the two do not go together.
    """
    describer: Describer
    if isinstance(backbone, LocalBackbone) and isinstance(pooling, Encoder):
        from niphash.descriptors.local_describer import LocalDescriber

        describer = LocalDescriber(backbone, pooling, batch_size=batch_size, seed=seed)
    elif isinstance(backbone, nn.Module) and not isinstance(pooling, Encoder):
        from niphash.descriptors.cnn import CNNDescriber

        describer = CNNDescriber(backbone, pooling, precision=precision, batch_size=batch_size)
    else:
        raise _mismatch(backbone, pooling)
    return describer


def _mismatch(backbone: Any, pooling: Any) -> InputError:
    local = isinstance(backbone, LocalBackbone)
    fits = "fisher, vlad or bow" if local else "mean, max, gem, nip or another pooling of feature maps"
    return InputError(
        f"pooling {type(pooling).__name__} does not go with backbone {type(backbone).__name__}; "
        f"with {'a SIFT' if local else 'this'} backbone choose pooling={fits}"
    )
