"""Bayesian optimization: where the surrogate expects improvement, near what was good already.

Knows the surrogate's predictions and the space's neighbourhoods, nothing of networks or schedules.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bonas.acquisition import log_expected_improvement
from bonas.samplers._base import Allowed, at_least, draw_new, found_infeasible
from bonas.samplers._branches import due, steps, within
from bonas.samplers._refits import Refits, until
from bonas.surrogate import Encoder, Feasible, Surrogate, identity
from fidelity.records import TrialState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from fidelity.records import StudyView, TrialRecord
    from spaces import Space

# For one ask: mutations of each incumbent; mutants mutated again, and how often each; prior draws.
_MUTATIONS, _AGAIN, _FURTHER, _PRIOR = 32, 3, 12, 64
_LEAST_INITIAL, _MOST_INITIAL = 5, 20
# Candidates from each earlier study: what it believes best.
_LEADING = 20
# Rounds of search for better ones, each from so many candidates, and how many mutations of each. Only with
# a process: between two splits the belief of a forest is flat.
_ROUNDS, _STARTS, _STEPS = 4, 4, 16
# Candidates less likely to be feasible are proposed only where there are no others.
_LIKELY = 0.5
# Trials up to which a process is fitted as well, where one model serves many asks.
_SMOOTH = 64
# Where evaluations are cheap, this part of them is drawn from the prior: a model of first epochs is sure of
# itself where a slow starter would win in the end.
_PRIOR_SHARE = 0.2
# Further prior draws where one model serves many asks.
_PRIOR_FOR_MANY = 256
# Trees whose belief one of many asks of the same model goes by.
_SOME = 8
# The improvement expected beyond a limit outweighs any small chance to be within: such candidates come last.
_LAST = -1e9


class ForestSampler:
    """Proposes the candidate with the greatest expected improvement under a model of what was observed.

    The model, a forest of random trees, learns from every observation at every fidelity and epoch, on the
    normal scale, from the encoded configuration, the space's structural features and the position on each
    fidelity axis; it predicts at full fidelity. As long as there are few observations a Gaussian process,
    which makes more of them, has the greater say. Candidates are mutations of the best incumbents, and draws
    from the prior; with a process the best of these are mutated further. Several metrics are scalarised with
    weights drawn anew for each ask (ParEGO, Knowles 2006).

    A constraint that can be counted leaves out the candidates that violate it. Of what only trying tells,
    latency and running out of memory, the improvement is multiplied by the probability that a candidate is
    feasible, learned from the trials (Schonlau et al. 1998, Gardner et al. 2014); candidates that are more
    likely not feasible come last (a chance constraint, Gelbart et al. 2014). An infeasible trial says
    nothing about quality: networks near a limit are not shunned for being near it.

    Args:
        n_initial: trials with a value, or failed ones, before the forest takes over from prior draws. None:
            a quarter of the number of hyperparameters, at least 5 and at most 20; fewer leave a large space
            unseen, since what follows lies near the best of them.
        n_trees: number of trees.
        n_process: up to so many observations a Gaussian process is averaged with the forest; 0 for never.
        n_incumbents: how many of the best trials are mutated.
        random_fraction: chance of a prior draw instead, an insurance against misjudgements that never end.
        seed: seed of its randomness; the study's if None.

    Raises:
        ValueError: on a setting outside its range.
    """

    learns_from_earlier = True

    def __init__(
        self,
        *,
        n_initial: int | None = None,
        n_trees: int = 32,
        n_process: int = 300,
        n_incumbents: int = 5,
        random_fraction: float = 0.0,
        seed: int | None = None,
    ) -> None:
        if n_initial is not None:
            at_least("n_initial", n_initial, 1, 5)
        at_least("n_trees", n_trees, 2, 32)
        at_least("n_process", n_process, 0, 300)
        at_least("n_incumbents", n_incumbents, 1, 5)
        if not (isinstance(random_fraction, (int, float)) and 0 <= random_fraction <= 1):
            raise ValueError(f"random_fraction={random_fraction!r}: must lie in [0, 1]. The default is 0.")
        self.n_initial = n_initial
        self.n_trees = n_trees
        self.n_process = n_process
        self.n_incumbents = n_incumbents
        self.random_fraction = random_fraction
        self.seed = seed
        self._encoder: Encoder | None = None
        self._refits = Refits()
        self._known: _Known | None = None

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v}" for k, v in self.to_dict().items() if k != "name")
        return f"ForestSampler({shown})"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready settings."""
        return {
            "name": "ForestSampler",
            "n_initial": self.n_initial,
            "n_trees": self.n_trees,
            "n_process": self.n_process,
            "n_incumbents": self.n_incumbents,
            "random_fraction": self.random_fraction,
            "seed": self.seed,
        }

    def sample(self, space: Space, view: StudyView, rng: np.random.Generator) -> dict[str, Any] | None:
        """The allowed candidate with the greatest expected improvement; None once the space is used up."""
        allowed = Allowed(space, view)
        initial = self._initial(space)
        few = len(list(itertools.islice(_informative(view), initial))) < initial
        beliefs = self._encode(space).beliefs(view)
        if beliefs is not None and few:
            for params in beliefs.best(len(view.trials)):
                if allowed(params):
                    return dict(params)
        if few or not _any_valued(view) or rng.random() < self.random_fraction:
            return draw_new(space, allowed, rng)
        fit = self._refits.newest(view)
        if fit is not None and rng.random() < _PRIOR_SHARE:
            return draw_new(space, allowed, rng)
        if fit is None:
            ranked = self._searched(space, view, rng, allowed)
        else:
            ranked = self._known_at(space, view, *fit).ranked(rng)
        for params in _first_allowed(*ranked, allowed, 1):
            return params
        return draw_new(space, allowed, rng)

    def _searched(
        self, space: Space, view: StudyView, rng: np.random.Generator, allowed: Allowed
    ) -> tuple[list[dict[str, Any]], NDArray[np.float64]]:
        """Candidates of a model of everything, and what each is worth."""
        beliefs = self._encode(space).beliefs(view)
        weights = rng.dirichlet(np.ones(len(view.metric_names)))
        encoder = self._encode(space)
        model = Surrogate(encoder, view, rng, weights=weights, n_trees=self.n_trees, n_process=self.n_process)
        order = [int(i) for i in np.argsort(model.beliefs, kind="stable")]
        branch = due(space, [trial.params for trial in view.trials], rng)
        incumbents = [dict(model.trials[i].params) for i in order[: self.n_incumbents]]
        candidates: list[dict[str, Any]] = []
        if branch is not None:  # as if there were no other: its own best is to be improved upon
            order = [i for i in order if within(branch, model.trials[i].params)] or order
            inside = [dict(model.trials[i].params) for i in order[: self.n_incumbents]]
            candidates = _distinct(steps(space, branch, _distinct([*inside, *incumbents]), rng))
        if not candidates:
            candidates = self._candidates(space, incumbents, rng)
        if beliefs is not None:
            candidates += beliefs.leading(_LEADING)
        chance = self._chance(encoder, view, rng)
        best = float(model.beliefs[order[0]])

        def worth(params: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
            encoded = encoder(params)
            return log_expected_improvement(*model.predict_encoded(encoded), best) + chance(encoded)

        value = worth(candidates)
        starts: list[dict[str, Any]] = []
        for _ in range(_ROUNDS if model.smooth and branch is None else 0):
            before, starts = starts, _first_allowed(candidates, value, allowed, _STARTS)
            known = {identity(params) for params in candidates}
            drawn = [mutant for params in starts for mutant in space.neighbours(params, rng, _STEPS)]
            near = [params for params in _distinct(drawn) if identity(params) not in known]
            if not near or starts == before:
                break
            candidates += near
            value = np.concatenate([value, worth(near)])
        return candidates, value

    def _known_at(self, space: Space, view: StudyView, watermark: int, ended: int) -> _Known:
        """The candidates of the fit at a watermark."""
        first = view.trials[0]
        of = (space, first.key, first.seed, view.metric_names, view.directions, watermark)
        if self._known is None or self._known.of != of:
            then = until(view, watermark)
            # Watermarks also count what an interruption cost; how many segments have ended does not.
            rng = np.random.default_rng([first.seed, ended])
            if not _any_valued(then):
                self._known = _Known(of, [], np.empty((1, 0)), np.zeros((1, 1)), np.empty(0))
            elif len(then.trials) <= min(_SMOOTH, self.n_process):
                found, value = self._searched(space, then, rng, Allowed(space, then))
                self._known = _Known(of, found, None, None, value)
            else:
                self._known = self._fitted(space, then, rng, of)
        return self._known

    def _fitted(self, space: Space, view: StudyView, rng: np.random.Generator, of: Any) -> _Known:
        """What a forest alone makes of candidates: of cheap evaluations there are many, and short curves."""
        encoder = self._encode(space)
        weights = rng.dirichlet(np.ones(len(view.metric_names)))
        model = Surrogate(
            encoder, view, rng, weights=weights, n_trees=self.n_trees, n_process=0, whole_curves=False
        )
        order = np.argsort(model.beliefs, kind="stable")[: self.n_incumbents]
        incumbents = [model.trials[i].params for i in order]
        candidates = self._candidates(space, [dict(params) for params in incumbents], rng)
        candidates = _distinct([*candidates, *space.sample(_PRIOR_FOR_MANY, rng)])
        if (beliefs := encoder.beliefs(view)) is not None:
            candidates += beliefs.leading(_LEADING)
        chance = self._chance(encoder, view, rng)
        encoded = encoder(candidates)
        best = model.each_encoded(encoder.remembered(incumbents))
        return _Known(of, candidates, model.each_encoded(encoded), best, chance(encoded))

    def _chance(
        self, encoder: Encoder, view: StudyView, rng: np.random.Generator
    ) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
        """What encoded configurations, (n, d), are worth less for perhaps being infeasible, (n,)."""
        refused = [found_infeasible(view, trial) for trial in view.trials]
        feasible = Feasible(encoder, view, refused, rng, n_trees=self.n_trees)

        def chance(encoded: NDArray[np.float32]) -> NDArray[np.float64]:
            logs = feasible.log_probability(encoded)
            return np.where(logs < np.log(_LIKELY), logs + _LAST, logs)

        return chance

    def posterior(
        self, space: Space, view: StudyView, configurations: Sequence[Mapping[str, Any]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What the surrogate believes of configurations at full fidelity, from all records.

        Scores are losses on the normal scale of all observations (:func:`bonas.surrogate.normal_scores`):
        smaller is better whatever the direction, 0 is the median observation, −1.3 the best tenth. Several
        metrics are scalarised with equal weights.

        Args:
            space: the study's space.
            view: the study's records.
            configurations: n canonical configurations.

        Returns:
            mean and standard deviation, each of shape (n,); the same for the same arguments.

        Raises:
            ValueError: if nothing has been observed yet.
        """
        # More trees than an ask has: nobody waits for this one, and it should not hang on luck.
        rng = np.random.default_rng(0)
        model = Surrogate(self._encode(space), view, rng, n_trees=4 * self.n_trees, n_process=self.n_process)
        return model.predict(configurations)

    def _initial(self, space: Space) -> int:
        if self.n_initial is not None:
            return self.n_initial
        return min(_MOST_INITIAL, max(_LEAST_INITIAL, len(space.names) // 4))

    def _encode(self, space: Space) -> Encoder:
        if self._encoder is None or self._encoder.space is not space:
            self._encoder = Encoder(space)
        return self._encoder

    def _candidates(
        self, space: Space, incumbents: Sequence[dict[str, Any]], rng: np.random.Generator
    ) -> list[dict[str, Any]]:
        """Mutations of the incumbents and prior draws, each configuration once, in a repeatable order."""
        drawn = [mutant for params in incumbents for mutant in space.neighbours(params, rng, _MUTATIONS)]
        if drawn:
            for i in rng.integers(len(drawn), size=_AGAIN):
                drawn += space.neighbours(drawn[i], rng, _FURTHER)
        drawn += space.sample(_PRIOR, rng)
        return _distinct(drawn)


@dataclass(frozen=True, slots=True)
class _Known:
    """What one fit made of its candidates."""

    of: Any
    """What it was fitted to."""
    candidates: list[dict[str, Any]]
    each: NDArray[np.float64] | None
    """What each tree predicts of them, shape (trees, n); None if their worth is told as a whole."""
    best: NDArray[np.float64] | None
    """The same of the incumbents."""
    worth: NDArray[np.float64]
    """What is added to the logarithm of the expected improvement; without trees that, too; shape (n,)."""

    def ranked(self, rng: np.random.Generator) -> tuple[list[dict[str, Any]], NDArray[np.float64]]:
        """The candidates and what each is worth: in the eyes of some trees, so that asks differ."""
        if self.each is None or self.best is None:
            return self.candidates, self.worth
        some = rng.choice(len(self.each), size=min(_SOME, len(self.each)), replace=False)
        each = self.each[some]
        best = float(self.best[some].mean(axis=0).min())
        value = log_expected_improvement(each.mean(axis=0), each.std(axis=0), best)
        return self.candidates, value + self.worth


def _informative(view: StudyView) -> Iterator[TrialRecord]:
    """The trials that say how good a configuration is."""
    for trial in view.trials:
        if _is_valued(view, trial) or (trial.state is TrialState.FAIL and trial.last is None):
            yield trial


def _any_valued(view: StudyView) -> bool:
    return any(_is_valued(view, trial) for trial in view.trials)


def _is_valued(view: StudyView, trial: TrialRecord) -> bool:
    values = trial.values
    return all(name in values for name in view.metric_names)


def _distinct(configurations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each canonical configuration once, in a repeatable order."""
    return list({identity(params): params for params in configurations}.values())


def _first_allowed(
    candidates: Sequence[dict[str, Any]], value: NDArray[np.float64], allowed: Allowed, n: int
) -> list[dict[str, Any]]:
    """The ``n`` allowed candidates of the greatest value; only as many are checked as it takes."""
    ordered = (candidates[int(i)] for i in np.argsort(-value, kind="stable"))
    return list(itertools.islice((params for params in ordered if allowed(params)), n))
