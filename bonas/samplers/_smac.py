"""SMAC: its random forest and its expected improvement; knows SMAC and records, no method of its own.

What is SMAC's (Hutter et al. 2011, Lindauer et al. 2022): the forest and the improvement it expects on the
logarithm of the scaled cost, with the settings of its facade for hyperparameter optimization, the search for
the improvement's maximum by sorted prior draws and by local search from the best draws and the best trials,
and every fifth configuration drawn from the prior. What is not: its runner, its run history on disk and its
``Configuration`` objects; and the search for the maximum goes over tables of codes, in batches. SMAC 2.4.1
compares the arrays of neighbours where inactive hyperparameters are NaN, unequal to themselves, so that in a
conditional space its own local search skips every neighbour.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import sklearn

from bonas.samplers._base import Allowed, at_least, draw_new
from bonas.samplers._codes import Coded
from bonas.surrogate import scalarise
from fidelity.records import TrialState

with warnings.catch_warnings():
    # SMAC imports what its runner needs, Dask for one; what those announce is not for our users.
    warnings.simplefilter("ignore")
    from smac.acquisition.function.expected_improvement import EI
    from smac.model.random_forest.random_forest import EPMRandomForest, RandomForest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from fidelity.records import Fidelity, StudyView, TrialRecord
    from spaces import Space
    from spaces.table import Codes

    Floats = NDArray[np.float64]

# For one ask: prior draws, starts of the local search of each kind, neighbours of each in a round, rounds.
_DRAWS, _STARTS, _NEIGHBOURS, _ROUNDS = 2000, 10, 16, 20
# Chance of a prior draw instead, as in SMAC's facade.
_RANDOM = 0.2


class SMACSampler:
    """Proposes what SMAC's forest expects the greatest improvement from.

    It learns from the highest fidelity at which ``n_initial`` trials have a value, and from failed trials
    as the worst of those. A trial without a value there that still runs or waits counts as mediocre, so
    that parallel asks spread. Several metrics are scalarised with weights drawn for each ask (ParEGO).

    Args:
        n_initial: values at one fidelity before the forest takes over from prior draws.
        n_trees: number of trees.
        seed: seed of its randomness; the study's if None.

    Raises:
        ValueError: on a setting outside its range.
    """

    def __init__(self, *, n_initial: int = 10, n_trees: int = 10, seed: int | None = None) -> None:
        at_least("n_initial", n_initial, 2, 10)
        at_least("n_trees", n_trees, 2, 10)
        self.n_initial = n_initial
        self.n_trees = n_trees
        self.seed = seed
        self._coded: Coded | None = None

    def __repr__(self) -> str:
        return f"SMACSampler(n_initial={self.n_initial}, n_trees={self.n_trees}, seed={self.seed})"

    def __getstate__(self) -> dict[str, Any]:
        # What it remembers can be computed again, and ConfigSpace's objects had better not be copied.
        return self.__dict__ | {"_coded": None}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready settings."""
        return {
            "name": "SMACSampler",
            "n_initial": self.n_initial,
            "n_trees": self.n_trees,
            "seed": self.seed,
        }

    def sample(self, space: Space, view: StudyView, rng: np.random.Generator) -> dict[str, Any] | None:
        """The allowed candidate with the greatest expected improvement; None once the space is used up.

        Raises:
            ValueError: if SMAC cannot model the space: it takes no conditional normal or beta priors.
        """
        allowed = Allowed(space, view)
        trials, losses = training_set(view, self.n_initial)
        if not trials or rng.random() < _RANDOM:
            return draw_new(space, allowed, rng)
        if self._coded is None or self._coded.space is not space:
            self._coded = Coded(space)
        coded = self._coded
        codes = coded.trials(trials)
        with _silenced():
            try:
                model = _Forest(coded, self.n_trees, seed=int(rng.integers(2**31)))
            except ValueError as error:
                raise ValueError(f"SMAC cannot model this space: {error} Use ForestSampler.") from error
            model.train(model.inputs(codes), log_scaled(one_loss(losses, rng))[:, None])
            believed = model.predict_marginalized(model.inputs(codes))[0][:, 0]
            acquisition = _LogEI(log=True)
            acquisition.update(model=model, eta=float(believed.min()))
            found = _search(coded, model, acquisition, codes[np.argsort(believed, kind="stable")], rng)
        for row in found:
            params = coded.params(row)
            if allowed(params):
                return params
        return draw_new(space, allowed, rng)


# What it learns from --------------------------------------------------------------------------


def training_set(view: StudyView, enough: int) -> tuple[list[TrialRecord], Floats]:
    """Trials and their losses at the highest fidelity at which at least ``enough`` trials have values.

    Returns:
        trials, and losses of shape (n, metrics), smaller is better: those observed there, then failed trials
        at the worst loss, then running and waiting ones at the median. Nothing if no fidelity has enough.
    """
    levels: dict[tuple[Fidelity, int], tuple[float, tuple[float, ...]]] = {}

    def level(fidelity: Fidelity, epoch: int) -> tuple[float, tuple[float, ...]]:
        """Nominal cost of an evaluation up to there, and where it lies on each axis."""
        if (fidelity, epoch) not in levels:
            cost = round(epoch * view.axes.epoch_cost(fidelity), 9)
            levels[fidelity, epoch] = cost, tuple(view.axes.positions(fidelity, epoch))
        return levels[fidelity, epoch]

    usable = [t for t in view.trials if t.state not in (TrialState.INFEASIBLE, TrialState.FAIL)]
    # Trials stop at rungs; only there can many of them be compared.
    ends = {level(last.fidelity, last.epoch) for t in usable if (last := t.last) is not None}
    for wanted in sorted(ends, reverse=True):
        observed: dict[int, tuple[float, ...]] = {}
        for trial in usable:
            for curve in trial.curves:
                for seen in reversed(curve.observations):
                    if level(seen.fidelity, seen.epoch) == wanted:
                        if all(name in seen.values for name in view.metric_names):
                            observed[trial.number] = tuple(
                                view.signed(seen.values[name], j) for j, name in enumerate(view.metric_names)
                            )
                        break
        if len(observed) >= enough:
            break
    else:
        return [], np.empty((0, len(view.metric_names)))
    known = [t for t in usable if t.number in observed]
    losses = np.array([observed[t.number] for t in known])
    failed = [t for t in view.trials if t.state is TrialState.FAIL]
    waiting = [t for t in usable if t.number not in observed and t.last is None and not t.state.finished]
    worst, median = losses.max(axis=0), np.median(losses, axis=0)
    losses = np.concatenate([losses, np.tile(worst, (len(failed), 1)), np.tile(median, (len(waiting), 1))])
    return known + failed + waiting, losses


def one_loss(losses: Floats, rng: np.random.Generator) -> Floats:
    """Several losses as one, each scaled to [0, 1] and scalarised with drawn weights; shape (n,)."""
    if losses.shape[1] == 1:
        return losses[:, 0]
    low, span = losses.min(axis=0), np.ptp(losses, axis=0)
    return scalarise((losses - low) / np.where(span > 0, span, 1), rng.dirichlet(np.ones(losses.shape[1])))


def log_scaled(losses: Floats) -> Floats:
    """Losses as SMAC's forest learns them: the logarithm of where each lies between best and worst.

    As in SMAC's ``RunHistoryLogScaledEncoder``, the scale begins as far below the best as the fifth
    percentile is above it, so that the best loss has a finite logarithm.
    """
    low = 2 * losses.min() - np.percentile(losses, 5) - 1e-10
    span = losses.max() - low
    # Between equal losses, or ones that a floating-point number cannot tell apart, nothing is to be learnt.
    scaled = (losses - low) / span if span > 0 else np.ones_like(losses)
    return np.asarray(np.log(np.maximum(scaled, 1e-10)), dtype=np.float64)


# SMAC's own -----------------------------------------------------------------------------------


class _Trees(EPMRandomForest):
    """SMAC's trees, their leaves set in batches: logarithms of mean costs instead of mean logarithms."""

    def fit(self, X: Floats, y: Floats, sample_weight: None = None) -> None:
        """Grow the trees on inputs of shape (n, p), finite, and logarithmic costs of shape (n,)."""
        # Checking the same arguments for every tree takes a third of the fit.
        with sklearn.config_context(skip_parameter_validation=True, assume_finite=True):
            super(EPMRandomForest, self).fit(X, y)
        inputs, costs = X.astype(np.float32), np.exp(y)
        for tree, rows in zip(self.estimators_, self.estimators_samples_, strict=True):
            leaves = tree.tree_.apply(inputs[rows])
            n = np.bincount(leaves)
            used = np.flatnonzero(n)
            sums = np.bincount(leaves, weights=costs[rows])
            tree.tree_.value[used, 0, 0] = np.log(sums[used] / n[used])


class _Forest(RandomForest):
    """SMAC's forest, predicting in batches and without its detours.

    With the facade's ``max_leaf_nodes`` of 2²⁰ scikit-learn makes room for as many leaves in each tree, which
    takes a hundred times as long as growing it; most of the rest is setting and predicting one by one.
    """

    def __init__(self, coded: Coded, n_trees: int, seed: int) -> None:
        super().__init__(
            coded.space.configuration_space,
            log_y=True,
            n_trees=n_trees,
            ratio_features=1.0,
            min_samples_split=2,
            min_samples_leaf=1,
            max_depth=64,
            max_leaf_nodes=None,  # type: ignore[arg-type]
            n_jobs=1,
            seed=seed,
        )
        self._domains = coded.table.domains
        nothing = np.full((1, len(self._domains)), np.nan)
        self._fill = self._impute_inactive(nothing)[0] if self._domains else nothing[0]

    def inputs(self, codes: Codes) -> Floats:
        """Codes as SMAC's forest takes them: positions among choices, numbers in [0, 1], NaN if inactive."""
        columns = [
            codes[:, j] if domain.choices else domain.unit(codes[:, j])
            for j, domain in enumerate(self._domains)
        ]
        return np.stack(columns, axis=1)

    def _train(self, X: Floats, y: Floats) -> _Forest:
        self._rf = _Trees(**self._rf_opts)  # type: ignore[arg-type]
        self._rf.fit(np.where(np.isnan(X), self._fill, X), y.reshape(-1))
        return self

    def predict_marginalized(self, X: Floats) -> tuple[Floats, Floats]:
        """Mean and variance over the trees, each of shape (n, 1), of inputs of shape (n, p)."""
        assert self._rf is not None
        filled = np.where(np.isnan(X), self._fill, X).astype(np.float32)
        each = np.stack([tree.tree_.predict(filled).reshape(-1) for tree in self._rf.estimators_], axis=1)
        variance = np.maximum(each.var(axis=1, keepdims=True), self._var_threshold)
        return each.mean(axis=1, keepdims=True), variance


class _LogEI(EI):
    """SMAC's expected improvement on logarithmic costs, of tables instead of ``Configuration`` objects."""

    def improvement(self, X: Floats) -> Floats:
        """The improvement expected of inputs of shape (n, p), shape (n,)."""
        try:
            return np.asarray(self._compute(X)[:, 0], dtype=np.float64)
        except ValueError:
            # One is a rounding error below 0, and SMAC raises for all of them.
            if len(X) == 1:
                return np.zeros(1)
            half = len(X) // 2
            return np.concatenate([self.improvement(X[:half]), self.improvement(X[half:])])


def _search(
    coded: Coded, model: _Forest, acquisition: _LogEI, incumbents: Codes, rng: np.random.Generator
) -> Iterator[Codes]:
    """Rows of codes by falling expected improvement: prior draws, and what local search met on its way.

    Args:
        coded: the space.
        model: scales the rows.
        acquisition: scores them.
        incumbents: the trials' rows, the ones believed best first.
        rng: randomness.
    """
    prior = coded.draw(_DRAWS, rng)
    table = coded.table.deactivate(prior.copy())
    table = table[coded.table.allowed(table)]
    scores = acquisition.improvement(model.inputs(table)) if len(table) else np.empty(0)
    rows, values = [table], [scores]
    at = np.concatenate([incumbents[:_STARTS], table[np.argsort(-scores, kind="stable")[:_STARTS]]])
    height = acquisition.improvement(model.inputs(at))
    climbing = np.arange(len(at))
    for _ in range(_ROUNDS):
        near, of = _neighbours(coded, at[climbing], prior, rng)
        if not len(near):
            break
        score = acquisition.improvement(model.inputs(near))
        rows.append(near)
        values.append(score)
        higher = []
        for k, i in enumerate(climbing):
            mine = np.flatnonzero(of == k)
            if len(mine) and score[top := mine[score[mine].argmax()]] > height[i]:
                at[i], height[i] = near[top], score[top]
                higher.append(i)
        climbing = np.array(higher, dtype=np.intp)
    every, value = np.concatenate(rows), np.concatenate(values)
    for i in np.argsort(-value, kind="stable"):
        yield every[i]


def _neighbours(
    coded: Coded, table: Codes, prior: Codes, rng: np.random.Generator
) -> tuple[Codes, NDArray[np.intp]]:
    """Neighbours of every row that differ in one active hyperparameter, and the row that each is one of.

    What the change activates is taken from rows of ``prior``, what it deactivates is dropped.
    """
    of = np.repeat(np.arange(len(table)), _NEIGHBOURS)
    near = table[of]
    several = np.array([domain.size > 1 for domain in coded.table.domains])
    chance = rng.random(near.shape) * (several & ~np.isnan(near))
    column = chance.argmax(axis=1)
    kept = chance.max(axis=1, initial=0) > 0
    for j in np.unique(column[kept]).tolist():
        rows = np.flatnonzero(kept & (column == j))
        domain = coded.table.domains[j]
        if domain.kind == "categorical":
            near[rows, j] = (near[rows, j] + rng.integers(1, domain.size, size=len(rows))) % domain.size
        else:
            # SMAC's local search widens and narrows its steps; here every round has small and large ones.
            width = 0.05 * 2.0 ** rng.integers(0, 4, size=len(rows))
            codes = domain.from_unit(domain.unit(near[rows, j]) + width * rng.normal(size=len(rows)))
            step = rng.choice([-1.0, 1.0], size=len(rows))
            if domain.kind != "float":
                step = np.where(near[rows, j] == domain.low, 1.0, step)
                step = np.where(near[rows, j] == domain.high, -1.0, step)
                codes = np.where(codes == near[rows, j], near[rows, j] + step, codes)
            near[rows, j] = codes
    near = np.where(np.isnan(near), prior[rng.integers(len(prior), size=len(near))], near)
    near = coded.table.deactivate(near)
    kept &= coded.table.allowed(near)
    return near[kept], of[kept]


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep SMAC's notes out of the user's log; the user's level stays."""
    logger = logging.getLogger("smac")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
