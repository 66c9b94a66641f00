"""What the checkpoints in a trial's folder say about their trial; knows no handles, studies or stores."""

from __future__ import annotations

import hashlib
import logging
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fidelity.records import CheckpointRecord, Fidelity, Observation

logger = logging.getLogger("bonas")


@dataclass(frozen=True, slots=True)
class Saved:
    """What the newest checkpoint of a curve says about its trial."""

    record: CheckpointRecord
    observations: tuple[Observation, ...]
    user_attrs: Mapping[str, Any]
    retrained: float
    """Cost of what its segment had trained again by then."""


def saved(folder: Path, curve: int) -> Saved | None:
    """The newest checkpoint of a curve in a trial's folder, without its state."""
    from fidelity import checkpoints

    path = checkpoints.newest(folder / f"curve-{curve:02d}")
    if path is None:
        return None
    try:
        _, meta = checkpoints.read(path)
        epoch, fidelity, observations, user_attrs = read_meta(path, meta)
        retrained = float(meta.get("retrained", 0.0))
        if not 0 <= retrained < math.inf:
            raise ValueError(f"retrained={retrained}: must be finite and at least 0")
    except (TypeError, ValueError) as error:
        logger.warning("%s: passed over: %s", folder.name, error)
        return None
    data = path.read_bytes()
    return Saved(
        CheckpointRecord(
            epoch=epoch,
            fidelity=fidelity,
            # Relative to the study's artifacts folder, which may move together with the store.
            file=path.relative_to(folder.parent).as_posix(),
            sha256=hashlib.sha256(data).hexdigest(),
            nbytes=len(data),
        ),
        observations,
        user_attrs,
        retrained,
    )


def read_meta(
    path: Path, meta: Mapping[str, Any]
) -> tuple[int, Fidelity, tuple[Observation, ...], dict[str, Any]]:
    """Epoch, fidelity, observations and user attributes that a checkpoint carries.

    Raises:
        CheckpointError: if it does not carry them, whoever wrote it.
    """
    from fidelity.checkpoints import CheckpointError

    try:
        fidelity = Fidelity.from_dict(meta["fidelity"])
        observations = tuple(map(_observation, meta["observations"]))
        return operator.index(meta["epoch"]), fidelity, observations, dict(meta.get("user_attrs", {}))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: is no checkpoint of a trial ({type(error).__name__}: {error})."
        ) from None


def merged(carried: Sequence[Observation], known: Sequence[Observation]) -> tuple[Observation, ...]:
    """One curve of what a checkpoint carries and what is recorded: the first values, all of the cost."""
    observations = {o.epoch: o for o in known}
    for o in carried:
        earlier = observations.get(o.epoch)
        if earlier is None or o.cost > earlier.cost:
            first = earlier or o
            observations[o.epoch] = Observation(o.epoch, first.values, o.cost, first.fidelity, first.seconds)
    return tuple(observations[epoch] for epoch in sorted(observations))


def observation_to_dict(o: Observation) -> dict[str, Any]:
    """An observation as a checkpoint carries it."""
    return {
        "epoch": o.epoch,
        "values": dict(o.values),
        "cost": o.cost,
        "fidelity": o.fidelity.to_dict(),
        "seconds": o.seconds,
    }


def _observation(data: Mapping[str, Any]) -> Observation:
    fidelity = Fidelity.from_dict(data["fidelity"])
    return Observation(data["epoch"], data["values"], data["cost"], fidelity, data.get("seconds"))
