"""The ensemble of Domhan, Springenberg & Hutter (IJCAI 2015): eleven families, weighted, sampled by MCMC.

"Speeding up Automatic Hyperparameter Optimization of Deep Neural Networks by Extrapolation of Learning
Curves", section 3: y(t) = Σ_k w_k f_k(t | θ_k) + ε, ε ~ N(0, σ²), with flat priors, weights that are not
negative, and curves that end higher than they begin; begun at each family's least-squares fit with equal
weights; sampled by an ensemble of 100 walkers for 2,500 steps after 500 of burn-in, as its authors published
it. Sampler: the stretch move of Goodman & Weare (2010). Written for values that rise, between 0 and 1; knows
nothing of studies.

Symbols: W walkers; T epochs; a state is θ of all families (36), their weights (11) and log σ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

WALKERS, STEPS, BURN_IN = 100, 2500, 500
_STRETCH = 2.0


@dataclass(frozen=True)
class Family:
    """A parametric family (the paper's table 1); parameters come as (W, p), epochs as (T,)."""

    name: str
    start: tuple[float, ...]
    """Where its least-squares fit begins."""
    value: Callable[[np.ndarray, np.ndarray], np.ndarray]


def _columns(p: np.ndarray) -> list[np.ndarray]:
    return [p[:, k, None] for k in range(p.shape[1])]


def _vapor(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    a, b, c = _columns(p)
    return np.exp(a + b / t + c * np.log(t))


def _pow3(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    c, a, alpha = _columns(p)
    return c - a * t**-alpha


def _log_log_linear(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    a, b = _columns(p)
    return np.log(a * np.log(t) + b)


def _hill3(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    top, eta, kappa = _columns(p)
    return top * t**eta / (kappa**eta + t**eta)


def _log_power(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    a, b, c = _columns(p)
    return a / (1 + (t / np.exp(b)) ** c)


def _pow4(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    c, a, b, alpha = _columns(p)
    return c - (a * t + b) ** -alpha


def _mmf(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    alpha, beta, kappa, delta = _columns(p)
    return alpha - (alpha - beta) / (1 + (kappa * t) ** delta)


def _exp4(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    c, a, b, alpha = _columns(p)
    return c - np.exp(-a * t**alpha + b)


def _janoschek(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    alpha, beta, kappa, delta = _columns(p)
    return alpha - (alpha - beta) * np.exp(-kappa * t**delta)


def _weibull(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    alpha, beta, kappa, delta = _columns(p)
    return alpha - (alpha - beta) * np.exp(-((kappa * t) ** delta))


def _ilog2(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    c, a = _columns(p)
    return c - a / np.log(t + 1)


FAMILIES = (
    Family("vapor pressure", (-0.5, -0.5, 0.05), _vapor),
    Family("pow3", (0.8, 0.5, 0.5), _pow3),
    Family("log log linear", (0.3, 1.5), _log_log_linear),
    Family("Hill3", (0.8, 0.6, 1.0), _hill3),
    Family("log power", (0.8, 1.0, -0.5), _log_power),
    Family("pow4", (0.8, 1.0, 1.0, 0.5), _pow4),
    Family("MMF", (0.8, 0.2, 0.3, 1.0), _mmf),
    Family("exp4", (0.8, 0.5, -0.5, 0.7), _exp4),
    Family("Janoschek", (0.8, 0.2, 0.2, 0.8), _janoschek),
    Family("Weibull", (0.8, 0.2, 0.1, 0.8), _weibull),
    Family("ilog2", (0.8, 0.4), _ilog2),
)
_SPLITS = np.cumsum([len(f.start) for f in FAMILIES])
_PARAMETERS = int(_SPLITS[-1])
DIMENSIONS = _PARAMETERS + len(FAMILIES) + 1


def curves(states: np.ndarray, t: np.ndarray) -> np.ndarray:
    """(W, T) the weighted sum of the families."""
    found = np.zeros((len(states), len(t)))
    with np.errstate(all="ignore"):
        for k, (family, end) in enumerate(zip(FAMILIES, _SPLITS, strict=True)):
            theta = states[:, end - len(family.start) : end]
            found += states[:, _PARAMETERS + k, None] * family.value(theta, t)
    return found


def log_posterior(states: np.ndarray, t: np.ndarray, y: np.ndarray, horizon: float) -> np.ndarray:
    """(W,) up to a constant; -inf where a prior forbids the state."""
    fitted = curves(states, np.append(t, [1.0, horizon]))
    log_sigma = states[:, -1]
    with np.errstate(all="ignore"):
        left = ((y - fitted[:, :-2]) ** 2).sum(1)
        found = -0.5 * left * np.exp(-2 * log_sigma) - len(t) * log_sigma
    first, last = fitted[:, -2], fitted[:, -1]
    weights = states[:, _PARAMETERS:-1]
    allowed = (weights >= 0).all(1) & (last >= first) & (last <= 1) & (last >= 0)
    allowed &= (log_sigma > np.log(1e-5)) & (log_sigma < 0)
    return np.where(allowed & np.isfinite(found), found, -np.inf)


def _fitted(family: Family, t: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The family's parameters that fit best."""
    start = np.array(family.start)

    def left(theta: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.nan_to_num(family.value(theta[None], t)[0] - y, nan=1e3, posinf=1e3, neginf=-1e3)

    return np.asarray(least_squares(left, start, max_nfev=200, loss="soft_l1", f_scale=0.1).x)


def begin(
    t: np.ndarray, y: np.ndarray, horizon: float, rng: np.random.Generator, walkers: int = WALKERS
) -> np.ndarray:
    """(W, DIMENSIONS) walkers around the least-squares fits with equal weights; all allowed by the priors."""
    theta = np.concatenate([_fitted(family, t, y) for family in FAMILIES])
    weights = np.full(len(FAMILIES), 1 / len(FAMILIES))
    centre = np.concatenate([theta, weights, [0.0]])
    sigma = np.std(y - curves(centre[None], t)[0])
    centre[-1] = np.log(np.clip(np.nan_to_num(sigma, nan=0.1), 1e-3, 0.3))
    default = np.concatenate([np.concatenate([f.start for f in FAMILIES]), weights, [np.log(0.1)]])
    found = np.empty((0, DIMENSIONS))
    width = 1e-4
    # Where the fits themselves violate a prior, walkers begin further from them, at last from usual values.
    for attempt in range(60):
        around = centre if attempt < 30 else default
        trial = around + width * np.maximum(np.abs(around), 0.1) * rng.normal(size=(4 * walkers, DIMENSIONS))
        found = np.concatenate([found, trial[np.isfinite(log_posterior(trial, t, y, horizon))]])[:walkers]
        if len(found) == walkers:
            return found
        width = 1e-4 * 1.4 ** (attempt % 30 + 1)
    raise ValueError("no state is allowed by the priors: are the values between 0 and 1, and rising?")


def sample(
    t: np.ndarray,
    y: np.ndarray,
    horizon: float,
    rng: np.random.Generator,
    steps: int = STEPS,
    burn_in: int = BURN_IN,
) -> np.ndarray:
    """(S, DIMENSIONS) states of the posterior, every 25th step after the burn-in."""
    walkers = begin(t, y, horizon, rng)
    return stretched(walkers, lambda states: log_posterior(states, t, y, horizon), steps, burn_in, rng)


def stretched(
    walkers: np.ndarray,
    log_density: Callable[[np.ndarray], np.ndarray],
    steps: int,
    burn_in: int,
    rng: np.random.Generator,
    thin: int = 25,
) -> np.ndarray:
    """(S, d) draws by the stretch move: each half of the walkers moves along lines to the other's.

    Goodman & Weare, "Ensemble samplers with affine invariance" (2010), equations 7 to 10, in two halves as in
    Foreman-Mackey et al., "emcee: The MCMC Hammer" (2013), algorithm 3.

    Args:
        walkers: (W, d) where they begin; W even, all of finite density.
        log_density: (n, d) states to (n,), up to a constant.
        steps: after the burn-in.
        burn_in: steps that are not kept.
        rng: draws the moves.
        thin: every so many steps are kept.
    """
    walkers = walkers.copy()
    log_p = log_density(walkers)
    half, kept = len(walkers) // 2, []
    for step in range(burn_in + steps):
        for moved, others in ((slice(0, half), slice(half, None)), (slice(half, None), slice(0, half))):
            z = ((_STRETCH - 1) * rng.random(half) + 1) ** 2 / _STRETCH
            partner = walkers[others][rng.integers(half, size=half)]
            proposed = partner + z[:, None] * (walkers[moved] - partner)
            new = log_density(proposed)
            accept = np.log(rng.random(half)) < (walkers.shape[1] - 1) * np.log(z) + new - log_p[moved]
            walkers[moved] = np.where(accept[:, None], proposed, walkers[moved])
            log_p[moved] = np.where(accept, new, log_p[moved])
        if step >= burn_in and (step - burn_in) % thin == 0:
            kept.append(walkers.copy())
    return np.concatenate(kept)


def predictive(states: np.ndarray, horizon: float) -> tuple[np.ndarray, np.ndarray]:
    """(S,) means and standard deviations of the normal distributions whose mixture is the forecast."""
    return curves(states, np.array([horizon]))[:, 0], np.exp(states[:, -1])
