"""Local search: one step from the best trial, again and again, then from another; knows records, no networks.

Glossary:
    step     a change of one hyperparameter that is active before and after; whatever the change makes active
             or inactive belongs to it
    top      a trial that no trial one step away beats
    climbed  a top whose steps are all known, or of whose steps so many were in vain that it is left
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from bonas.samplers._base import Allowed, at_least, draw_new
from bonas.samplers._codes import Coded
from bonas.samplers._ranking import reached, valued
from fidelity.pareto import spread_order

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from fidelity.records import StudyView, TrialRecord
    from spaces import Space
    from spaces.table import Codes

# Steps drawn while most are new, and to list them: of 40 different ones each is missed in one of 3,000.
_DRAWN, _LISTED = 16, 320
# Tops whose steps are remembered.
_MOST = 1000


class LocalSearchSampler:
    """Takes one step from the best trial, and starts afresh where no step helps (White et al. 2021).

    Of all tops the best that is not climbed is stepped from; a step that improves is a top itself, from which
    the search goes on at once (first improvement). When every top is climbed, a prior draw begins anew. No
    configuration is evaluated twice. Trials that were enqueued or added are tops like any others.

    Trials at a higher fidelity beat those at a lower one. With several metrics a trial beats those that it
    dominates, and tops are taken in an order that spreads over the front. Failed and infeasible trials count
    as steps in vain.

    Args:
        n_initial: prior draws to begin with; the best of them is the first top to be climbed.
        patience: steps in vain after which a top counts as climbed; of few categories all are known before.
        seed: seed of its randomness; the study's if None.

    Raises:
        ValueError: on a setting outside its range.
    """

    def __init__(self, *, n_initial: int = 5, patience: int = 50, seed: int | None = None) -> None:
        at_least("n_initial", n_initial, 1, 5)
        at_least("patience", patience, 1, 50)
        self.n_initial = n_initial
        self.patience = patience
        self.seed = seed
        self._coded: Coded | None = None
        self._listed: dict[tuple[tuple[str, Any], ...], list[tuple[str, dict[str, Any]]]] = {}

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v}" for k, v in self.to_dict().items() if k != "name")
        return f"LocalSearchSampler({shown})"

    def __getstate__(self) -> dict[str, Any]:
        # What it remembers can be computed again, and ConfigSpace's objects had better not be copied.
        return self.__dict__ | {"_coded": None, "_listed": {}}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready settings."""
        return {
            "name": "LocalSearchSampler",
            "n_initial": self.n_initial,
            "patience": self.patience,
            "seed": self.seed,
        }

    def sample(self, space: Space, view: StudyView, rng: np.random.Generator) -> dict[str, Any] | None:
        """An allowed step from the best top that is not climbed; None once the space is used up."""
        allowed = Allowed(space, view)
        if self._coded is None or self._coded.space is not space:
            self._coded, self._listed = Coded(space), {}
        trials = valued(view)
        if len(trials) >= self.n_initial:
            codes = self._coded.trials(view.trials)
            numbers = np.array([trial.number for trial in view.trials])
            row_of = {trial.number: row for row, trial in enumerate(view.trials)}
            own = codes[[row_of[trial.number] for trial in trials]]
            for i in _tops(view, trials, own):
                tried = one_step(codes, own[i]) & (numbers > trials[i].number)
                if tried.sum() >= self.patience:
                    continue
                # Listing costs more than drawing; once a third is known it pays.
                if 3 * one_step(codes, own[i]).sum() < self._n_steps(own[i]):
                    for params in space.neighbours(trials[i].params, rng, _DRAWN):
                        if allowed(params):
                            return params
                new = [p for key, p in self._steps(space, trials[i]) if key not in allowed.seen]
                new = [params for params in new if allowed.load(params) <= 1]
                if new:
                    return dict(new[int(rng.integers(len(new)))])
        return draw_new(space, allowed, rng)

    def _n_steps(self, row: Codes) -> float:
        """How many steps there are from a row of codes, apart from what they activate."""
        assert self._coded is not None
        domains = self._coded.table.domains
        return sum(domain.size - 1 for domain, code in zip(domains, row, strict=True) if not np.isnan(code))

    def _steps(self, space: Space, trial: TrialRecord) -> list[tuple[str, dict[str, Any]]]:
        """Steps from a trial with their keys, each key once: a function of its params, so remembered."""
        top = tuple(trial.params.items())
        if top not in self._listed:
            if len(self._listed) >= _MOST:
                self._listed.clear()
            rng = np.random.default_rng(zlib.crc32(trial.key.encode()))
            steps = space.neighbours(trial.params, rng, _LISTED)
            distinct = {tuple(params.items()): params for params in steps}.values()
            self._listed[top] = list({space.key(params): params for params in distinct}.items())
        return self._listed[top]


def one_step(codes: Codes, row: Codes) -> NDArray[np.bool_]:
    """Which rows of codes, shape (n, p), are one step from ``row``, shape (p,); shape (n,).

    An inactive hyperparameter, NaN, equals every value.
    """
    differ = (codes != row) & ~np.isnan(codes) & ~np.isnan(row)
    return np.asarray(differ.sum(axis=1) == 1)


def _tops(view: StudyView, trials: list[TrialRecord], codes: Codes) -> Iterator[int]:
    """Rows of the valued trials that are tops, best first."""
    far = np.array(reached(view, trials))
    losses = np.array([view.losses(trial) for trial in trials])
    for level in np.unique(far)[::-1]:
        rows = np.flatnonzero(far == level)
        order = (
            np.argsort(losses[rows, 0], kind="stable") if losses.shape[1] == 1 else spread_order(losses[rows])
        )
        for i in rows[order].tolist():
            better = (losses <= losses[i]).all(axis=1) & (losses < losses[i]).any(axis=1) & (far == level)
            if not one_step(codes[better | (far > level)], codes[i]).any():
                yield i
