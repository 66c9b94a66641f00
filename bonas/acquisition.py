"""Scores candidates from a predicted mean and spread; knows arrays of numbers, no models or trials.

Glossary, all for losses (smaller is better):
    mean, std   (n,)   prediction of each candidate
    best        scalar value to improve upon
    z           (n,)   (best − mean) / std
    h(z) = φ(z) + z Φ(z)   expected improvement of a standard normal below z, so that EI = std · h(z)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erfcx, ndtr

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_SQRT_HALF_PI = math.sqrt(0.5 * math.pi)
# Below this z the difference 1 − |z| Φ/φ has lost its digits; its expansion 1/z² is exact to 3/z⁴ there.
_FAR = -1e4


def log_expected_improvement(
    mean: NDArray[np.float64], std: NDArray[np.float64], best: float
) -> NDArray[np.float64]:
    """Logarithm of the expected improvement below ``best``, finite where the improvement itself underflows.

    With the Mills ratio Φ(z)/φ(z) = √(π/2) erfcx(−z/√2), h(z) = φ(z) (1 + z Φ(z)/φ(z)); the logarithm of
    the two factors is taken apart. See Jones et al. 1998, eq. 15, and Ament et al. 2023 (LogEI), eq. 9.

    Args:
        mean: predicted losses, shape (n,).
        std: predicted standard deviations, shape (n,), at least 0; zeros count as a tiny spread.
        best: the loss to improve upon.

    Returns:
        log EI, shape (n,).
    """
    spread = np.maximum(std, 1e-12)
    z = (best - mean) / spread
    log_h = np.empty_like(z)
    near = z > -1  # h is summed directly: no cancellation
    far = z < _FAR
    middle = ~near & ~far
    zn, zm, zf = z[near], z[middle], z[far]
    log_h[near] = np.log(np.exp(-0.5 * zn**2 - _LOG_SQRT_2PI) + zn * ndtr(zn))
    mills = _SQRT_HALF_PI * erfcx(-zm / math.sqrt(2))
    log_h[middle] = -0.5 * zm**2 - _LOG_SQRT_2PI + np.log1p(zm * mills)
    log_h[far] = -0.5 * zf**2 - _LOG_SQRT_2PI - 2 * np.log(-zf)
    result: NDArray[np.float64] = np.log(spread) + log_h
    return result
