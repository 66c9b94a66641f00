"""Making a study and opening a stored one: arguments, definition and store; knows nothing of searching."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bonas.artifacts import Artifacts
from bonas.definition import define, refuse_differences, refuse_forgetting, restore
from bonas.errors import DuplicatedStudyError
from bonas.store import open_store
from bonas.study import Study
from bonas.warm_start import told
from fidelity.axes import Axes
from fidelity.schedulers import Scheduler

if TYPE_CHECKING:
    from bonas.feasibility import Latency
    from bonas.samplers import Sampler
    from spaces import Space


def create_study(
    *,
    space: Space,
    axes: Axes | None = None,
    direction: str | None = None,
    directions: Sequence[str] | None = None,
    metric_names: Sequence[str] | None = None,
    sampler: Sampler | None = None,
    scheduler: Scheduler | None = None,
    constraints: Mapping[str, float | Latency] | None = None,
    storage: str | Path | None = None,
    study_name: str | None = None,
    load_if_exists: bool = False,
    artifacts: str | Path | Artifacts | None = None,
    warm_start: Sequence[Study] = (),
    seed: int = 0,
) -> Study:
    """Create a study.

    Args:
        space: what is searched.
        axes: fidelity axes; None means that every evaluation is a full one.
        direction: ``"minimize"`` (the default, as in Optuna) or ``"maximize"``.
        directions: one for each of several objectives, instead of ``direction``.
        metric_names: names of the metrics an objective reports; required for several objectives.
        sampler: proposes configurations; None means ``bonas.samplers.ForestSampler()``.
        scheduler: decides what runs next; None means ``ASHA()`` over the axes.
        constraints: upper bounds such as ``{"parameters": 200_000}``, decided before training. Known are
            ``parameters``, ``macs``, ``memory`` (bytes, predicted) and ``latency`` (seconds, or a
            :class:`Latency`; measured).
        storage: a file, a folder (its ``study.db``) or an SQLite URL; None keeps the study in memory.
        study_name: unique in the storage; None makes one up.
        load_if_exists: go on with the study of that name if there is one.
        artifacts: folder of checkpoints, in which the study gets one of its own; None means beside the
            storage; or an :class:`Artifacts`, which says how much room they may take, too (5 GB unless
            said).
        warm_start: earlier studies over the same space, or one whose hyperparameters partly have the same
            names. What they learned is stored with this study, and believed as far as its own trials agree.
        seed: everything random in the study follows from it.

    Raises:
        DuplicatedStudyError: if the name is taken and ``load_if_exists`` is False.
        ValueError: for any argument that does not fit, or an existing study that was made differently.
    """
    if direction is not None and directions is not None:
        raise ValueError("direction and directions: give one of them.")
    if directions is not None and not isinstance(directions, (list, tuple)):
        raise ValueError(f"directions={directions!r}: must be a list of 'minimize' and 'maximize'.")
    if study_name is not None and not _is_text(study_name):
        raise ValueError(f"study_name={study_name!r}: must be a text.")
    kept = Artifacts.of(artifacts)
    chosen = tuple(directions) if directions is not None else (direction or "minimize",)
    definition = define(space, axes, chosen, metric_names, constraints, seed, sampler, scheduler)
    earlier = told(warm_start, definition.space, definition.metric_names, definition.directions)
    refuse_forgetting(earlier, definition.sampler)
    definition = dataclasses.replace(definition, earlier=earlier)
    store = open_store(storage, create=True)
    name = study_name or f"study-{secrets.token_hex(4)}"
    stored = definition.to_dict() | kept.to_dict(store.path)
    row = store.create(name, stored)
    if row is None:
        row = store.find(name)
        assert row is not None
        if not load_if_exists:
            raise DuplicatedStudyError(
                f"study {name!r}: exists already in {storage}. Pass load_if_exists=True to go on with it."
            )
        refuse_differences(definition, row.definition)
        stored_one = restore(row.definition, space, sampler, scheduler)
        definition = dataclasses.replace(definition, seed=stored_one.seed, earlier=stored_one.earlier)
        if sampler is None or scheduler is None:
            definition = dataclasses.replace(
                definition, sampler=stored_one.sampler, scheduler=stored_one.scheduler
            )
    # A study that is gone on with lies where it lies, but may be given more room.
    return Study(store, row, definition, artifacts if isinstance(artifacts, Artifacts) else None)


def load_study(
    *,
    study_name: str | None = None,
    storage: str | Path,
    space: Space | None = None,
    sampler: Sampler | None = None,
    scheduler: Scheduler | None = None,
) -> Study:
    """Open a stored study; bonas's own spaces, samplers, schedulers and axes come back by themselves.

    Args:
        study_name: None if the storage holds a single study.
        storage: a file, a folder (its ``study.db``) or an SQLite URL.
        space: pass it again if it has functions of your own, which are never stored.
        sampler: replaces the stored one; needed again if it was your own.
        scheduler: as ``sampler``.

    Raises:
        ValueError: if there is no such study, or ``space`` is not the stored one.
    """
    if study_name is not None and not _is_text(study_name):
        raise ValueError(f"study_name={study_name!r}: must be a text.")
    store = open_store(storage, create=False)
    if study_name is None:
        names = store.names()
        if len(names) != 1:
            raise ValueError(f"study_name=None: {storage} holds {len(names)} studies, {names}. Name one.")
        study_name = names[0]
    row = store.find(study_name)
    if row is None:
        raise ValueError(f"study {study_name!r}: not in {storage}, which holds {store.names()}.")
    return Study(store, row, restore(row.definition, space, sampler, scheduler))


def _is_text(value: Any) -> bool:
    if not isinstance(value, str) or not value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair cannot be stored
        return False
    return True
