"""What a study is made of, checked and as JSON: space, axes, directions, sampler, scheduler, constraints.

Knows nothing of trials or of what happens to a study later.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bonas import feasibility
from bonas.errors import MissingFunctionError
from fidelity.axes import Axes
from fidelity.records import Earlier
from fidelity.schedulers import ASHA, FullFidelity, Scheduler
from fidelity.schedulers import from_dict as scheduler_from_dict

if TYPE_CHECKING:
    from bonas.samplers import Sampler
    from spaces import Space

DIRECTIONS = ("minimize", "maximize")


@dataclass(frozen=True, slots=True)
class Definition:
    """Everything that does not change over a study's life."""

    space: Space
    axes: Axes
    directions: tuple[str, ...]
    metric_names: tuple[str, ...]
    constraints: feasibility.Constraints
    seed: int
    sampler: Sampler | None
    """None if it was the user's own and has not been passed again."""
    scheduler: Scheduler | None
    earlier: tuple[Earlier, ...] = ()
    """What it was told of earlier studies."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; functions of the user's own are named, not stored."""
        return {
            "space": self.space.to_dict(),
            "axes": self.axes.to_dict(),
            "directions": list(self.directions),
            "metric_names": list(self.metric_names),
            "constraints": feasibility.to_dict(self.constraints),
            "seed": self.seed,
            "sampler": _stored(self.sampler),
            "scheduler": _stored(self.scheduler),
            "earlier": [study.to_dict() for study in self.earlier],
        }

    def differences(self, stored: Mapping[str, Any]) -> list[str]:
        """Names of the parts that decide what an observation means and are not as stored."""
        mine = self.to_dict()
        parts = ("space", "axes", "directions", "metric_names", "constraints")
        return [part for part in parts if _canonical(mine[part]) != _canonical(stored[part])]


def define(
    space: Any,
    axes: Axes | None,
    directions: tuple[str, ...],
    metric_names: Sequence[str] | None,
    constraints: Mapping[str, Any] | None,
    seed: int,
    sampler: Sampler | None,
    scheduler: Scheduler | None,
) -> Definition:
    """A checked definition with the defaults filled in."""
    from bonas.samplers import ForestSampler
    from spaces import Space

    if not isinstance(space, Space):
        raise ValueError(
            f"space={type(space).__name__}: must be a space of bonas. "
            "Use spaces.chain(...), spaces.cell(...) or spaces.Space(configuration_space, build=...)."
        )
    if axes is not None and not isinstance(axes, Axes):
        raise ValueError(f"axes={axes!r}: must be fidelity.Axes(epochs=(1, 50), ...), or None.")
    bad = [d for d in directions if d not in DIRECTIONS]
    if bad or not directions:
        raise ValueError(f"direction={directions!r}: must be 'minimize' or 'maximize'.")
    if metric_names is not None and (
        isinstance(metric_names, str)
        or not isinstance(metric_names, Sequence)
        or not all(isinstance(name, str) and name for name in metric_names)
    ):
        raise ValueError(f"metric_names={metric_names!r}: must be a list of texts, such as ['accuracy'].")
    if metric_names is None:
        if len(directions) > 1:
            raise ValueError(f"metric_names=None: {len(directions)} objectives need a name each.")
        metric_names = ("value",)
    if len(metric_names) != len(directions):
        raise ValueError(
            f"metric_names={metric_names!r}: must name each of the {len(directions)} objectives."
        )
    if len(set(metric_names)) != len(metric_names):
        raise ValueError(f"metric_names={list(metric_names)}: every name may stand once.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed={seed!r}: must be a whole number of at least 0.")
    if sampler is not None and (isinstance(sampler, type) or not hasattr(sampler, "sample")):
        remedy = "such as ForestSampler(); a sampler of Optuna's is wrapped, OptunaSampler(sampler)"
        raise ValueError(f"sampler={sampler!r}: must be one of bonas.samplers, {remedy}.")
    if scheduler is not None and (isinstance(scheduler, type) or not hasattr(scheduler, "decide")):
        raise ValueError(f"scheduler={scheduler!r}: must be one of fidelity's, such as ASHA().")
    return Definition(
        space=space,
        axes=axes or Axes(),
        directions=tuple(directions),
        metric_names=tuple(metric_names),
        constraints=feasibility.checked(constraints or {}, space),
        seed=seed,
        sampler=sampler or ForestSampler(),
        scheduler=scheduler or (FullFidelity() if axes is None else ASHA()),
    )


def restore(
    stored: Mapping[str, Any], space: Space | None, sampler: Sampler | None, scheduler: Scheduler | None
) -> Definition:
    """The definition of a stored study; what is passed replaces what was stored.

    Raises:
        ValueError: if the space passed is not the stored one, or what is stored is damaged.
    """
    from spaces import Space

    try:
        definition = define(
            space=Space.from_dict(stored["space"]) if space is None else space,
            axes=Axes.from_dict(stored["axes"]),
            directions=tuple(stored["directions"]),
            metric_names=stored["metric_names"],
            constraints=stored["constraints"],
            seed=stored["seed"],
            sampler=sampler,
            scheduler=scheduler,
        )
        definition = replace(
            definition,
            sampler=sampler or _restored_sampler(stored["sampler"]),
            scheduler=scheduler or _restored_scheduler(stored["scheduler"]),
            earlier=tuple(_earlier(told, definition.space) for told in stored.get("earlier", ())),
        )
        refuse_forgetting(definition.earlier, sampler)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"what is stored of this study is damaged ({type(error).__name__}: {error}). "
            "Restore study.db from a copy."
        ) from error
    refuse_differences(definition, stored)
    return definition


def refuse_forgetting(earlier: Sequence[Earlier], sampler: Sampler | None) -> None:
    """Raise ValueError if a sampler that is passed learns nothing of the earlier studies there are."""
    if earlier and sampler is not None and not getattr(sampler, "learns_from_earlier", False):
        raise ValueError(
            f"warm_start: {type(sampler).__name__} learns nothing from earlier studies. "
            "Use ForestSampler() or TPESampler()."
        )


def refuse_differences(definition: Definition, stored: Mapping[str, Any]) -> None:
    """Raise ValueError if ``definition`` gives the stored observations another meaning."""
    differing = definition.differences(stored)
    if not differing:
        return
    said = []
    for part in differing:
        if part == "space":
            said.append(_space_difference(stored[part], definition.to_dict()[part]))
        else:
            said.append(f"{part} was {_shown(part, stored)}, is now {_shown(part, definition.to_dict())}")
    raise ValueError(
        f"this study was made with other settings: {'; '.join(said)}. "
        "Use the same, or begin another study under another name."
    )


def _shown(part: str, described: Mapping[str, Any]) -> str:
    """A part as its user wrote it, not as it is stored."""
    return repr(Axes.from_dict(described[part])) if part == "axes" else repr(described[part])


def needed(part: Any, name: str) -> Any:
    """``part``, or the error that says it has to be passed again."""
    if part is None:
        raise MissingFunctionError(
            f"{name}: this study used one of your own, which is not stored. "
            f"Pass it again: bonas.load_study(..., {name}=...)."
        )
    return part


def _earlier(stored: Mapping[str, Any], space: Space) -> Earlier:
    told = Earlier.from_dict(stored)
    return replace(told, params=tuple(space.validate(params) for params in told.params))


def _stored(part: Any) -> dict[str, Any]:
    if part is None or not hasattr(part, "to_dict"):
        return {"name": type(part).__name__, "own": True}
    described: dict[str, Any] = part.to_dict()
    return described


def _restored_sampler(stored: Mapping[str, Any]) -> Sampler | None:
    from bonas import samplers

    try:
        return samplers.from_dict(dict(stored))
    except ValueError:
        return None


def _restored_scheduler(stored: Mapping[str, Any]) -> Scheduler | None:
    try:
        return scheduler_from_dict(stored)
    except (ValueError, TypeError):
        return None


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _space_difference(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    for key in sorted({*was, *now}):
        if _canonical(was.get(key)) != _canonical(now.get(key)):
            old, new = _canonical(was.get(key)), _canonical(now.get(key))
            if len(old) + len(new) < 300:
                return f"the space's {key} was {old}, is now {new}"
            return f"the space's {key} differs"
    return "the space differs"
