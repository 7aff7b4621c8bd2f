"""Latencies in microseconds, the same for all."""

import numpy as np
import numpy.typing as npt


def latencies() -> npt.NDArray[np.int64]:
    """Return 100,000 of them: a few hundred with a long tail, as a service's are."""
    return np.random.default_rng(1).lognormal(5.5, 0.8, 100_000).astype(np.int64) + 1
