"""The extrapolators compared, each answering for the curves a study holds out; knows no tables, no files."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import gammaln, logsumexp

from extrapolation import domhan, shapes
from extrapolation.answer import Answer
from extrapolation.curves import Study
from fidelity import CurveExtrapolator

INTERVAL = np.array([0.05, 0.5, 0.95])


def _by_points(study: Study, point: Callable[[np.ndarray, np.ndarray, float], float]) -> Answer:
    """Of a method that gives numbers only; its doubt is its error on the finished curves, cut the same."""
    held = range(len(study.curves))[study.held]
    said = np.array([point(*study.curves[k], study.horizon[k]) for k in held])
    errors = []
    for k in np.flatnonzero(study.finished):
        epochs, values = study.curves[k]
        n = max(1, int(np.searchsorted(epochs, study.fraction * epochs[-1] * (1 + 1e-9), "right")))
        errors.append(abs(point(epochs[:n], values[:n], study.horizon[k]) - values[-1]))
    return Answer.with_error(said, float(np.mean(errors)), study.truth)


def last_value(study: Study) -> Answer:
    return _by_points(study, lambda epochs, values, horizon: float(values[-1]))


def mean_of_last(study: Study) -> Answer:
    return _by_points(study, lambda epochs, values, horizon: float(values[-3:].mean()))


def best_family(study: Study) -> Answer:
    return _by_points(study, shapes.least_squares)


def shapes_averaged(study: Study) -> Answer:
    weights, means, (scales, df) = shapes.averaged(study.curves, study.horizon, study.finished, study.held)
    low, middle, high = shapes.mixture_quantiles(weights, means, scales, df, INTERVAL).T
    off = (study.truth[:, None] - means) / scales
    density = (
        gammaln((df + 1) / 2)
        - gammaln(df / 2)
        - np.log(np.sqrt(df * np.pi) * scales)
        - (df + 1) / 2 * np.log1p(off**2 / df)
    )
    return Answer(middle, low, high, logsumexp(density, b=weights, axis=1))


def extrapolator(study: Study) -> Answer:
    ends = CurveExtrapolator().predict(study.curves, study.horizon).among(study.held)
    low, middle, high = ends.quantiles(INTERVAL).T
    return Answer(middle, low, high, ends.log_density(study.truth))


def mcmc(study: Study, seed: int) -> Answer:
    """Domhan's ensemble, of each curve alone; values turned so that they rise, between 0 and 1."""
    rng = np.random.default_rng([seed, 0x6D636D63])
    said = []
    for k, truth in zip(range(len(study.curves))[study.held], study.truth, strict=True):
        epochs, values = study.curves[k]
        rising = values if study.rising else 1 - values
        end = truth if study.rising else 1 - truth
        # In units of the first epoch: the families want t = 1 at the start.
        horizon = float(study.horizon[k] / epochs[0])
        means, sigmas = domhan.predictive(domhan.sample(epochs / epochs[0], rising, horizon, rng), horizon)
        drawn = np.quantile(means + sigmas * rng.normal(size=len(means)), INTERVAL)
        low, middle, high = drawn if study.rising else 1 - drawn[::-1]
        density = logsumexp(-0.5 * ((end - means) / sigmas) ** 2 - np.log(sigmas)) - np.log(
            np.sqrt(2 * np.pi) * len(means)
        )
        said.append((middle, low, high, density))
    return Answer(*np.array(said).T)


METHODS: dict[str, Callable[[Study], Answer]] = {
    "last value": last_value,
    "mean of the last three": mean_of_last,
    "best family, least squares": best_family,
    "shapes averaged": shapes_averaged,
    "CurveExtrapolator": extrapolator,
}


def first(study: Study, few: int) -> Study:
    """The same study with only the first few of the curves held out."""
    surplus = len(study.truth) - few
    if surplus <= 0:
        return study
    kept: Sequence[int] = range(len(study.curves) - surplus)
    return Study(
        [study.curves[k] for k in kept],
        study.horizon[: len(kept)],
        study.truth[:few],
        study.finished[: len(kept)],
        study.fraction,
        study.rising,
    )
