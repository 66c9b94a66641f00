"""The standing of a study as text: ranking, leaderboard and live progress; decides and stores nothing.

Reads studies through :class:`StudyLike`, so it depends neither on the study nor on where it is stored.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy as np

from fidelity.pareto import front_numbers, knee
from fidelity.records import AXIS_NAMES, TrialState

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray
    from rich.console import Console, RenderableType
    from rich.table import Table

    from fidelity.axes import Axes
    from fidelity.records import Curve, Fidelity, Observation

__all__ = [
    "Leaderboard",
    "StudyLike",
    "TrialLike",
    "describe_fidelity",
    "front",
    "leader",
    "ranking",
    "summary",
    "table",
]


class TrialLike(Protocol):
    """What is shown of a trial."""

    @property
    def number(self) -> int:
        """Place in the order of starts, from 0."""
        ...

    @property
    def params(self) -> Mapping[str, Any]:
        """Active hyperparameters."""
        ...

    @property
    def state(self) -> TrialState:
        """Where it stands."""
        ...

    @property
    def values(self) -> Any:
        """The latest report."""
        ...

    @property
    def fidelity(self) -> Fidelity:
        """Target of its latest segment."""
        ...

    @property
    def cost(self) -> float:
        """Everything spent on it, in the study's unit."""
        ...

    @property
    def curves(self) -> Sequence[Curve]:
        """Everything observed, in order."""
        ...

    @property
    def reason(self) -> str | None:
        """Why it failed, stopped or is infeasible."""
        ...


class StudyLike(Protocol):
    """What is shown of a study."""

    @property
    def study_name(self) -> str:
        """What it is called."""
        ...

    @property
    def directions(self) -> Sequence[str]:
        """``minimize`` or ``maximize``, one for each metric."""
        ...

    @property
    def metric_names(self) -> Sequence[str]:
        """The objectives."""
        ...

    @property
    def trials(self) -> Sequence[Any]:
        """In order of their numbers."""
        ...

    @property
    def spent(self) -> float:
        """Everything spent, in the study's unit."""
        ...

    @property
    def axes(self) -> Axes:
        """The fidelity axes."""
        ...

    @property
    def space(self) -> Any:
        """The search space."""
        ...


def ranking(study: StudyLike) -> list[Any]:
    """The trials that have a value, best first.

    A value at a higher fidelity outranks every value at a lower one, because only values at the same
    fidelity can be compared; within a fidelity the better value wins. With several objectives the Pareto
    front stands first, then what it alone dominates, and so on, each by the first metric.
    """
    return [trial for _, trial in _standing(study)]


def front(study: StudyLike) -> list[Any]:
    """The Pareto front at the highest fidelity reached, best in the first metric first.

    Of one objective only: the best one, and those that equal it.
    """
    standing = _standing(study)
    n = 3 if len(study.metric_names) == 1 else 2
    return [trial for place, trial in standing if place[:n] == standing[0][0][:n]]


def leader(study: StudyLike) -> Any | None:
    """The one trial to show: the best, with several objectives that at the knee of the front; or None."""
    best = front(study)
    if not best or len(study.metric_names) == 1:
        return best[0] if best else None
    return best[knee(_losses(study, best))]


def _standing(study: StudyLike) -> list[tuple[tuple[float, int, float], Any]]:
    """The trials with a value, best first, each with its place: (-how full, front, loss of first metric)."""
    unusable = (TrialState.FAIL, TrialState.INFEASIBLE)
    rated = [t for t in study.trials if last_observation(t) is not None and t.state not in unusable]
    short = np.array([round(-_extent(study, t), 9) for t in rated])
    losses = _losses(study, rated)
    numbers = np.zeros(len(rated), dtype=np.intp)
    if len(study.metric_names) > 1:
        for level in np.unique(short):
            numbers[short == level] = front_numbers(losses[short == level])
    first = np.where(np.isnan(losses[:, 0]), np.inf, losses[:, 0])
    places = zip(short.tolist(), numbers.tolist(), first.tolist(), strict=True)
    return sorted(zip(places, rated, strict=True), key=lambda s: (s[0], s[1].number))


def _losses(study: StudyLike, trials: Sequence[Any]) -> NDArray[np.float64]:
    """The latest value of every metric, turned so that smaller is better; shape (n, metrics)."""
    signs = np.array([-1.0 if direction == "maximize" else 1.0 for direction in study.directions])
    rows = [[metric_value(t, metric) for metric in study.metric_names] for t in trials]
    losses: NDArray[np.float64] = np.array(rows, dtype=np.float64).reshape(len(trials), len(signs)) * signs
    return losses


def last_observation(trial: TrialLike) -> Observation | None:
    """The trial's latest report, which is its value."""
    curves = [c for c in trial.curves if c.observations]
    return curves[-1].observations[-1] if curves else None


def metric_value(trial: TrialLike, metric: str) -> float:
    """The latest value of a metric; NaN if it was never reported."""
    last = last_observation(trial)
    return math.nan if last is None else last.values.get(metric, math.nan)


def _extent(study: StudyLike, trial: TrialLike) -> float:
    """How much of a full evaluation the trial's latest value stands for; 1 is a full one."""
    if trial.state == TrialState.COMPLETE or not study.axes.axes:
        return 1.0
    last = last_observation(trial)
    return last.epoch * study.axes.epoch_cost(last.fidelity) if last else 0.0


def describe_fidelity(axes: Axes, fidelity: Fidelity, epoch: int | None = None) -> str:
    """A fidelity in words, as far as the study has axes: ``9 epochs, 30 % of the data, 14 px``."""
    parts = []
    for axis in axes.axes:
        value = fidelity[axis.name]
        if axis.name == "epochs":
            n = fidelity.epochs if epoch is None else epoch
            parts.append(f"{n} epoch" if n == 1 else f"{n} epochs")
        elif axis.name == "subset":
            parts.append(f"{100 * float(value or 0):.2g} % of the data" if value != 1 else "all data")
        elif axis.name == "resolution":
            parts.append(f"{value} px")
        elif axis.name in AXIS_NAMES:
            parts.append(f"{axis.name} {value:.2g}")
        else:
            parts.append(f"{axis.name}={value:.4g}")
    return ", ".join(parts) or "full"


def describe_params(params: Mapping[str, Any], limit: int = 60) -> str:
    """The training hyperparameters in a few words: what tells neighbours on a leaderboard apart."""
    parts = []
    for name in [n for n in ("optimizer", "lr", "batch_size", "augmentation") if n in params] or params:
        value = params[name]
        if isinstance(value, str):
            parts += [value] if value != "none" else []
        else:
            parts.append(f"{name.replace('batch_size', 'batch')} {_short(value)}")
    text = ", ".join(parts)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def format_value(value: float) -> str:
    """A metric value with four decimals, counts as whole numbers; ``-`` where there is none."""
    if math.isnan(value):
        return "-"
    if abs(value) >= 10 and value == round(value):
        return f"{value:,.0f}"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"


def format_seconds(seconds: float) -> str:
    """A duration: ``7.2 s``, ``3:05`` or ``2:03:05``."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def states(study: StudyLike) -> str:
    """How many trials are in each state: ``23 trials: 4 complete, 18 paused, 1 failed``."""
    words = {"FAIL": "failed"}
    counts: dict[str, int] = {}
    for trial in study.trials:
        name = str(trial.state)
        counts[name] = counts.get(name, 0) + 1
    total = sum(counts.values())
    parts = ", ".join(f"{n} {words.get(s, s.lower())}" for s, n in counts.items())
    return f"{total} trial{'' if total == 1 else 's'}" + (f": {parts}" if parts else "")


def columns(study: StudyLike) -> list[str]:
    """The headings of :func:`rows`."""
    place = "front" if len(study.metric_names) > 1 else ""
    size = [] if "parameters" in study.metric_names else ["parameters"]
    return [place, "trial", *study.metric_names, "at", "state", "cost", *size, "trained with"]


def numeric(study: StudyLike) -> set[str]:
    """The headings whose columns hold numbers, set flush right."""
    return {"", "front", "trial", "cost", "parameters", *study.metric_names}


def rows(study: StudyLike, top: int = 10) -> list[list[str]]:
    """The leaderboard as text, best first; one list for each trial, under the headings of :func:`columns`.

    With several objectives the first column numbers the fronts at the highest fidelity, 1 being the Pareto
    front, all of which is shown, however many there are.
    """
    ranked = _standing(study)
    several = len(study.metric_names) > 1
    highest = ranked[0][0][0] if ranked else 0.0
    if several:
        top = max(top, sum(place[:2] == (highest, 0) for place, _ in ranked))
    lines = []
    for i, ((short, number, _), trial) in enumerate(ranked[:top]):
        place = str(i + 1)
        if several:
            place = str(number + 1) if short == highest else ""
        last = last_observation(trial)
        at = describe_fidelity(study.axes, last.fidelity, last.epoch) if last else ""
        values = [format_value(metric_value(trial, m)) for m in study.metric_names]
        size = [] if "parameters" in study.metric_names else [parameters(study, trial)]
        cost = f"{trial.cost:.2f}"
        state = str(trial.state).lower()
        lines.append(
            [place, str(trial.number), *values, at, state, cost, *size, describe_params(trial.params)]
        )
    return lines


def parameters(study: StudyLike, trial: TrialLike) -> str:
    """How many parameters the trial's network has, or nothing where the space cannot say."""
    try:
        return f"{study.space.count(dict(trial.params)).parameters:,}"
    except (AttributeError, TypeError, ValueError):
        # A user's space need not be able to count, and a stored one may have lost its functions.
        return ""


def table(study: StudyLike, top: int = 10) -> Table:
    """The leaderboard as a rich table."""
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold")
    right = numeric(study)
    for name in columns(study):
        wide = name == "trained with"
        shown.add_column(
            name, justify="right" if name in right else "left", no_wrap=True, ratio=1 if wide else None
        )
    for row in rows(study, top):
        shown.add_row(*row, style="bold" if row[0] == "1" else "")
    return shown


def text_table(study: StudyLike, top: int = 10) -> list[str]:
    """The leaderboard as aligned lines of plain text, never cut."""
    headings = columns(study)
    right = [name in numeric(study) for name in headings]
    lines = [headings, *rows(study, top)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    ]


def print_table(study: StudyLike, top: int = 10, file: IO[str] | None = None) -> None:
    """Print the leaderboard as suits the place: fitted on a terminal, whole lines in a pipe."""
    from rich.console import Console

    console = Console(file=file or sys.stdout, highlight=False)
    if console.is_terminal:
        console.print(table(study, top))
    else:
        print("\n".join(text_table(study, top)), file=console.file, flush=True)


def summary(study: StudyLike) -> list[str]:
    """The study in a few lines: goal, trials, cost and best value."""
    goal = ", ".join(f"{d} {m}" for d, m in zip(study.directions, study.metric_names, strict=True))
    lines = [f"{study.study_name}: {goal}", states(study), f"spent {study.spent:.2f} {cost_unit(study.axes)}"]
    best = leading_line(study)
    return [*lines, best] if best else lines


def leading_line(study: StudyLike) -> str:
    """What is best so far, or nothing.

    ``best accuracy 0.9871 (trial 17, 27 epochs)``; of several objectives
    ``front of 5 trials at 27 epochs: best accuracy 0.9871, best macs 81,000``.
    """
    best = front(study)
    if not best:
        return ""
    if len(study.metric_names) == 1:
        return best_line(study, best[0])
    losses = _losses(study, best)
    ends = ", ".join(
        f"best {metric} {format_value(metric_value(best[int(np.argmin(column))], metric))}"
        for metric, column in zip(study.metric_names, losses.T, strict=True)
    )
    last = last_observation(best[0])
    at = describe_fidelity(study.axes, last.fidelity, last.epoch) if last else ""
    return f"front of {len(best)} trial{'s' * (len(best) > 1)} at {at}: {ends}"


def best_line(study: StudyLike, trial: TrialLike) -> str:
    """One trial as the best so far: ``accuracy 0.9871 (trial 17, 27 epochs)``."""
    values = ", ".join(f"{m} {format_value(metric_value(trial, m))}" for m in study.metric_names)
    last = last_observation(trial)
    at = describe_fidelity(study.axes, last.fidelity, last.epoch) if last else "not evaluated"
    return f"best {values} (trial {trial.number}, {at})"


def cost_unit(axes: Axes) -> str:
    """The unit that cost and budget are counted in."""
    return {"nominal": "full evaluations", "measured": "seconds", "reported": "of reported cost"}[axes.cost]


class Leaderboard:
    """Shows a running search: a live leaderboard on a terminal, one line a segment in a pipe.

    Use it as a context manager around ``study.optimize`` and pass it as a callback, which is called after
    every segment. ``watch(objective)`` also shows which trial is being trained, where that is this process.

    Args:
        study: the study to show.
        budget: total cost allowed, in the study's unit, or None.
        n_trials: configurations allowed, or None.
        timeout: seconds allowed, or None.
        file: where to write; standard output if None.
    """

    def __init__(
        self,
        study: StudyLike,
        *,
        budget: float | None = None,
        n_trials: int | None = None,
        timeout: float | None = None,
        file: IO[str] | None = None,
    ) -> None:
        from rich.console import Console

        self._study = study
        self._limits = (budget, n_trials, timeout)
        self._console = Console(file=file or sys.stdout, highlight=False)
        self._live: Any = None
        self._start = time.monotonic()
        self._running = ""
        self._view: RenderableType = ""
        # rich refreshes from a thread of its own; the study is only read where the search calls back.
        self._lock = threading.Lock()

    @property
    def console(self) -> Console:
        """Where the progress is written."""
        return self._console

    def __enter__(self) -> Leaderboard:
        self._start = time.monotonic()
        if self._console.is_terminal:
            from rich.live import Live

            self._snapshot()
            self._live = Live(
                console=self._console, get_renderable=self._render, refresh_per_second=4, transient=True
            )
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)
            self._live = None

    def __call__(self, study: Any, trial: TrialLike) -> None:
        """Show the segment that has just ended."""
        with self._lock:
            self._running = ""
        if self._live is not None:
            self._snapshot()
            return
        print(self._line(trial), file=self._console.file, flush=True)

    def watch(self, objective: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The same objective, which also tells this leaderboard what it trains."""

        def watched(trial: Any) -> Any:
            target = describe_fidelity(self._study.axes, trial.fidelity)
            with self._lock:
                self._running = f"training trial {trial.number} to {target}"
            return objective(trial)

        return watched

    def print_final(self, top: int = 5) -> None:
        """Leave the leaderboard on the screen, or its rows in the pipe."""
        self._console.print()
        print_table(self._study, top, self._console.file)

    def _elapsed(self) -> float:
        return time.monotonic() - self._start

    def _line(self, trial: TrialLike) -> str:
        last = last_observation(trial)
        if last is None:
            outcome = trial.reason or "nothing reported"
        else:
            values = " ".join(f"{m} {format_value(metric_value(trial, m))}" for m in self._study.metric_names)
            outcome = f"{values} at {describe_fidelity(self._study.axes, last.fidelity, last.epoch)}"
            if trial.reason and trial.state in (TrialState.FAIL, TrialState.INFEASIBLE):
                outcome = trial.reason
        tail = leading_line(self._study) or "no value yet"
        return (
            f"{self._elapsed():7.1f} s  trial {trial.number:<4d} {str(trial.state).lower():<10} {outcome}"
            f"  |  {tail}  |  {self._spent()}"
        )

    def _spent(self) -> str:
        budget, n_trials, _ = self._limits
        parts = [f"spent {self._study.spent:.2f}" + (f" of {budget:g}" if budget else "")]
        if n_trials:
            started = sum(t.state != TrialState.INFEASIBLE for t in self._study.trials)
            parts.append(f"{started} of {n_trials} trials" if started <= n_trials else f"{started} trials")
        return ", ".join(parts)

    def _snapshot(self) -> None:
        """Take from the study what the refreshing thread will show."""
        from rich.console import Group
        from rich.text import Text

        head = Text(leading_line(self._study) or "no value yet", style="bold green")
        view = Group(
            head,
            Text(f"{states(self._study)}; {self._spent()} {cost_unit(self._study.axes)}"),
            "",
            table(self._study, top=8),
        )
        with self._lock:
            self._view = view

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        timeout = self._limits[2]
        clock = format_seconds(self._elapsed()) + (f" of {format_seconds(timeout)}" if timeout else "")
        with self._lock:
            status = f"{self._study.study_name}  {clock}  {self._running or 'choosing what to train next'}"
            view = self._view
        return Group(Text(status, style="cyan", overflow="ellipsis", no_wrap=True), view)
