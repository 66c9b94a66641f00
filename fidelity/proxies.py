"""How well a cheap evaluation ranks networks as a dear one does, with intervals; knows numbers only.

Glossary:
    x      (n,) losses of n networks in the cheap evaluation; smaller is better, NaN is worst of all
    y      (n,) their losses in the dear one
    z      (n,) what size alone would say: minus the number of parameters
    tau    Kendall's tau-b (Kendall 1945, doi:10.1093/biomet/33.3.239): the part of pairs that both order
           alike, less the part they order differently; pairs tied in either are left out of the
           denominator in the manner of a correlation
    w      (r, n) how often each network is in each of r bootstrap samples
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Singles = NDArray[np.float32]

LEVEL = 0.9
"""Of all intervals: the part of them that hold the true value."""
ENOUGH = 10
"""Networks seen in both evaluations below which nothing is concluded about the cheap one."""
LEAST_TOP = 5
"""Networks that "the top" holds at least, whatever fraction was asked for."""

_REPEATS = 1000
_MOST = 1000  # networks; beyond it the interval is narrow, and its formula as good as a bootstrap
_MOST_COMPARED = 300  # a decision between two evaluations does not need more
_WORK = 5e7  # multiplications for one quadratic form of all bootstrap samples


@dataclass(frozen=True, slots=True)
class RankCorrelation:
    """How alike two evaluations rank networks."""

    tau: float
    """Kendall's tau-b in [-1, 1]; NaN where there is nothing to rank."""
    low: float
    high: float
    """A 90 % interval from ``low`` to ``high``."""
    n: int
    """Networks seen in both."""

    def __bool__(self) -> bool:
        return not math.isnan(self.tau)

    def __str__(self) -> str:
        return f"{self.tau:.2f} [{self.low:.2f}, {self.high:.2f}]" if self else "-"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A cheap evaluation beside the number of parameters: which ranks more as the dear evaluation does.

    Both taus are estimates for all networks that were evaluated cheaply, not only for those that were
    selected, by the cheap value, to be evaluated dearly.
    """

    tau: float
    """Of the cheap evaluation."""
    size: float
    """Of the number of parameters; 0 where that is not known."""
    low: float
    high: float
    """A 90 % interval for the difference of the two."""
    n: int

    @property
    def worse(self) -> bool:
        """Whether there is evidence that the cheap evaluation ranks worse than size alone."""
        return self.n >= ENOUGH and self.high < 0

    @property
    def doubtful(self) -> bool:
        """Whether it ranks worse as far as can be seen, with or without evidence."""
        return self.n >= ENOUGH and self.tau < self.size


def kendall(x: ArrayLike, y: ArrayLike) -> float:
    """Kendall's tau-b; NaN where all of ``x`` or all of ``y`` are tied.

    Args:
        x: (n,) numbers; NaN counts as larger than all others.
        y: (n,) numbers.

    Raises:
        ValueError: unless both have one dimension and the same length.
    """
    a, b = _ranks(x, y)
    # Row by row: n may be the size of a published table.
    agreement = ties_a = ties_b = 0
    for i in range(len(a)):
        above, beyond = np.sign(a[i + 1 :] - a[i]), np.sign(b[i + 1 :] - b[i])
        agreement += int(above @ beyond)
        ties_a += int(np.count_nonzero(above))
        ties_b += int(np.count_nonzero(beyond))
    return agreement / math.sqrt(ties_a * ties_b) if ties_a and ties_b else math.nan


def rank_correlation(x: ArrayLike, y: ArrayLike, rng: np.random.Generator) -> RankCorrelation:
    """Kendall's tau-b with a 90 % interval.

    The interval is the bootstrap's (percentiles over 1,000 samples of the networks), or wider: few networks
    may be ranked alike by chance, and then every sample is. So it holds at least what Fieller, Hartley and
    Pearson (1957, doi:10.1093/biomet/44.3-4.470) give, var(artanh tau) = 0.437 / (n - 4), with half a pair
    ordered differently where none is. Up to four networks may have any tau.

    Args:
        x: (n,) losses in one evaluation; NaN is worst.
        y: (n,) losses of the same networks in the other.
        rng: draws the bootstrap samples.
    """
    a, b = _ranks(x, y)
    n = len(a)
    tau = kendall(a, b)
    if math.isnan(tau):
        return RankCorrelation(math.nan, math.nan, math.nan, n)
    if n <= 4:
        return RankCorrelation(tau, -1.0, 1.0, n)
    limit = 1 - 2 / (n * (n - 1))
    z = math.atanh(max(-limit, min(limit, tau)))
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * math.sqrt(0.437 / (n - 4))
    low, high = min(tau, math.tanh(z - half)), max(tau, math.tanh(z + half))
    if n <= _MOST:
        [drawn] = _taus([a, b], [(0, 1)], _samples(n, rng))
        least, most = _interval(drawn)
        low, high = min(low, least), max(high, most)
    return RankCorrelation(tau, low, high, n)


def top(y: ArrayLike, fraction: float = 0.1, least: int = LEAST_TOP) -> NDArray[np.intp]:
    """Positions of the networks with the smallest losses, best first: a fraction of them, ``least`` at least.

    A correlation over all networks flatters: it is mostly about telling bad ones from good ones, and a
    search has to tell the good ones apart.
    """
    losses = np.asarray(y, dtype=np.float64)
    k = min(len(losses), max(least, math.ceil(fraction * len(losses) - 1e-9)))
    return np.argsort(losses, kind="stable")[:k]


def compare(
    x: ArrayLike,
    y: ArrayLike,
    z: ArrayLike | None,
    rng: np.random.Generator | None,
    among: ArrayLike | None = None,
) -> Comparison:
    """Whether a cheap evaluation ranks networks better than their number of parameters does.

    Networks reach the dear evaluation because they were good in the cheap one, and among such it can tell
    less apart: tau over them alone would be unfair to it. So both taus are corrected for that selection as
    Pearson and Lawley correct correlations of normal variables (Thorndike 1949, cases 2 and 3), with
    r = sin(pi tau / 2) (Greiner 1909), and u the standard deviation of the cheap losses' normal scores over
    all networks, relative to that over the selected ones::

        r_xy' = r_xy u / sqrt(1 + r_xy^2 (u^2 - 1))
        r_zy' = (r_zy + r_xz r_xy (u^2 - 1)) / sqrt((1 + r_xz^2 (u^2 - 1)) (1 + r_xy^2 (u^2 - 1)))

    The interval of the difference is a bootstrap over the networks seen in both.

    Args:
        x: (n,) cheap losses of the networks seen in both evaluations.
        y: (n,) their dear losses.
        z: (n,) minus their numbers of parameters; None if unknown, which counts as ranking at random.
        rng: draws the bootstrap samples; None for the two taus without the interval, which is fast.
        among: (m,) cheap losses of all networks, also of those seen in the cheap evaluation only.
    """
    a, b = _ranks(x, y)
    n = len(a)
    known = z is not None and len(np.unique(np.asarray(z))) > 1
    c = _ranks(x, z)[1] if z is not None and known else a
    if n < 2 or math.isnan(kendall(a, b)):
        return Comparison(math.nan, math.nan, math.nan, math.nan, n)
    everything = np.asarray(x if among is None else among, dtype=np.float64)
    scores, spread = _selected_scores(np.asarray(x, dtype=np.float64), everything)
    # The most recent ones: a decision needs no more.
    n = min(n, _MOST_COMPARED)
    a, b, c, scores = a[-n:], b[-n:], c[-n:], scores[-n:]

    def corrected(w: Singles) -> tuple[Floats, Floats]:
        xy, zy, xz = (np.sin(np.pi / 2 * t) for t in _taus([a, b, c], [(0, 1), (2, 1), (0, 2)], w))
        mean = w @ scores / n
        variance = np.maximum(w @ scores**2 / n - mean**2, 1e-9)
        more = np.clip(spread / variance, 1.0, 25.0) - 1  # u^2 - 1
        proxy = xy * np.sqrt(more + 1) / np.sqrt(1 + xy**2 * more)
        size = (zy + xz * xy * more) / np.sqrt((1 + xz**2 * more) * (1 + xy**2 * more))
        taus = [2 / np.pi * np.arcsin(np.clip(r, -1, 1)) for r in (proxy, size)]
        return taus[0], taus[1] if known else np.zeros_like(taus[1])

    tau, size = (float(t[0]) for t in corrected(np.ones((1, n), np.float32)))
    if rng is None:
        return Comparison(tau, size, math.nan, math.nan, n)
    drawn = corrected(_samples(n, rng))
    low, high = _interval(drawn[0] - drawn[1])
    return Comparison(tau, size, low, high, n)


def correlation(x: ArrayLike, y: ArrayLike, among: ArrayLike) -> tuple[float, float]:
    """Pearson's correlation of normal scores, corrected for selection by the cheap losses; and its worth.

    A quick sibling of :func:`compare`, for decisions made a thousand times: with the same u,
    r' = r u / sqrt(1 + r^2 (u^2 - 1)).

    Args:
        x: (n,) cheap losses of the networks seen in both evaluations.
        y: (n,) their dear losses.
        among: (m,) cheap losses of all networks, also of those seen in the cheap evaluation only.

    Returns:
        r', and n / u^2: networks that differ little in the cheap losses tell little of how these rank.
        Both are 0 where there is nothing to rank.
    """
    from scipy.special import ndtri

    low, high = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    everything = np.sort(np.asarray(among, dtype=np.float64))
    n, m = len(low), len(everything)
    if n < 2 or np.ptp(low) == 0 or np.ptp(high) == 0:
        return 0.0, 0.0
    below, upto = (np.searchsorted(everything, low, side) for side in ("left", "right"))
    a = ndtri(np.clip((below + upto) / (2 * m), 0.5 / m, 1 - 0.5 / m))
    below, upto = (np.searchsorted(np.sort(high), high, side) for side in ("left", "right"))
    b = ndtri((below + upto) / (2 * n))
    r = float(np.corrcoef(a, b)[0, 1])
    more = min(25.0, max(1.0, float(_spread(m) / a.var()))) - 1
    return r * math.sqrt(more + 1) / math.sqrt(1 + r * r * more), n / (more + 1)


@functools.lru_cache(maxsize=4096)
def _spread(m: int) -> float:
    """The variance of the normal scores of ``m`` networks."""
    from scipy.special import ndtri

    return float(ndtri((np.arange(m) + 0.5) / m).var())


def _ranks(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Dense ranks: no infinities to subtract, and NaN the largest."""
    arrays = [np.asarray(v, dtype=np.float64) for v in (x, y)]
    if any(v.ndim != 1 for v in arrays) or len(arrays[0]) != len(arrays[1]):
        shapes = " and ".join(str(v.shape) for v in arrays)
        raise ValueError(f"losses of shapes {shapes}: must be two lists with one number for each network.")
    a, b = (np.unique(v, return_inverse=True)[1].astype(np.int64) for v in arrays)
    return a, b


def _samples(n: int, rng: np.random.Generator) -> Singles:
    """w, fewer samples where networks are many."""
    repeats = int(max(200, min(_REPEATS, _WORK / n**2)))
    return rng.multinomial(n, np.full(n, 1 / n), size=repeats).astype(np.float32)


def _taus(ranks: Sequence[NDArray[Any]], pairs: Sequence[tuple[int, int]], w: Singles) -> list[Floats]:
    """tau-b of some pairs of rankings in every sample, each of shape (r,); NaN where one is all tied."""
    # Whole numbers below 2^24: float32 holds them exactly.
    signs = [np.sign(v[:, None] - v[None, :]).astype(np.float32) for v in ranks]
    # A network drawn twice is tied with itself in every ranking, so it is no pair.
    untied = [_form(w, s * s) for s in signs]
    with np.errstate(invalid="ignore", divide="ignore"):
        return [_form(w, signs[i] * signs[j]) / np.sqrt(untied[i] * untied[j]) for i, j in pairs]


def _form(w: Singles, matrix: Singles) -> Floats:
    """The quadratic form of each sample: sum over i, j of w_i w_j matrix_ij; shape (r,)."""
    result: Floats = np.einsum("ri,ri->r", w @ matrix, w).astype(np.float64)
    return result


def _interval(drawn: Floats) -> tuple[float, float]:
    """The middle 90 % of what was drawn, leaving out what is undefined."""
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return -1.0, 1.0
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _selected_scores(x: Floats, everything: Floats) -> tuple[Floats, float]:
    """Normal scores of ``x`` among everything, shape (n,), and the variance of everything's scores."""
    ordered = np.sort(everything)  # NaN last
    below, upto = (np.searchsorted(ordered, x, side) for side in ("left", "right"))
    ranks = (below + upto) / 2  # ties share their mean
    normal = NormalDist()
    m = len(ordered)
    scores = np.array([normal.inv_cdf(min(max(r / m, 0.5 / m), 1 - 0.5 / m)) for r in ranks])
    of_all = np.array([normal.inv_cdf((i + 0.5) / m) for i in range(m)])
    return scores, float(of_all.var())
