"""``bonas search``: search, retrain, compare, export; knows their order and what is printed between them."""

from __future__ import annotations

import argparse
import difflib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bonas.cli.folder import Settings, StudyFolder, check_device, choose_device, load_data, open_folder

if TYPE_CHECKING:
    from bonas.study import Study
    from fidelity.axes import Axes
    from fidelity.data import Data
    from spaces import Space

SPACES = ("chain", "nas_bench_201")
SAMPLERS = {"forest": "forest", "random": "random", "optuna-tpe": "optuna"}
SCHEDULERS = ("successive-halving", "full")
DEFAULT_AXES = ["epochs=1:27"]
DEFAULT_BUDGET = 20.0
INTERRUPTED = 130


def run(arguments: argparse.Namespace) -> int:
    """Search, then retrain the winner, compare it and export it, as far as asked."""
    choose_device(arguments.device)
    _known("--space", arguments.space, SPACES)
    _known("--sampler", arguments.sampler, SAMPLERS)
    _known("--scheduler", arguments.scheduler, SCHEDULERS)
    folder, settings = _place(arguments)
    axes = None if arguments.axis is None else parse_axes(arguments.axis)
    data = load_data(settings, arguments.download)
    check_device(arguments.device)

    import bonas
    from bonas.leaderboard import Leaderboard, format_seconds, states

    going_on = folder.exists
    study = _open(arguments, folder, settings, data, axes)
    print(_describe(data), flush=True)
    print(_opening(study, folder, going_on), flush=True)
    limits = _limits(arguments)
    objective = bonas.train_on(data)
    board = Leaderboard(study, **limits)
    clock = time.monotonic()
    try:
        with board:
            watched = board.watch(objective) if arguments.jobs == 1 else objective
            study.optimize(watched, **limits, n_jobs=arguments.jobs, callbacks=[board])
        seconds = time.monotonic() - clock
        board.print_final()
        print(f"\nSearched for {format_seconds(seconds)}: {states(study)}", flush=True)
        return _afterwards(arguments, study, folder, data, objective, seconds)
    except KeyboardInterrupt:
        print(
            f"\nInterrupted after {format_seconds(time.monotonic() - clock)}. Nothing is lost: {states(study)}"
        )
        print(f"Go on with: {_again(arguments, folder)}")
        return INTERRUPTED
    except ValueError:
        if not going_on and not study.trials:
            # Limits that allow nothing must not leave a study behind that binds the next command.
            folder.discard()
        raise


def _known(option: str, value: str | None, names: Sequence[str] | dict[str, str]) -> None:
    if value is None or value in names:
        return
    near = difflib.get_close_matches(value, names, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(names)}."
    raise ValueError(f"{option} {value}: unknown. {hint}")


def parse_axes(words: Sequence[str]) -> Axes:
    """The axes that ``--axis`` describes: ``epochs=1:27`` is a range, ``epochs=12,200`` the only values.

    Raises:
        ValueError: for an unknown axis, a word that is no range, or a range the axis cannot have.
    """
    from fidelity.axes import Axes
    from fidelity.records import AXIS_NAMES

    given: dict[str, Any] = {}
    for word in words:
        name, equals, values = word.partition("=")
        # Axes of one's own are for objectives of one's own, which the command line does not have.
        _known("--axis", name, AXIS_NAMES)
        if name in given:
            raise ValueError(f"--axis {word}: {name} was given before. Give each axis once.")
        try:
            parts = values.split(":") if ":" in values else values.split(",")
            numbers = [int(p) if p.strip().isdecimal() else float(p) for p in parts]
        except ValueError:
            numbers = []
        if not equals or not numbers or (":" in values and len(numbers) != 2):
            raise ValueError(
                f"--axis {word}: must be a range such as {name}=1:27, or values such as {name}=1,9,27."
            )
        given[name] = tuple(numbers) if ":" in values else numbers
    return Axes(**given)


def _place(arguments: argparse.Namespace) -> tuple[StudyFolder, Settings]:
    """The study's folder and what it is about: stored words where none are given, never others."""
    if arguments.study is None:
        if arguments.data is None:
            raise ValueError("--data: missing. Say which data to search on, such as --data digits.")
        name = f"{Path(arguments.data).name or 'data'}-{arguments.space or 'chain'}"
        folder = open_folder(str(Path("runs") / name))
    else:
        folder = open_folder(arguments.study)
    stored = folder.settings() if folder.exists else None
    if stored is None:
        if arguments.data is None:
            raise ValueError(f"--data: missing, and {folder.path} holds no search to go on with.")
        return folder, Settings(
            arguments.data, arguments.space or "chain", _absolute(arguments.data_dir), arguments.seed or 0
        )
    for option in ("data", "space", "seed"):
        was, now = getattr(stored, option), getattr(arguments, option)
        if now is not None and now != was:
            raise ValueError(
                f"--{option} {now}: the search in {folder.path} has {was}. "
                f"Leave it out to go on, or name another --study folder."
            )
    if arguments.data_dir is not None:
        stored = replace(stored, data_dir=_absolute(arguments.data_dir))
    return folder, stored


def _absolute(path: str | None) -> str | None:
    # The search may go on from another working folder.
    return None if path is None else str(Path(path).expanduser().absolute())


def _limits(arguments: argparse.Namespace) -> dict[str, Any]:
    limits = {"n_trials": arguments.n_trials, "budget": arguments.budget, "timeout": arguments.timeout}
    if all(limit is None for limit in limits.values()):
        limits["budget"] = DEFAULT_BUDGET
    return limits


def _space(settings: Settings, data: Data) -> Space:
    import spaces

    if settings.space == "chain":
        space = spaces.chain(input_shape=data.input_shape, n_classes=data.n_classes)
    else:
        space = spaces.cell(preset="nas_bench_201", input_shape=data.input_shape, n_classes=data.n_classes)
    return space.with_hyperparameters()


def _open(
    arguments: argparse.Namespace, folder: StudyFolder, settings: Settings, data: Data, axes: Axes | None
) -> Study:
    import bonas
    from bonas import samplers
    from fidelity.schedulers import FullFidelity, SuccessiveHalving

    space = _space(settings, data)
    sampler = None if arguments.sampler is None else samplers.get(SAMPLERS[arguments.sampler])
    scheduler = {"full": FullFidelity, "successive-halving": SuccessiveHalving, None: lambda: None}[
        arguments.scheduler
    ]()
    constraints = {
        name: bound
        for name, bound in (("parameters", arguments.max_parameters), ("macs", arguments.max_macs))
        if bound is not None
    }
    if not folder.exists:
        axes = axes or parse_axes(DEFAULT_AXES)
        folder.write(settings)
        study: Study = bonas.create_study(
            space=space,
            axes=axes,
            direction="maximize",
            metric_names=["accuracy"],
            sampler=sampler,
            scheduler=scheduler,
            constraints=constraints or None,
            storage=folder.database,
            study_name=folder.path.absolute().name,
            seed=settings.seed,
        )
        return study
    study = folder.load(space=space, sampler=sampler, scheduler=scheduler)
    for what, was, now in (("--axis", study.axes, axes), ("--max-...", dict(study.constraints), constraints)):
        if now and now != was:
            raise ValueError(
                f"{what} {now}: the search in {folder.path} has {was or 'none'}. "
                "Leave it out to go on, or name another --study folder."
            )
    folder.write(settings)
    return study


def _describe(data: Data) -> str:
    c, h, w = data.input_shape
    counts = ", ".join(f"{len(getattr(data, part)):,} {part}" for part in ("train", "val", "test"))
    return f"Data     {data.name}: images of {h}×{w} pixels, {c} channel{'s' * (c > 1)}, {data.n_classes} classes; {counts}"


def _opening(study: Study, folder: StudyFolder, going_on: bool) -> str:
    from bonas.leaderboard import states

    space = f"Space    {len(study.space.names)} hyperparameters of architecture and training"
    verb = f"going on with {states(study)}" if going_on else "new"
    return f"{space}\nStudy    {folder.path} ({verb})"


def _again(arguments: argparse.Namespace, folder: StudyFolder) -> str:
    words = ["bonas search --study", str(folder.path)]
    for option in ("n_trials", "budget", "timeout"):
        value = getattr(arguments, option)
        if value is not None:
            words.append(f"--{option.replace('_', '-')} {value:g}")
    return " ".join(words)


def _afterwards(
    arguments: argparse.Namespace,
    study: Study,
    folder: StudyFolder,
    data: Data,
    objective: Any,
    seconds: float,
) -> int:
    from bonas.cli import winner

    return 0
