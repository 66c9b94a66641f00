"""The trial as an objective sees it, a live handle; knows no samplers, schedulers or stores.

A :class:`Trial` collects; it never writes to the store. What it collected is a
:class:`~bonas.segment.Collected` record that the study's ``tell`` writes, in this process or after a journey
from another one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math
import operator
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bonas.errors import MissingFunctionError
from bonas.frozen import load_model
from bonas.room import NoRoomError, Room
from bonas.saved import merged, observation_to_dict, read_meta
from bonas.segment import Collected, Segment
from bonas.values import read_values
from fidelity.records import CheckpointRecord, Observation

if TYPE_CHECKING:
    import torch

    from spaces import Count, Space

logger = logging.getLogger("bonas")

CHECKPOINT_INTERVAL = 60.0  # seconds between two writes in the middle of a segment


class Trial:
    """A configuration at a fidelity, to be evaluated by an objective.

    Attributes:
        params: the active hyperparameters.
        number: the trial's number in the study, from 0.
        fidelity: what to train at, ``fidelity.epochs`` being the last epoch of this segment.
        horizon: epochs of a full evaluation; learning-rate schedules are written over it.
        seed: the same in every segment of the trial.
        directions: ``"minimize"`` or ``"maximize"`` for each metric.
        metric_names: what a reported dict must hold.
        retraining: True in ``study.retrain``: train on all but the test data, and test once.
    """

    def __init__(self, segment: Segment, space: Space) -> None:
        record = segment.record
        self._segment = segment
        self._space = space
        self.params: dict[str, Any] = dict(record.params)
        self.number = record.number
        self.fidelity = record.fidelity
        self.horizon = segment.axes.full.epochs
        self.seed = record.seed
        self.directions = segment.directions
        self.metric_names = segment.metric_names
        self.retraining = segment.retraining
        self._user_attrs: dict[str, Any] = dict(record.user_attrs)

        self._start = 0
        self._curve, self._observed = self._curve_from_scratch()
        self._yielded = 0
        self._position = 0
        self._reported = False
        self._began = False  # something was reported to this very handle
        self._asked_to_prune = False
        self._fault: str | None = None
        self._interrupted = False
        self._stop = False
        self._began_at = self._clock = self._watch = time.monotonic()
        # Where a state reached to the last observation, training would go on from there.
        last = record.last
        self._due = (
            0 if last is None else segment.axes.carried_epoch(last.epoch, last.fidelity, self.fidelity)
        )
        self._retrained = 0.0
        # A saved state counts once its epoch is reported: until then it waits as the candidate.
        self._saved = False
        self._candidate: tuple[int, Any] | None = None
        self._counted: tuple[int, Any] | None = None
        self._written: CheckpointRecord | None = None
        self._written_at = time.monotonic()
        self._writing = False
        self._adopted: Collected | None = None

    def __repr__(self) -> str:
        return f"Trial(number={self.number}, fidelity={self.fidelity}, params={self.params})"

    # -- what an objective calls ---------------------------------------------------------------------

    @property
    def user_attrs(self) -> Mapping[str, Any]:
        """What :meth:`set_user_attr` set; a view that cannot be written to."""
        return MappingProxyType(self._user_attrs)

    @property
    def device(self) -> torch.device:
        """Where to train: the device this segment was given."""
        import torch

        return torch.device(self._segment.device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def build(self) -> torch.nn.Module:
        """The network of these params at the width and depth of ``trial.fidelity``, newly initialised.

        Raises:
            MissingFunctionError: if the space's ``build`` was the user's own and has not been passed again.
        """
        if "build" in self._space.missing:
            raise MissingFunctionError(
                "build: the space was restored from the store, and functions are never stored. "
                "Pass it again: bonas.load_study(..., space=space)."
            )
        return self._space.build(self.params, width=self.fidelity.width, depth=self.fidelity.depth)

    def count(self) -> Count:
        """Exact parameters and MACs of the network at full width and depth, known before it is trained.

        They are the same at every fidelity and epoch, and so fit to be reported as objectives.

        Raises:
            ValueError: if the space cannot count.
            MissingFunctionError: if ``count`` was the user's own and has not been passed again.
        """
        if "count" in self._space.missing:
            raise MissingFunctionError(
                "count: the space was restored from the store, and functions are never stored. "
                "Pass it again: bonas.load_study(..., space=space)."
            )
        return self._space.count(self.params)

    def load_checkpoint(self) -> Any:
        """The state to continue from, or None; call it before :meth:`epochs`.

        None if nothing was saved, if the fidelity changed on an axis outside ``Axes(carry=...)``, or if
        the saved epoch is not below this segment's last one.
        """
        from fidelity import checkpoints

        if self._yielded or self._began:
            raise ValueError("load_checkpoint(): must be called before epochs() and report().")
        for index in (len(self._segment.record.curves), len(self._segment.record.curves) - 1):
            path = checkpoints.newest(self._curve_folder(index)) if index >= 0 else None
            if path is None:
                continue
            try:
                state, meta = checkpoints.read(path)
                at, trained_at, observations, user_attrs = read_meta(path, meta)
            except checkpoints.CheckpointError as error:
                logger.warning("trial %d: trained again from an earlier state: %s", self.number, error)
                continue
            epoch = self._segment.axes.carried_epoch(at, trained_at, self.fidelity)
            if not epoch:
                continue
            self._start = self._position = epoch
            self._curve = index
            known = self._recorded(index)
            carried = {o.epoch: o for o in observations}
            self._user_attrs.update(user_attrs)
            self._observed = {o.epoch: o for o in merged(tuple(carried.values()), tuple(known.values()))}
            self._reported = self._reported or bool(carried.keys() - known.keys())
            return state
        return None

    def epochs(self) -> Iterator[int]:
        """Epochs to train in this segment, counted as completed, from 1; ends early when interrupted."""
        self._watch = time.monotonic()  # building and loading are no part of an epoch
        for epoch in range(self._start + 1, self.fidelity.epochs + 1):
            if self._must_stop():
                self._interrupted = True
                return
            limit = self._segment.time_limit
            if limit is not None and self.seconds >= limit:
                self.expire()
            if self._fault is not None:
                return
            self._yielded = epoch
            yield epoch

    def report(self, value: float | Mapping[str, float], epoch: int, cost: float | None = None) -> None:
        """Report the metric after an epoch; reporting an epoch again keeps the first value.

        Args:
            value: a finite number, or a dict with every name in ``metric_names`` (other keys are recorded
                only). NaN or infinity ends the trial as failed.
            epoch: epochs completed, 1 to ``trial.fidelity.epochs``.
            cost: since the previous report, where the study was made with ``Axes(cost="reported")``.

        Raises:
            ValueError: for an epoch outside the segment, a missing metric or a missing cost.
            TypeError: for anything that is not a number.
        """
        epoch = _whole(epoch)
        if not 1 <= epoch <= self.fidelity.epochs:
            raise ValueError(
                f"report(epoch={epoch}): this segment ends at epoch {self.fidelity.epochs}, counted from 1. "
                "Train over trial.epochs()."
            )
        try:
            values, fault = read_values(value, self.metric_names)
        except (TypeError, ValueError) as error:
            self._fault = f"epoch {epoch}: {error}"
            raise
        if fault is not None:
            self._fault = f"diverged at epoch {epoch}: {fault}"
            return
        spent, seconds = self._spent(epoch, cost), self._took()
        self._began = True
        self._retrained += spent * self._share_done_before(epoch)
        self._position = max(self._position, epoch)
        earlier = self._observed.get(epoch)
        if earlier is None:
            self._observed[epoch] = Observation(epoch, values, spent, self.fidelity, seconds)
        else:
            self._observed[epoch] = dataclasses.replace(earlier, cost=earlier.cost + spent)
        self._reported = True
        self._count_candidate()

    def save_checkpoint(self, state: Any) -> None:
        """Keep a state to continue from, stamped with the epoch last handed out by :meth:`epochs`.

        Call it as often as you like: the state is copied at once, and written to disk at the segment's end,
        on SIGTERM, and at most once a minute in between. It counts once its epoch is reported.

        Args:
            state: dicts, lists and tuples of tensors, arrays, numbers, strings, bytes and None.

        Raises:
            ValueError: before the first epoch, or if the state holds anything else.
        """
        from fidelity import checkpoints

        epoch = self._yielded or self._position
        if not epoch:
            raise ValueError("save_checkpoint(): nothing trained yet. Call it in the loop over epochs().")
        self._saved = True
        self._candidate = (epoch, checkpoints.copy_state(state))
        self._count_candidate()
        if time.monotonic() - self._written_at >= CHECKPOINT_INTERVAL:
            self.flush()

    def should_prune(self) -> bool:
        """True once the segment's last epoch is reported, if that is not full fidelity."""
        last = self.fidelity.epochs in self._observed and self._position >= self.fidelity.epochs
        answer = last and self.fidelity != self._segment.axes.full
        self._asked_to_prune = self._asked_to_prune or answer
        return answer

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keep a JSON-ready value with the trial."""
        import json

        if not isinstance(key, str):
            raise ValueError(f"user attribute {key!r}: the name must be a text, got {type(key).__name__}.")
        try:
            copied = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"user attribute {key}={value!r}: must be JSON ({error}).") from None
        self._user_attrs[key] = copied

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """The configured value of a float hyperparameter with that name and range."""
        _refuse_step(name, step, None)
        return float(self._configured(name, "float", low=low, high=high, log=log))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """The configured value of an integer hyperparameter with that name and range."""
        _refuse_step(name, step, 1)
        return int(self._configured(name, "integer", low=low, high=high, log=log))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """The configured value of a categorical hyperparameter with that name and those choices."""
        if not isinstance(choices, (list, tuple)):
            raise ValueError(f"{name!r}: asked for choices={choices!r}. Give a list of the space's choices.")
        return self._configured(name, "categorical", choices=tuple(choices))

    def load_model(self) -> torch.nn.Module:
        """The trained network of this trial, from its newest checkpoint (see :mod:`bonas.frozen`)."""
        return load_model(self._space, self.params, Path(self._segment.folder))

    # -- what the study calls ------------------------------------------------------------------------

    @property
    def segment(self) -> Segment:
        """The segment this handle runs."""
        return self._segment

    def adopt(self, collected: Collected) -> None:
        """Take over what another process collected with its copy of this handle."""
        self._adopted = collected
        self._user_attrs = dict(collected.user_attrs)

    def interrupt(self) -> None:
        """Let no further epoch begin."""
        self._stop = True

    @property
    def seconds(self) -> float:
        """How long ago this handle was made, which is when its segment began."""
        return time.monotonic() - self._began_at

    def expire(self) -> None:
        """Let the segment fail because its time is up; no further epoch begins."""
        self._fault = self._segment.time_up

    def flush(self) -> CheckpointRecord | None:
        """Write the newest state that counts, unless it is on disk; returns what is on disk after that."""
        from fidelity import checkpoints

        # A signal may arrive in the middle of a write, which then is the newest one.
        if self._counted is None or self._writing:
            return self._written
        epoch, state = self._counted
        self._writing = True
        try:
            folder = self._curve_folder(self._curve)
            meta = {
                "epoch": epoch,
                "fidelity": self.fidelity.to_dict(),
                "trial": self.number,
                "observations": [
                    observation_to_dict(o) for e, o in sorted(self._observed.items()) if e <= epoch
                ],
                "user_attrs": self._user_attrs,
                "retrained": self._retrained,
            }
            own = Path(self._segment.folder)
            room = functools.partial(Room(own.parent, self._segment.max_bytes).reserved, own=own.name)
            files = [path.name for path in folder.iterdir()] if folder.is_dir() else []
            if len(files) > 1 or any(name.endswith(".tmp") for name in files):
                _remove_all_but(checkpoints.newest(folder), folder)  # a process was killed while it wrote
            written = checkpoints.write(folder, state, epoch=epoch, meta=meta, room=room)
            _remove_all_but(written.path, folder)
            for earlier in range(self._curve):  # nothing goes on from those
                shutil.rmtree(self._curve_folder(earlier), ignore_errors=True)
            # Relative to the study's artifacts folder, which may move together with the store.
            file = written.path.relative_to(Path(self._segment.folder).parent).as_posix()
            self._written = CheckpointRecord(epoch, self.fidelity, file, written.sha256, written.nbytes)
            self._counted = None
        except NoRoomError as error:
            logger.warning(
                "trial %d: its checkpoint of epoch %d is not kept, %s. It would be trained again from the "
                "one before. Allow more: create_study(artifacts=bonas.Artifacts(max_bytes=...)).",
                self.number,
                epoch,
                error,
            )
        except OSError as error:
            # What was reported is worth more than the state: it can be trained again, at a cost.
            logger.warning(
                "trial %d: its checkpoint of epoch %d cannot be written (%s). It would be trained again from "
                "the one before. Make room in %s.",
                self.number,
                epoch,
                error,
                folder,
            )
        finally:
            self._writing = False
            self._written_at = time.monotonic()
        return self._written

    def collect(self, value: Any = None) -> Collected:
        """Write the pending checkpoint and return everything gathered.

        Args:
            value: what the objective returned: a number stands for the segment's last epoch, and lets a
                state saved there count.
        """
        if self._adopted is not None:
            return self._adopted
        self._take(value)
        try:
            checkpoint = self.flush()
        except ValueError as error:
            checkpoint, self._fault = self._written, f"save_checkpoint: {error}"
        anew = self._curve >= len(self._segment.record.curves) and bool(self._observed)
        if checkpoint is None and not anew:  # that of an earlier curve is nothing to continue from
            checkpoint = self._segment.record.checkpoint
        measured = self._segment.axes.cost == "measured"
        return Collected(
            curve=self._curve,
            observations=tuple(o for _, o in sorted(self._observed.items())),
            reported=self._reported,
            trained=self._yielded,
            position=self._position,
            cost=time.monotonic() - self._clock if measured else 0.0,
            interrupted=self._interrupted,
            asked_to_prune=self._asked_to_prune,
            fault=self._fault,
            checkpoint=checkpoint,
            user_attrs=dict(self._user_attrs),
            retrained=self._retrained,
            saved=self._saved,
        )

    # -- inside --------------------------------------------------------------------------------------

    def _take(self, value: Any) -> None:
        last = self.fidelity.epochs
        if value is None or self._interrupted or self._fault is not None or last in self._observed:
            return
        try:
            values, fault = read_values(value, self.metric_names)
        except (TypeError, ValueError):
            return  # the ending says what is wrong with it
        if fault is not None:
            return
        axes = self._segment.axes
        # Nothing was reported for these epochs, so they count at their nominal cost unless seconds do.
        unreported = axes.nominal_cost(self.fidelity, since=self._position)
        cost = time.monotonic() - self._clock if axes.cost == "measured" else unreported
        self._observed[last] = Observation(last, values, cost, self.fidelity, self._took())
        self._retrained += cost * self._share_done_before(last)
        self._position, self._clock, self._reported = last, time.monotonic(), True
        self._count_candidate()

    def _share_done_before(self, epoch: int) -> float:
        """The share of the epochs since the latest report that were trained in an earlier segment, too."""
        epochs = epoch - self._position
        return max(0, min(epoch, self._due) - self._position) / epochs if epochs > 0 else 0.0

    def _must_stop(self) -> bool:
        if self._stop:
            return True
        if self._segment.deadline is not None and time.time() >= self._segment.deadline:
            return True
        return self._segment.stop_file is not None and os.path.exists(self._segment.stop_file)

    def _recorded(self, index: int) -> dict[int, Observation]:
        curves = self._segment.record.curves
        return {o.epoch: o for o in curves[index].observations} if index < len(curves) else {}

    def _curve_from_scratch(self) -> tuple[int, dict[int, Observation]]:
        # Training from epoch 1 repeats the last curve if it was made at this very fidelity (on all axes but
        # epochs, and on those too where state never carries); otherwise it is a new curve.
        curves = self._segment.record.curves
        if not curves or curves[-1].epochs[-1] >= self.fidelity.epochs:
            return len(curves), {}  # nothing carries back to an epoch that is behind it
        axes = self._segment.axes
        same = all(
            made_at == self.fidelity
            or (
                axes.carries(made_at, self.fidelity)
                and all(made_at[a.name] == self.fidelity[a.name] for a in axes.axes if a.name != "epochs")
            )
            for made_at in {o.fidelity for o in curves[-1].observations}
        )
        return (len(curves) - 1, self._recorded(len(curves) - 1)) if same else (len(curves), {})

    def _curve_folder(self, index: int) -> Path:
        return Path(self._segment.folder) / f"curve-{index:02d}"

    def _count_candidate(self) -> None:
        if self._candidate is not None and self._candidate[0] in self._observed:
            self._counted, self._candidate = self._candidate, None

    def _took(self) -> float:
        """Seconds since the report before, or since the first epoch began."""
        now = time.monotonic()
        seconds, self._watch = now - self._watch, now
        return seconds

    def _spent(self, epoch: int, cost: float | None) -> float:
        now = time.monotonic()
        seconds, self._clock = now - self._clock, now
        unit = self._segment.axes.cost
        if unit == "measured":
            return seconds
        if unit == "nominal":
            return max(0, epoch - self._position) * self._segment.axes.epoch_cost(self.fidelity)
        if cost is None or not math.isfinite(cost) or cost < 0:
            raise ValueError(
                f"report(cost={cost!r}): this study sums reported cost, so every report needs a finite cost "
                'of at least 0. Use Axes(cost="nominal") to have it counted.'
            )
        return float(cost)

    def _configured(self, name: str, kind: str, **expected: Any) -> Any:
        if name not in self._space.configuration_space:
            known = sorted(self._space.configuration_space)
            raise ValueError(f"{name!r}: the space has no such hyperparameter. It has {known}.")
        described = _described(self._space.configuration_space[name])
        if described["kind"] == "constant":
            return self.params.get(name, described["value"])
        differing = {
            key: (value, described.get(key))
            for key, value in {"kind": kind, **expected}.items()
            if not _same(value, described.get(key))
        }
        if differing:
            said = ", ".join(
                f"{key}={asked!r}, in the space {has!r}" for key, (asked, has) in differing.items()
            )
            raise ValueError(f"{name!r}: asked for {said}. The space decides; ask for its own range.")
        if name not in self.params:
            raise ValueError(f"{name!r}: is not active in this configuration. Look at trial.params first.")
        return self.params[name]


def _remove_all_but(newest: Path | None, folder: Path) -> None:
    """Remove what is left of earlier checkpoints, whole or half-written."""
    for other in folder.iterdir():
        # A later one is another worker's, to whom the trial was handed meanwhile.
        later = newest is not None and other.name.rpartition("-")[0] > newest.name.rpartition("-")[0]
        if other != newest and not later:
            with contextlib.suppress(OSError):
                other.unlink()


def _refuse_step(name: str, step: float | None, only: float | None) -> None:
    if step != only:
        raise ValueError(f"{name!r}: asked for step={step}, but a space's hyperparameters have no steps.")


def _whole(epoch: Any) -> int:
    try:
        return operator.index(epoch)
    except TypeError:
        raise TypeError(f"report(epoch={epoch!r}): must be a whole number of completed epochs.") from None


def _described(hyperparameter: Any) -> dict[str, Any]:
    """Kind and range of a ConfigSpace hyperparameter, in the words of the suggest methods."""
    if hasattr(hyperparameter, "choices"):
        return {"kind": "categorical", "choices": tuple(hyperparameter.choices)}
    if hasattr(hyperparameter, "sequence"):
        return {"kind": "categorical", "choices": tuple(hyperparameter.sequence)}
    if hasattr(hyperparameter, "lower"):
        kind = "integer" if "Integer" in type(hyperparameter).__name__ else "float"
        low, high = float(hyperparameter.lower), float(hyperparameter.upper)
        return {"kind": kind, "low": low, "high": high, "log": bool(hyperparameter.log)}
    return {"kind": "constant", "value": hyperparameter.value}


def _same(asked: Any, has: Any) -> bool:
    if isinstance(asked, tuple) and has is not None:
        return list(asked) == list(has)
    if isinstance(asked, (int, float)) and isinstance(has, float):
        return math.isclose(asked, has, rel_tol=1e-9)
    return bool(asked == has)
