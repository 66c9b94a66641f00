"""A Parzen estimator of whole configurations, parents and children together; knows records, no networks.

Glossary, for one ask with c candidates, k kernels and p hyperparameters:
    cell        where a value lies on its hyperparameter's grid: a choice, a whole number, or one of the equal
                parts of its scale, logarithmic where the range is; the cell past the last is for *inactive*
    kernel      one trial, as a density over all configurations: walking from parents to children, every
                hyperparameter that is active in x has the factor κ_j(x_j | m_j) if the trial has it active
                with value m_j, and its prior π_j(x_j) if not
    κ_j(x | m)  (1 − ε) · local + ε · π_j(x); local is the same category, or π_j times a Gaussian around m
    good, bad   the best trials, and the others; l(x) and g(x) are the mixtures of their kernels, with one
                further kernel that is the prior itself
    score       log l(x) − log g(x) + log P(feasible | x); the candidate with the greatest is proposed

A mixture of whole configurations keeps whatever goes together in good trials, in one branch or across
branches. The estimators of Bergstra et al. 2011 (eq. 2 to 4) and, within groups of hyperparameters that are
always active together, Watanabe 2023 (arXiv:2304.11127, section 3.3) multiply one mixture for each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bonas.samplers._base import Allowed, at_least, draw_new
from bonas.samplers._codes import Coded
from bonas.samplers._facts import Facts, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from bonas.samplers._knowledge import Knowledge
    from fidelity.records import StudyView
    from spaces import Space
    from spaces.table import Codes, Domain

    Floats = NDArray[np.float64]
    Cells = NDArray[np.intp]

# The share of trials that is good, and the most there are. Fewer than the tenth, up to 25, that Watanabe 2023
# recommends for up to 30 hyperparameters: see "What was tried" in docs/samplers.md.
_SHARE, _MOST_GOOD = 0.07, 15
# Standard deviation of a number's kernel, on the unit scale.
_BANDWIDTH = 0.05
# Kernels of bad trials at most: a random subset tells as much, and an ask never takes longer.
_MOST_BAD = 1000
# Times candidates are drawn while all of them violate constraints.
_ROUNDS = 4
# Parts that the scale of a number is divided into.
_PARTS = 100


class TPESampler:
    """Proposes where good trials are dense and bad ones are not, over the whole conditional space.

    Trials that reached a higher fidelity rank before those that did not, then the latest values decide;
    several metrics rank by non-domination, then by crowding distance (Deb et al. 2002). Failed trials are
    bad, and so are those still without a value, so that parallel asks spread. Infeasible ones estimate
    where the constraints hold (Watanabe and Hutter 2023, c-TPE) and say nothing about quality: networks
    near the limit are not shunned for it. What earlier studies believe of a candidate, as far as the trials
    agree, is taken from its score.

    Args:
        n_initial: trials with a value, or failed ones, before the estimate takes over from prior draws.
        n_candidates: draws from the good trials' mixture that are scored; more exploit more.
        seed: seed of its randomness; the study's if None.

    Raises:
        ValueError: on a setting outside its range.
    """

    learns_from_earlier = True

    def __init__(self, *, n_initial: int = 10, n_candidates: int = 32, seed: int | None = None) -> None:
        at_least("n_initial", n_initial, 1, 10)
        at_least("n_candidates", n_candidates, 1, 32)
        self.n_initial = n_initial
        self.n_candidates = n_candidates
        self.seed = seed
        self._kernels: Kernels | None = None
        self._knowledge: Knowledge | None = None

    def __repr__(self) -> str:
        return f"TPESampler(n_initial={self.n_initial}, n_candidates={self.n_candidates}, seed={self.seed})"

    def __getstate__(self) -> dict[str, Any]:
        # What it remembers can be computed again, and ConfigSpace's objects had better not be copied.
        return self.__dict__ | {"_kernels": None, "_knowledge": None}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready settings."""
        return {
            "name": "TPESampler",
            "n_initial": self.n_initial,
            "n_candidates": self.n_candidates,
            "seed": self.seed,
        }

    def sample(self, space: Space, view: StudyView, rng: np.random.Generator) -> dict[str, Any] | None:
        """The allowed candidate with the greatest score; None once the space is used up."""
        allowed = Allowed(space, view)
        kernels = self._of(space)
        kernels.facts.update(view)
        groups = split(kernels.facts)
        knowledge = self._told(space, view)
        if not len(groups.good) or groups.n_informative < self.n_initial:
            for params in () if knowledge is None else knowledge.best(len(view.trials)):
                if allowed(params):
                    return dict(params)
            return draw_new(space, allowed, rng)
        best: dict[str, Any] | None = None
        for _ in range(_ROUNDS):
            candidates = kernels.draw(kernels.facts.rows[groups.good], self.n_candidates, rng)
            if knowledge is not None:
                leading = kernels.coded.table.codes(knowledge.leading(self.n_candidates // 2))
                candidates = np.concatenate([candidates, leading])
            score = kernels.score(groups, candidates, rng)
            if knowledge is not None:
                score -= knowledge.losses(view, [kernels.coded.params(row) for row in candidates])
            for i in np.argsort(-score, kind="stable"):
                params = kernels.coded.params(candidates[i])
                if allowed(params):
                    return params
                best = best or params
            if view.bounds is None:
                break
        if best is not None:
            for params in space.neighbours(best, rng, 32):
                if allowed(params):
                    return params
        return draw_new(space, allowed, rng)

    def _told(self, space: Space, view: StudyView) -> Knowledge | None:
        if not view.earlier:
            return None
        from bonas.samplers._knowledge import Knowledge

        if self._knowledge is None or not self._knowledge.of(space, view):
            self._knowledge = Knowledge(space, view)
        return self._knowledge

    def _of(self, space: Space) -> Kernels:
        if self._kernels is None or self._kernels.coded.space is not space:
            self._kernels = Kernels(space)
        return self._kernels


# What is good ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Groups:
    """The trials of a study, told apart; each group the places of its trials."""

    good: Cells
    bad: Cells
    infeasible: Cells
    n_informative: int
    """Trials with a value, and failed ones."""


def split(facts: Facts) -> Groups:
    """The good trials, the bad ones (failed or still without a value too), and those found infeasible."""
    kinds = facts.kinds
    valued = np.flatnonzero(kinds == Kind.VALUED)
    n_good = min(math.ceil(_SHARE * len(valued)), _MOST_GOOD)
    good = valued[best(facts.far[valued], facts.losses[valued], n_good)]
    without = np.flatnonzero((kinds == Kind.WAITING) | (kinds == Kind.FAILED))
    bad = np.concatenate([without, np.setdiff1d(valued, good)])
    n_informative = len(valued) + int((kinds == Kind.FAILED).sum())
    return Groups(good, bad, np.flatnonzero(kinds == Kind.INFEASIBLE), n_informative)


def best(far: Floats, losses: Floats, n: int) -> Cells:
    """The places of the ``n`` best of trials with values: those of the highest fidelity reached first.

    Args:
        far: how far each was evaluated, shape (m,).
        losses: shape (m, metrics).
        n: at most m.
    """
    chosen: list[int] = []
    for level in np.unique(far)[::-1]:
        if len(chosen) == n:
            break
        rows = np.flatnonzero(far == level)
        chosen += rows[_best_rows(losses[rows], n - len(chosen))].tolist()
    return np.array(chosen, dtype=np.intp)


def _best_rows(losses: Floats, n: int) -> Cells:
    """The ``n`` best rows of losses, shape (m, metrics); of several metrics front by front."""
    if losses.shape[1] == 1:
        return np.argsort(losses[:, 0], kind="stable")[:n]
    left = np.arange(len(losses))
    found: list[int] = []
    while len(found) < n and len(left):
        front = left[_front(losses[left])]
        room = n - len(found)
        if len(front) > room:
            front = front[np.argsort(-_crowding(losses[front]), kind="stable")[:room]]
        found += front.tolist()
        left = np.setdiff1d(left, front)
    return np.array(found, dtype=np.intp)


def _front(losses: Floats) -> Cells:
    """The rows that no other row dominates, each better than none of them in everything."""
    left = np.lexsort(losses.T[::-1])
    front: list[int] = []
    while len(left):
        # First in lexicographic order: nothing that is left dominates it.
        first = left[0]
        front.append(int(first))
        rest = left[1:]
        left = rest[(losses[rest] < losses[first]).any(axis=1) | (losses[rest] == losses[first]).all(axis=1)]
    return np.array(front, dtype=np.intp)


def _crowding(losses: Floats) -> Floats:
    """Crowding distance of each row (Deb et al. 2002, section III-B); infinite at the ends of a metric."""
    distance = np.zeros(len(losses))
    for column in losses.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        gaps = (column[order[2:]] - column[order[:-2]]) / (span or 1.0)
        distance[order[1:-1]] += gaps
        distance[order[[0, -1]]] = np.inf
    return distance


# Kernels --------------------------------------------------------------------------------------


class Column:
    """One hyperparameter's grid, prior and kernel.

    Args:
        domain: its values.
        item: its description.
        draws: codes drawn from its prior, to count its cells' probabilities from where they differ.
    """

    def __init__(self, domain: Domain, item: Mapping[str, Any], draws: Floats) -> None:
        weights = item.get("weights")
        even = bool(domain.choices) or (item["type"].startswith("uniform") and domain.kind == "float")
        even |= item["type"] == "uniform_int" and not domain.log
        self.domain = domain
        self.whole = domain.size <= _PARTS
        """Whether every value has a cell of its own."""
        self.n = int(domain.size) if self.whole else _PARTS
        codes = np.arange(domain.low, domain.high + 1) if self.whole else np.empty(0)
        middles = np.asarray((np.arange(self.n) + 0.5) / self.n, dtype=np.float64)
        self.at: Floats = domain.unit(codes) if self.whole else middles
        """Middle of each cell on the unit scale."""
        self.prior: Floats = np.full(self.n, 1 / self.n)
        if weights is not None:
            self.prior = np.array(weights, dtype=np.float64) / sum(weights)
        elif not even:
            # Smoothed, so that no number is impossible.
            counts = np.bincount(self.cells(draws), minlength=self.n + 1)[: self.n]
            smoothed = (counts + 0.5) / (len(draws) + 0.5 * self.n)
            self.prior = np.asarray(smoothed, dtype=np.float64)

    def cells(self, codes: Codes) -> Cells:
        """The cell of each code; ``n`` where it is inactive."""
        inactive = np.isnan(codes)
        codes = np.where(inactive, self.domain.low, codes)
        if self.whole:
            cells = codes - self.domain.low
        else:
            cells = np.minimum(self.domain.unit(codes) * self.n, self.n - 1)
        return np.where(inactive, self.n, cells.astype(np.intp))

    def codes(self, cells: Cells, rng: np.random.Generator) -> Codes:
        """A code of each cell, drawn evenly from it."""
        if self.whole:
            return np.asarray(cells + self.domain.low, dtype=np.float64)
        unit = (cells + rng.random(len(cells))) / self.n
        return self.domain.from_unit(np.asarray(unit, dtype=np.float64))

    def kernel(self, redraw: float) -> Floats:
        """κ(x | m), shape (n + 1, n): row m, the last one the prior; column x.

        Args:
            redraw: ε, the chance that the value is drawn from the prior.
        """
        if self.domain.kind == "categorical":
            local: Floats = np.eye(self.n)
        else:
            # Of a few numbers, the neighbours must remain likely.
            width = max(_BANDWIDTH, 0.4 / max(self.n - 1, 1))
            z = (self.at[None, :] - self.at[:, None]) / width
            local = np.exp(-0.5 * z * z) * self.prior
            local = local / local.sum(axis=1, keepdims=True)
        return np.concatenate([(1 - redraw) * local + redraw * self.prior, self.prior[None]])


@dataclass(frozen=True, slots=True)
class _Tables:
    """κ of every hyperparameter for one ε."""

    cumulative: tuple[Floats, ...]
    """Over x, to draw from; shape (n + 1, n)."""
    logarithms: tuple[NDArray[np.float32], ...]
    """Row x, column m; the last row, x inactive, is 0; shape (n + 1, n + 1)."""


class Kernels:
    """Mixtures of trials as densities over the configurations of one space.

    Args:
        space: the study's space.
    """

    def __init__(self, space: Space) -> None:
        self.coded = Coded(space)
        # The priors as ConfigSpace draws them; enough draws for every part of a number's scale.
        draws = self.coded.draw(20_000, np.random.default_rng(0))
        items = self.coded.description["hyperparameters"]
        self.columns = [
            Column(domain, item, draws[:, j])
            for j, (domain, item) in enumerate(zip(self.coded.table.domains, items, strict=True))
        ]
        self._tables: dict[float, _Tables] = {}
        self._several = np.array([column.n > 1 for column in self.columns], dtype=np.bool_)
        self._inactive = np.array([column.n for column in self.columns], dtype=np.intp)
        self.facts = Facts(lambda trials: self.cells(self.coded.table.codes(trials)))
        """The trials of the latest view, their rows cells."""

    def cells(self, codes: Codes) -> Cells:
        """The cells of rows of codes, shape (n, p)."""
        cells = [column.cells(codes[:, j]) for j, column in enumerate(self.columns)]
        return np.stack(cells, axis=1) if cells else np.empty((len(codes), 0), dtype=np.intp)

    def redraw(self, good: Cells) -> float:
        """ε: of a kernel's hyperparameters one is redrawn on average, more while few trials are good.

        Drawing a fixed share of them anew would, of dozens that are active, leave none of a trial as it was.

        Args:
            good: the cells of the good trials, shape (g, p).
        """
        n_active = np.median(((good < self._inactive) & self._several).sum(axis=1))
        return 1 / max(1 + len(good), float(n_active))

    def tables(self, redraw: float) -> _Tables:
        """The kernels of every hyperparameter."""
        if redraw not in self._tables:
            self._tables.clear()
            cumulative, logarithms = [], []
            for column in self.columns:
                kernel = column.kernel(redraw)
                cumulative.append(np.cumsum(kernel, axis=1)[:, :-1])
                logs = np.zeros((column.n + 1, column.n + 1), dtype=np.float32)
                # A choice of weight 0 is never drawn, but a trial may have been given it.
                logs[:-1] = np.log(np.maximum(kernel, 1e-12)).T
                logarithms.append(logs)
            self._tables[redraw] = _Tables(tuple(cumulative), tuple(logarithms))
        return self._tables[redraw]

    def draw(self, good: Cells, n: int, rng: np.random.Generator) -> Codes:
        """Up to ``n`` rows of codes from the good trials' mixture, those that a clause forbids left out.

        Args:
            good: the cells of the good trials, shape (g, p).
            n: how many are drawn.
            rng: draws them.
        """
        tables = self.tables(self.redraw(good))
        centres = self._and_prior(good)
        centres = centres[rng.integers(len(centres), size=n)]
        table = np.empty(centres.shape)
        for j, column in enumerate(self.columns):
            uniform = rng.random(n)
            cells = (tables.cumulative[j][centres[:, j]] < uniform[:, None]).sum(axis=1)
            table[:, j] = column.codes(cells, rng)
        table = self.coded.table.deactivate(table)
        return table[self.coded.table.allowed(table)]

    def densities(self, trials: Cells, codes: Codes, redraw: float) -> NDArray[np.float32]:
        """The logarithm of every trial's kernel and, last, of the prior; shape (rows, trials + 1).

        Args:
            trials: their cells, shape (trials, p).
            codes: of the configurations, shape (rows, p).
            redraw: ε.
        """
        centres, cells = self._and_prior(trials).T, self.cells(codes).T
        logs = np.zeros((len(codes), len(trials) + 1), dtype=np.float32)
        for table, row, column in zip(self.tables(redraw).logarithms, cells, centres, strict=True):
            logs += table[row][:, column]
        return logs

    def score(self, groups: Groups, candidates: Codes, rng: np.random.Generator) -> Floats:
        """The scores of rows of codes, shape (c,), by the latest view's trials."""
        good, bad, infeasible = groups.good, _some(groups.bad, rng), _some(groups.infeasible, rng)
        centres = self.facts.rows[np.concatenate([good, bad, infeasible])]
        logs = self.densities(centres, candidates, self.redraw(self.facts.rows[good]))
        prior, a, b = logs[:, -1:], len(good), len(good) + len(bad)
        score = _mixture(logs[:, :a], prior) - _mixture(logs[:, a:b], prior)
        if len(infeasible):
            n_feasible, n = len(groups.good) + len(groups.bad), len(groups.infeasible)
            feasible = math.log(n_feasible) + _mixture(logs[:, :b], prior)
            score += feasible - np.logaddexp(feasible, math.log(n) + _mixture(logs[:, b:-1], prior))
        return score

    def _and_prior(self, centres: Cells) -> Cells:
        """Cells of trials and, last, those of the prior's kernel: nothing active."""
        return np.concatenate([centres, self._inactive[None]])


def _mixture(logs: NDArray[np.float32], prior: NDArray[np.float32]) -> Floats:
    """The logarithm of the mean of densities, the prior's among them; shape (c,)."""
    every = np.concatenate([logs, prior], axis=1).astype(np.float64)
    top = every.max(axis=1)
    result: Floats = top + np.log(np.exp(every - top[:, None]).mean(axis=1))
    return result


def _some(trials: Cells, rng: np.random.Generator) -> Cells:
    if len(trials) <= _MOST_BAD:
        return trials
    return trials[np.sort(rng.choice(len(trials), size=_MOST_BAD, replace=False))]
