"""Learning rates over the steps of a training, and seeds of its parts."""

import numpy as np


def schedule_factor(step: int, steps: int, warmup: float, schedule: str) -> float:
    """Return the share of the full learning rate at ``step`` of ``steps``.

    Args:
        step: From 0 on.
        steps: Of the whole training.
        warmup: Share of the steps over which the rate rises linearly from a hundredth.
        schedule: ``"cosine"`` to zero after the warm-up (Loshchilov & Hutter, ICLR 2017), or ``"constant"``.
    """
    rising = int(warmup * steps)
    if step < rising:
        return 0.01 + 0.99 * step / rising
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + float(np.cos(np.pi * min(1.0, (step - rising) / max(1, steps - rising)))))


def derived_seed(*parts: int) -> int:
    """Return a seed of 63 bits that whole numbers from 0 on decide."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
