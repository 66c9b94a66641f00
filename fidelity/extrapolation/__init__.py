"""Where learning curves end: the distribution of the value at the horizon, from partial curves."""

from fidelity.extrapolation.distribution import Distribution
from fidelity.extrapolation.extrapolator import CurveExtrapolator

__all__ = ["CurveExtrapolator", "Distribution"]
