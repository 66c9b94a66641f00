"""Predicts losses at full fidelity from everything observed; knows records and numbers, no search strategy.

Glossary:
    row      one observation: (configuration, fidelity, epoch) → loss
    X        (n, d) float32 inputs: the encoded configuration, its structural features, and where the
             observation lies on each fidelity axis
    score    a loss on the normal scale: Φ⁻¹((rank − ½) / n) among all rows; smaller is better
    tree     extremely randomised (Geurts et al. 2006), grown on a bootstrap sample of its own; mean and
             spread of a prediction are those over the trees (Hutter et al. 2011)
    process  a Gaussian process, which learns more than trees from a few hundred rows and costs their cube
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import sklearn
from scipy.special import log_ndtr, ndtri
from scipy.stats import rankdata
from sklearn.tree import ExtraTreeRegressor

from bonas.earlier import Beliefs, agreement
from bonas.gaussian_process import GaussianProcess
from fidelity.changes import Changes
from fidelity.records import TrialState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from fidelity.records import Earlier, Fidelity, Observation, StudyView, TrialRecord
    from spaces import Space

    Floats = NDArray[np.float64]

# Inactive parameters: outside the unit interval that active ones are scaled to, so that one split tells.
INACTIVE = -1.0
# Predictions of trees that agree exactly still leave something to be learnt.
_LEAST_STD = 1e-3


def normal_scores(losses: Floats) -> Floats:
    """Losses by rank on the normal scale: Φ⁻¹((rank − ½) / n), ties sharing their mean rank.

    Whatever the metric's unit and however far its outliers, the best stands apart from the second best.

    Args:
        losses: shape (n,), finite.

    Returns:
        scores, shape (n,), with median 0; smaller is better.
    """
    n = len(losses)
    scores: Floats = ndtri((rankdata(losses) - 0.5) / n)
    return scores


class Forest:
    """Extremely randomised trees with bootstrap samples.

    Args:
        X: inputs, shape (n, d), finite.
        y: targets, shape (n,).
        rng: seeds the trees and draws their samples.
        n_trees: number of trees.
        chances: of each row to be drawn into a tree's sample, shape (n,), summing to 1; equal if None.
        max_features: fraction of the inputs tried at each split.
        sample_rows: at most this many rows are drawn for one tree, so that fitting never takes longer
            than at this many rows, while the forest as a whole still sees all of them.
    """

    def __init__(
        self,
        X: NDArray[np.float32],
        y: Floats,
        rng: np.random.Generator,
        *,
        chances: Floats | None = None,
        n_trees: int = 32,
        max_features: float = 0.5,
        sample_rows: int = 200,
    ) -> None:
        n = len(y)
        size = min(n, sample_rows)
        chances = np.full(n, 1 / n) if chances is None else chances
        target = np.ascontiguousarray(y, dtype=np.float64).reshape(-1, 1)
        self._trees = []
        # Checking the same arguments once for each tree costs a fifth of the fit.
        with sklearn.config_context(skip_parameter_validation=True, assume_finite=True):
            for seed in rng.integers(2**31 - 1, size=n_trees):
                drawn = rng.multinomial(size, chances)
                rows = np.flatnonzero(drawn)
                tree = ExtraTreeRegressor(max_features=max_features, random_state=int(seed))
                weights = drawn[rows].astype(np.float64)
                tree.fit(X[rows], target[rows], sample_weight=weights, check_input=False)
                # The compiled tree alone: predicting through the estimator costs more than predicting.
                self._trees.append(tree.tree_)

    noise = 0.0
    """The spread over the trees holds the noise already."""

    def each(self, X: NDArray[np.float32]) -> Floats:
        """What each tree predicts, shape (trees, n), for inputs of shape (n, d)."""
        return np.stack([tree.predict(X).reshape(-1) for tree in self._trees])

    def predict(self, X: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Mean and standard deviation over the trees, each of shape (n,), for inputs of shape (n, d)."""
        each = self.each(X)
        return each.mean(axis=0), np.maximum(each.std(axis=0), _LEAST_STD)


def identity(params: Mapping[str, Any]) -> tuple[Any, ...]:
    """Equal for the same canonical configuration, which lists its parameters in the space's order."""
    return (*params, *params.values())


class Encoder:
    """Configurations of one space as rows of numbers: encoded parameters beside structural features.

    A row is a function of its configuration alone; remembering it changes nothing but the time.
    """

    _MOST = 20_000

    def __init__(self, space: Space) -> None:
        self.space = space
        self.n_parameters = len(space.encode_names)
        """How many of its columns, the first ones, encode hyperparameters."""
        self.collect = Collector()
        """What the trials of a study say."""
        self._rows: dict[tuple[Any, ...], int] = {}
        self._table = np.empty((0, 0), dtype=np.float32)
        self._told: tuple[Earlier, ...] = ()
        self._beliefs: Beliefs | None = None

    def beliefs(self, view: StudyView) -> Beliefs | None:
        """What earlier studies believe, fitted once; None where there are none."""
        if self._told is not view.earlier:
            self._told = view.earlier
            self._beliefs = Beliefs(self, view.earlier, view.metric_names) if view.earlier else None
        return self._beliefs

    def groups(self, n_columns: int) -> NDArray[np.intp]:
        """Which of ``n_columns`` columns belong together, shape (n_columns,), from 0.

        Those of one category's one-hot code do; every other column, and any behind the encoder's own,
        stands alone.
        """
        columns = iter(self.space.encode_names)
        column = next(columns, None)
        found: list[int] = []
        for number, name in enumerate(self.space.names):
            while column is not None and (column == name or column.startswith(f"{name}=")):
                found.append(number)
                column = next(columns, None)
        alone = len(self.space.names) + np.arange(n_columns - len(found))
        return np.concatenate([np.array(found, dtype=np.intp), alone])

    def __call__(self, configurations: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
        """Shape (n, d), finite, n at least 1."""
        encoded = np.nan_to_num(self.space.encode(configurations), nan=INACTIVE)
        features = self.space.features_many(configurations)
        rows: NDArray[np.float32] = np.concatenate([encoded, features], axis=1).astype(np.float32)
        return rows

    def remembered(self, configurations: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
        """The same, each configuration computed once: for trials, which are asked for again and again."""
        keys = [identity(params) for params in configurations]
        new = {key: params for key, params in zip(keys, configurations, strict=True) if key not in self._rows}
        if len(self._rows) + len(new) > self._MOST:
            self._rows.clear()
            new = dict(zip(keys, configurations, strict=True))
        if new:
            rows = self(list(new.values()))
            self._table = np.concatenate([self._table, rows]) if self._rows else rows
            self._rows.update(zip(new, range(len(self._rows), len(self._rows) + len(new)), strict=True))
        return self._table[[self._rows[key] for key in keys]]


@dataclass(frozen=True, slots=True)
class Rows:
    """What was observed, ready for a model."""

    trials: tuple[TrialRecord, ...]
    """Those with a row, each once."""
    of: NDArray[np.intp]
    """The position in ``trials`` of each row's, shape (n,); the rows of a trial stand together."""
    positions: Floats
    """Where the row lies on each fidelity axis, in [0, 1], shape (n, axes)."""
    losses: Floats
    """One column for each metric, turned so that smaller is better, shape (n, metrics)."""
    believed: NDArray[np.bool_]
    """Rows of running trials without a value, whose losses are NaN, shape (n,)."""
    ends: NDArray[np.bool_]
    """Rows that are all there is of a trial, or end a segment, or are a curve's latest, shape (n,)."""


class Collector:
    """Every observation of every trial, of those that have not changed since as it was before."""

    def __init__(self) -> None:
        self._changes = Changes()
        self._read: list[_OfTrial] = []

    def __call__(self, view: StudyView) -> Rows:
        """The rows of a view.

        A FAIL trial stands for the worst loss observed, at full fidelity. INFEASIBLE trials have no value
        and leave no row. A trial without observations that is running, or waits to run again, leaves a row
        without a loss, so that whoever fills it can keep further trials away from it.
        """
        of = (view.metric_names, view.directions, view.axes)
        read = self._read[: len(view.trials)]
        changed = self._changes.since(view.trials, of)
        for i, rows in zip(changed, _rows(view, [view.trials[i] for i in changed]), strict=True):
            read[i : i + 1] = [rows]
        self._read = read
        self._changes.read(view.trials, of)
        counts = np.array([len(each.ends) for each in read], dtype=np.intp)
        present = np.flatnonzero(counts).tolist()
        some = [read[i] for i in present]
        losses = np.concatenate([each.losses for each in some]) if some else np.empty((0, 0))
        observed = np.isfinite(losses).all(axis=1)
        if not observed.any():
            # Failures alone say nothing about where to look.
            nothing, k = np.empty(0, np.bool_), len(view.metric_names)
            none = np.empty((0, len(view.axes.positions(view.axes.full))))
            return Rows((), np.empty(0, np.intp), none, np.empty((0, k)), nothing, nothing)
        # Of a trial without a value the last row.
        last = np.cumsum(counts[present]) - 1
        failed = last[[each.failed for each in some]]
        if len(failed):
            losses[failed] = losses[observed].max(axis=0)
        believed = np.zeros(len(losses), dtype=np.bool_)
        believed[last[[each.believed for each in some]]] = True
        return Rows(
            trials=tuple(view.trials[i] for i in present),
            of=np.repeat(np.arange(len(some)), counts[present]),
            positions=np.concatenate([each.positions for each in some]),
            losses=losses,
            believed=believed,
            ends=np.concatenate([each.ends for each in some]),
        )


class _OfTrial(NamedTuple):
    """The rows of one trial."""

    positions: Floats
    losses: Floats
    ends: NDArray[np.bool_]
    failed: bool
    believed: bool


def _rows(view: StudyView, trials: Sequence[TrialRecord]) -> list[_OfTrial]:
    """What each trial says."""
    known: dict[tuple[Fidelity, int], list[float]] = {}
    full = view.axes.positions(view.axes.full)
    positions: list[list[float]] = []
    losses: list[list[float]] = []
    ends: list[bool] = []
    found: list[tuple[slice, bool, bool]] = []
    for trial in trials:
        before, feasible = len(ends), trial.state is not TrialState.INFEASIBLE
        for curve in trial.curves if feasible else ():
            latest = curve.observations[-1] if curve.observations else None
            for seen in curve.observations:
                if all(name in seen.values for name in view.metric_names):
                    at = (seen.fidelity, seen.epoch)
                    if at not in known:
                        known[at] = view.axes.positions(*at)
                    positions.append(known[at])
                    losses.append(_losses(view, seen))
                    ends.append(seen is latest or seen.epoch >= seen.fidelity.epochs)
        failed = trial.state is TrialState.FAIL
        believed = len(ends) == before and not trial.state.finished
        if failed or believed:
            positions.append(full)
            losses.append([np.nan] * len(view.metric_names))
            ends.append(True)
        found.append((slice(before, len(ends)), failed, believed))
    places = np.array(positions, dtype=np.float64).reshape(len(ends), len(full))
    values = np.array(losses, dtype=np.float64).reshape(len(ends), len(view.metric_names))
    marks = np.array(ends, dtype=np.bool_)
    return [_OfTrial(places[s], values[s], marks[s], failed, believed) for s, failed, believed in found]


def _losses(view: StudyView, seen: Observation) -> list[float]:
    return [view.signed(seen.values[name], j) for j, name in enumerate(view.metric_names)]


class Model(Protocol):
    """Predicts scores from rows of numbers."""

    noise: float
    """Standard deviation of an observation about the value predicted, beyond the prediction's own."""

    def predict(self, X: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Mean and standard deviation, each of shape (n,), for inputs of shape (n, d)."""


# Of a mixture. Neither alone did as well on all tables and problems (docs/samplers.md).
_FOREST, _PROCESS = 0.3, 0.7


class Mixture:
    """A forest and a process, each believed with a fixed probability: where they differ, it is less sure."""

    def __init__(self, forest: Model, process: Model) -> None:
        self._forest, self._process = forest, process
        self.noise = float(np.sqrt(_PROCESS)) * process.noise

    def predict(self, X: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the mixture, each of shape (n,), for inputs of shape (n, d)."""
        a, s = self._forest.predict(X)
        b, t = self._process.predict(X)
        variance = _FOREST * s**2 + _PROCESS * t**2 + _FOREST * _PROCESS * (a - b) ** 2
        return _FOREST * a + _PROCESS * b, np.sqrt(variance)


class Surrogate:
    """What everything a study has observed says about full fidelity.

    It is a forest; while at most ``n_process`` segments of trials have ended, mixed with a Gaussian process.

    Args:
        encoder: of the study's space.
        view: the study's records.
        rng: randomness of the forest.
        weights: of several metrics, shape (k,), summing to 1; equal ones if None. Their scores are
            scalarised by the augmented Chebyshev function.
        n_trees: number of trees of the forest.
        n_process: the most rows that a process is fitted to, each the end of a segment.
        whole_curves: whether the forest alone learns from all of a curve, not from the ends of segments only.

    Raises:
        ValueError: if nothing has been observed yet.
    """

    def __init__(
        self,
        encoder: Encoder,
        view: StudyView,
        rng: np.random.Generator,
        *,
        weights: Floats | None = None,
        n_trees: int = 32,
        n_process: int = 300,
        whole_curves: bool = True,
    ) -> None:
        rows = encoder.collect(view)
        if not rows.trials:
            raise ValueError("no observation yet: a surrogate needs at least one. Report a value first.")
        self._encoder = encoder
        self._full = np.asarray(view.axes.positions(view.axes.full), dtype=np.float32)
        few = int(rows.ends.sum()) <= n_process
        # Beyond the ends of segments a curve says little more, and a process may not have many rows.
        keep = _subset(rows, rng) if whole_curves and not few else np.flatnonzero(rows.ends)
        losses, positions = rows.losses[keep], rows.positions[keep]
        scores = np.stack([_filled_scores(column) for column in losses.T], axis=1)
        k = scores.shape[1]
        self._weights = np.full(k, 1 / k) if weights is None else weights
        self.scores = scalarise(scores, self._weights)
        of = rows.of[keep]
        encoded = self._encoder.remembered([trial.params for trial in rows.trials])[of]
        latest = _latest(of)
        X = np.concatenate([encoded, positions.astype(np.float32)], axis=1)
        # The model learns what is different from what earlier studies believe, as far as they are right.
        self._beliefs = encoder.beliefs(view)
        target = self.scores
        if self._beliefs is not None:
            believed = self._beliefs.predict(encoded, self._weights)
            seen = latest[~rows.believed[keep][latest]]
            groups = [tuple(position) for position in positions[seen].tolist()]
            self._agreement = agreement(believed[seen], target[seen], groups)
            target = target - believed @ self._agreement
        # Half of a tree's sample are latest values: however long the curves are, what they came to counts.
        chances = np.full(len(keep), 0.5 / len(keep))
        chances[latest] += 0.5 / len(latest)
        self._forest = Forest(X, target, rng, chances=chances, n_trees=n_trees)
        self._model: Model = self._forest
        self.smooth = few
        """Whether what it believes changes little by little, not at a forest's splits alone."""
        if few:
            process = GaussianProcess(
                X,
                target,
                encoder.groups(X.shape[1]),
                rng,
                n_trends=len(self._full),
                n_marked=encoder.n_parameters,
            )
            self._model = Mixture(self._model, process)
        self.trials: tuple[TrialRecord, ...] = tuple(rows.trials[i] for i in of[latest].tolist())
        """The trials it learned from, each once."""
        self.beliefs: Floats = self.predict_encoded(encoded[latest])[0]
        """What it believes of them at full fidelity: the mean score of each of ``trials``."""

    def predict(self, configurations: Sequence[Mapping[str, Any]]) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the score an evaluation at full fidelity would have, each (n,).

        Scores are losses on the normal scale of all observations: smaller is better, 0 is the median.
        """
        if not configurations:
            return np.empty(0), np.empty(0)
        mean, std = self.predict_encoded(self._encoder(configurations))
        return mean, np.hypot(std, self._model.noise)

    def predict_encoded(self, encoded: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """The same without the noise of an evaluation, of what the encoder has encoded, shape (n, d)."""
        mean, std = self._model.predict(self._at_full(encoded))
        return mean + self._told(encoded), std

    def each_encoded(self, encoded: NDArray[np.float32]) -> Floats:
        """The same of each tree of the forest, shape (trees, n)."""
        return self._forest.each(self._at_full(encoded)) + self._told(encoded)

    def _at_full(self, encoded: NDArray[np.float32]) -> NDArray[np.float32]:
        full = np.broadcast_to(self._full, (len(encoded), len(self._full)))
        return np.concatenate([encoded, full], axis=1)

    def _told(self, encoded: NDArray[np.float32]) -> Floats | float:
        """What earlier studies believe, as far as they are right."""
        if self._beliefs is None:
            return 0.0
        told: Floats = self._beliefs.predict(encoded, self._weights) @ self._agreement
        return told


# Measured again, a latency differs by about so much (logarithm).
_NOISE = 0.1
# However often a kind of network ran out of memory, another one of it may not.
_LEAST_CHANCE = 0.01


class Feasible:
    """How likely configurations keep the constraints that only trying tells, learned from the trials.

    Args:
        encoder: of the study's space.
        view: the study's records.
        refused: for each trial of ``view`` whether trying showed that it is infeasible.
        rng: randomness of the forests.
        n_trees: number of trees of each.
    """

    def __init__(
        self,
        encoder: Encoder,
        view: StudyView,
        refused: Sequence[bool],
        rng: np.random.Generator,
        *,
        n_trees: int = 32,
    ) -> None:
        self._excess = self._chance = None
        known: list[TrialRecord] = []
        excess: list[float] = []
        tried: list[TrialRecord] = []
        ran_out: list[float] = []
        for trial, out in zip(view.trials, refused, strict=True):
            above = None if view.bounds is None else view.bounds.excess(trial)
            if above is not None:
                known.append(trial)
                excess.append(above)
            if above is not None and above > 0:
                continue  # never trained
            if out or trial.state is not TrialState.INFEASIBLE:
                tried.append(trial)
                ran_out.append(float(out))
        if known:
            X = encoder.remembered([trial.params for trial in known])
            self._excess = Forest(X, np.array(excess), rng, n_trees=n_trees)
        if any(ran_out):
            X = encoder.remembered([trial.params for trial in tried])
            self._chance = Forest(X, np.array(ran_out), rng, n_trees=n_trees)

    def log_probability(self, encoded: NDArray[np.float32]) -> Floats:
        """Logarithm of the probability of being feasible, shape (n,), of encoded configurations, (n, d)."""
        result = np.zeros(len(encoded))
        if self._excess is not None:
            mean, std = self._excess.predict(encoded)
            result += log_ndtr(-mean / np.hypot(std, _NOISE))
        if self._chance is not None:
            out, _ = self._chance.predict(encoded)
            result += np.log(np.maximum(1 - out, _LEAST_CHANCE))
        return result


def scalarise(scores: Floats, weights: Floats) -> Floats:
    """Several scores as one: the augmented Chebyshev function of ParEGO (Knowles 2006, eq. 2).

    Args:
        scores: losses on comparable scales, shape (n, k).
        weights: shape (k,), non-negative, summing to 1.

    Returns:
        max_j w_j d_j + 0.05 Σ_j w_j d_j with d_j = s_j − min s_j, shape (n,); a single score as it is.
    """
    if scores.shape[1] == 1:
        return scores[:, 0]
    # From the best value of each: of scores below 0 the maximum would be the one with the least weight.
    weighted = (scores - scores.min(axis=0)) * weights
    result: Floats = weighted.max(axis=1) + 0.05 * weighted.sum(axis=1)
    return result


# Rows a model is fitted to: beyond this many, older epochs of the same curves are thinned at random.
_MOST_ROWS = 4000


def _subset(rows: Rows, rng: np.random.Generator) -> NDArray[np.intp]:
    n = len(rows.of)
    if n <= _MOST_ROWS:
        return np.arange(n)
    # The latest row of each trial is what decisions hang on; the rest is evidence about curves.
    latest = _latest(rows.of)
    others = np.setdiff1d(np.arange(n), latest)
    room = max(0, _MOST_ROWS - len(latest))
    return np.sort(np.concatenate([latest, rng.choice(others, size=min(room, len(others)), replace=False)]))


def _latest(of: NDArray[np.intp]) -> NDArray[np.intp]:
    """The last row of each trial, rows of one standing together."""
    return np.flatnonzero(np.append(np.diff(of) != 0, True))


def _filled_scores(losses: Floats) -> Floats:
    """Normal scores; rows without a loss (still running) get the median: neither promising nor hopeless."""
    scores = np.zeros(len(losses))
    known = np.isfinite(losses)
    scores[known] = normal_scores(losses[known])
    return scores
