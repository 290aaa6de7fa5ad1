"""One backbone, one pooling, and the stages after them (``descriptor=single``)."""

from collections.abc import Sequence
from typing import Any

from niphash.descriptors.describer import Describer
from niphash.descriptors.local.encoders import Encoder
from niphash.descriptors.local.sift import LocalBackbone
from niphash.errors import InputError


def single(
    backbone: Any,
    pooling: Any,
    stages: Sequence[Any] = (),
    precision: str = "auto",
    compile: bool = False,
    batch_size: int | None = None,
    seed: int = 0,
) -> Describer:
    """Return the describer that ``backbone`` and ``pooling`` make together.

    Args:
        backbone: A local backbone (SIFT) or a network.
        pooling: An encoder for the former, a pooling of feature maps for the latter.
        stages: What is done to the descriptor afterwards, in order (whitening); ``None`` entries are skipped.
        precision: Arithmetic of a network: ``auto``, ``fp32`` or ``bf16``.
        compile: Whether a network is compiled, see :class:`CNNDescriber`.
        batch_size: Photos (views of photos, for a network) at a time; as suits the device when not given.
        seed: Of what is drawn at random for fitting.

    Raises:
        InputError: the two do not go together.
    """
    describer: Describer
    if isinstance(backbone, LocalBackbone) != isinstance(pooling, Encoder):
        raise _mismatch(backbone, pooling)
    if isinstance(backbone, LocalBackbone):
        from niphash.descriptors.local.local_describer import LocalDescriber

        describer = LocalDescriber(backbone, pooling, batch_size=batch_size or 32, seed=seed)
    else:
        from niphash.descriptors.network.cnn_describer import CNNDescriber

        describer = CNNDescriber(backbone, pooling, precision, compile, batch_size)
    return staged(describer, stages, seed)


def fusion(
    first: Describer, second: Describer, alpha: float = 0.5, stages: Sequence[Any] = (), seed: int = 0
) -> Describer:
    """Return the fusion of two describers, and the stages after it (``descriptor=fusion``).

    Args:
        first: Its descriptor is weighted by ``alpha``.
        second: Its descriptor is weighted by 1 - ``alpha``.
        alpha: Strictly between 0 and 1.
        stages: As of :func:`single`.
        seed: As of :func:`single`.
    """
    from niphash.descriptors.early_fusion import Fusion

    return staged(Fusion(first, second, alpha), stages, seed)


def staged(describer: Describer, stages: Sequence[Any], seed: int) -> Describer:
    """Return ``describer`` with those of ``stages`` that are not ``None`` after it."""
    from niphash.descriptors.stages import StagedDescriber

    chosen = [stage for stage in stages if stage is not None]
    return StagedDescriber(describer, chosen, seed=seed) if chosen else describer


def _mismatch(backbone: Any, pooling: Any) -> InputError:
    local = isinstance(backbone, LocalBackbone)
    fits = "fisher, vlad or bow" if local else "mean, max, gem, nip or another pooling of feature maps"
    return InputError(
        f"pooling {type(pooling).__name__} does not go with backbone {type(backbone).__name__}; "
        f"with {'a SIFT' if local else 'this'} backbone choose pooling={fits}"
    )
