"""Which method ranks before which, and how sure that is; knows regrets as arrays, no tasks, runs or files.

Glossary:
    K        methods, N tasks, B bootstrap resamples
    sample   regrets of one method on one task, one for each seed; methods may have different numbers of seeds
    rank     1 is the best; ties share the mean of their ranks
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import friedmanchisquare, studentized_range

if TYPE_CHECKING:
    from collections.abc import Sequence

    Floats = np.ndarray[Any, np.dtype[np.float64]]

CONFIDENCE = 0.95


def expected_ranks(samples: Sequence[Floats], weights: Sequence[Floats] | None = None) -> Floats:
    """The rank of a run of each method among one run of every other method, in expectation over the seeds.

    rank_a = 1 + Σ_{b≠a} P(b < a) + ½ P(b = a), each probability over all pairs of seeds (Mann and Whitney
    1947): all seeds count, however many a method has.

    Args:
        samples: for each of K methods its regrets, shape (seeds,).
        weights: of the seeds, each summing to 1; equal ones if None.

    Returns:
        ranks, shape (K,), summing to K (K + 1) / 2.
    """
    return _ranks(_better(samples), _weights(samples, weights))


def _better(samples: Sequence[Floats]) -> Floats:
    """[i, j]: 1 if seed j of all reached a smaller regret than seed i, ½ if the same, else 0."""
    values = np.concatenate(samples)
    return (values[None, :] < values[:, None]) + 0.5 * (values[None, :] == values[:, None])


def _weights(samples: Sequence[Floats], weights: Sequence[Floats] | None) -> Floats:
    """Shape (K, all seeds): in row a the weights of a's seeds, 0 elsewhere."""
    sizes = [len(sample) for sample in samples]
    result = np.zeros((len(sizes), sum(sizes)))
    for a, (n, end) in enumerate(zip(sizes, np.cumsum(sizes), strict=True)):
        result[a, end - n : end] = 1 / n if weights is None else weights[a]
    return result


def _ranks(better: Floats, weights: Floats) -> Floats:
    wins = weights @ better @ weights.T  # [a, b]: how often b is better than a
    ranks: Floats = 1 + wins.sum(axis=1) - np.diag(wins)
    return ranks


@dataclass(frozen=True)
class Ranking:
    """Average ranks of K methods over N tasks, with resamples of them."""

    by_task: Floats
    """Expected ranks, shape (N, K)."""
    same_tasks: Floats
    """Average ranks if the seeds were drawn again, shape (B, K)."""
    other_tasks: Floats
    """Likewise if the tasks were drawn again, too, from others like them."""

    @property
    def average(self) -> Floats:
        """Over the tasks, shape (K,)."""
        average: Floats = self.by_task.mean(axis=0)
        return average

    def interval(self, method: int, before: int, *, other_tasks: bool = False) -> tuple[float, float]:
        """Of how much later ``method`` ranks than ``before``, with confidence 95 %."""
        resampled = self.other_tasks if other_tasks else self.same_tasks
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(resampled[:, method] - resampled[:, before], [tail, 1 - tail])
        return float(low), float(high)

    @property
    def critical_difference(self) -> float:
        """Average ranks closer than this do not differ significantly (Nemenyi; Demšar 2006, 3.2.2)."""
        n, k = self.by_task.shape
        quantile = studentized_range.ppf(CONFIDENCE, k, np.inf) / np.sqrt(2)
        return float(quantile * np.sqrt(k * (k + 1) / (6 * n)))

    @property
    def friedman(self) -> float:
        """How likely ranks so different are if at least three methods were equal (Friedman 1937)."""
        return float(friedmanchisquare(*self.by_task.T).pvalue)


def rank(regrets: Sequence[Sequence[Floats]], rng: np.random.Generator, resamples: int = 1000) -> Ranking:
    """Average ranks over tasks, with a bootstrap over seeds and over tasks and seeds.

    Args:
        regrets: for each of N tasks the sample of each of K methods.
        rng: draws the resamples.
        resamples: how many.
    """
    n, k = len(regrets), len(regrets[0])
    by_task = np.stack([expected_ranks(samples) for samples in regrets])
    drawn = np.empty((resamples, n, k))
    for t, samples in enumerate(regrets):
        better = _better(samples)
        sizes = [len(sample) for sample in samples]
        for b in range(resamples):
            counts = [rng.multinomial(m, np.full(m, 1 / m)) / m for m in sizes]
            drawn[b, t] = _ranks(better, _weights(samples, counts))
    tasks = rng.integers(n, size=(resamples, n))
    others = drawn[np.arange(resamples)[:, None], tasks]
    return Ranking(by_task, drawn.mean(axis=1), others.mean(axis=1))


def paired(
    ours: Floats, theirs: Floats, rng: np.random.Generator, resamples: int = 2000
) -> tuple[float, float]:
    """Interval of the mean difference ``ours − theirs`` with confidence 95 %, by bootstrap over the pairs.

    Args:
        ours: one value for each seed.
        theirs: for the same seeds.
        rng: draws the resamples.
        resamples: how many.
    """
    difference = ours - theirs
    drawn = rng.integers(len(difference), size=(resamples, len(difference)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(difference[drawn].mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)
