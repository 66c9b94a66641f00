"""``bonas search``: search, retrain, compare, export; knows their order and what is printed between them."""

from __future__ import annotations

import argparse
import math
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bonas.cli.folder import (
    Settings,
    StudyFolder,
    check_device,
    check_export,
    choose_device,
    load_data,
    open_folder,
)
from bonas.cli.named_spaces import FOR_IMAGES, FOR_VECTORS, SPACES, known, macro_of, make, suited

if TYPE_CHECKING:
    from bonas.feasibility import Latency
    from bonas.study import Study
    from fidelity.axes import Axes
    from fidelity.data import Data
    from fidelity.training import TrainOn
    from spaces import Space

SAMPLERS = {
    "forest": "forest",
    "tpe": "tpe",
    "smac": "smac",
    "evolution": "evolution",
    "local-search": "local-search",
    "random": "random",
    "optuna-tpe": "optuna",
}
# Name on the command line → class.
SCHEDULERS = {
    "successive-halving": "SuccessiveHalving",
    "asha": "ASHA",
    "hyperband": "Hyperband",
    "median-stopping": "MedianStopping",
    "extrapolation-stopping": "ExtrapolationStopping",
    "freeze-thaw": "FreezeThaw",
    "full": "FullFidelity",
}
CLASS_WEIGHTS = ("balanced",)
DEFAULT_AXES = ["epochs=1:27"]
DEFAULT_BUDGET = 20.0
INTERRUPTED = 130
# Of options that say nothing new.
_USUAL = {"jobs": 1, "device": "auto"}


def run(arguments: argparse.Namespace) -> int:
    """Search, then retrain the winner, compare it and export it, as far as asked."""
    choose_device(arguments.device)
    check_export(arguments.export)
    for option, value in (("--baseline", arguments.baseline), ("--retrain-epochs", arguments.retrain_epochs)):
        if arguments.no_retrain and value:
            raise ValueError(
                f"{option}: needs the retrain that --no-retrain leaves out. Leave one of them out."
            )
    known("--space", arguments.space, SPACES)
    known("--sampler", arguments.sampler, SAMPLERS)
    known("--scheduler", arguments.scheduler, SCHEDULERS)
    known("--class-weights", arguments.class_weights, CLASS_WEIGHTS)
    if arguments.axis is not None:
        parse_axes(arguments.axis)  # a wrong one is said before the data are read
    if arguments.objectives is not None:
        parse_objectives(arguments.objectives)
    for name in arguments.warm_start or ():
        if not open_folder(name).exists:
            raise ValueError(
                f"--warm-start {name}: is not a study, it has no study.db. Give the folder of a search; "
                "`bonas search` prints it."
            )
    folder, settings, data = _place(arguments)
    check_device(arguments.device)

    import bonas
    from bonas.leaderboard import Leaderboard, format_seconds, states

    going_on = folder.exists
    limits = _limits(arguments)
    objective = bonas.train_on(data, class_weights=settings.class_weights)
    print(_describe(data), flush=True)
    axes, constraints = _plan(arguments, settings, data, objective, None if going_on else limits["timeout"])
    study = _open(arguments, folder, settings, data, axes, constraints)
    print(_opening(study, folder, going_on), flush=True)
    if limits["budget"] or limits["n_trials"]:
        plan = study.plan(limits["budget"], limits["n_trials"])
        if plan.rungs:  # else the search itself says that there is nothing to run
            print(f"Plan     {plan.statement}", flush=True)
    board = Leaderboard(study, **limits)
    clock = time.monotonic()
    searched = None
    try:
        with board:
            watched = board.watch(objective) if arguments.jobs == 1 else objective
            study.optimize(
                watched,
                **limits,
                n_jobs=arguments.jobs,
                callbacks=[board],
                trial_timeout=arguments.trial_timeout,
            )
        searched = _note_seconds(study, time.monotonic() - clock)
        board.print_final()
        print(f"\nSearched for {format_seconds(searched)} in all: {states(study)}", flush=True)
        _afterwards(arguments, study, folder, objective, searched)
        return 0
    except KeyboardInterrupt:
        if searched is None:
            _note_seconds(study, time.monotonic() - clock)
        took = format_seconds(time.monotonic() - clock)
        print(f"\nInterrupted after {took}. Nothing is lost: {states(study)}")
        print(f"Go on with: {_again(arguments, folder, study)}")
        return INTERRUPTED
    except ValueError:
        if not going_on and all(trial.state == "INFEASIBLE" for trial in study.trials):
            # Limits that allow nothing must not leave a study behind that binds the next command.
            folder.discard()
        raise


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
        known("--axis", name, AXIS_NAMES)
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


def parse_objectives(text: str) -> dict[str, str]:
    """The metrics that ``--objectives`` names, each with the direction in which it gets better.

    Raises:
        ValueError: for an unknown name, or one that stands twice.
    """
    from fidelity.tasks import METRICS

    names = [name.strip() for name in text.split(",")]
    for name in names:
        known("--objectives", name, METRICS)
    if len(set(names)) < len(names):
        raise ValueError(f"--objectives {text}: names one twice. Name each once.")
    return {name: METRICS[name] for name in names}


def _place(arguments: argparse.Namespace) -> tuple[StudyFolder, Settings, Data]:
    """The study's folder and what it is about: stored words where none are given, never others."""
    if arguments.study is None:
        if not arguments.data:
            raise ValueError("--data: missing. Say which data to search on, such as --data digits.")
        # Without a name the data say which space it is, unless a search on them was begun already.
        names = [arguments.space] if arguments.space else [FOR_IMAGES, FOR_VECTORS]
        folders = {name: _usual_folder(arguments.data, name) for name in names}
        folder = next((f for f in folders.values() if f.exists), None) or folders[names[0]]
    else:
        folder = open_folder(arguments.study)
    stored = folder.settings() if folder.exists else None
    if stored is None:
        if not arguments.data:
            raise ValueError(f"--data: missing, and {folder.path} holds no search to go on with.")
        settings = Settings(
            arguments.data,
            arguments.space or "",
            _absolute(arguments.data_dir),
            arguments.seed or 0,
            arguments.class_weights,
        )
        data = load_data(settings, arguments.download)
        if not settings.space:
            settings = replace(settings, space=suited(data.input_shape))
            if arguments.study is None:
                folder = _usual_folder(arguments.data, settings.space)
        return folder, settings, data
    for option in ("data", "space", "seed", "class_weights"):
        was, now = getattr(stored, option), getattr(arguments, option)
        if now is not None and now != was:
            raise ValueError(
                f"--{option.replace('_', '-')} {now}: the search in {folder.path} has "
                f"{'none' if was is None else was}. "
                f"Leave it out to go on, or name another --study folder."
            )
    if arguments.data_dir is not None:
        stored = replace(stored, data_dir=_absolute(arguments.data_dir))
    return folder, stored, load_data(stored, arguments.download)


def _usual_folder(data: str, space: str) -> StudyFolder:
    return open_folder(str(Path("runs") / f"{Path(data).name or 'data'}-{space}"))


def _absolute(path: str | None) -> str | None:
    # The search may go on from another working folder.
    return None if path is None else str(Path(path).expanduser().absolute())


def _limits(arguments: argparse.Namespace) -> dict[str, Any]:
    limits = {"n_trials": arguments.n_trials, "budget": arguments.budget, "timeout": arguments.timeout}
    if all(limit is None for limit in limits.values()):
        limits["budget"] = DEFAULT_BUDGET
    return limits


def _space(settings: Settings, data: Data, arguments: argparse.Namespace) -> Space:
    """The space to search, less what ``--fix`` fixes and what is known for the data set."""
    from fidelity.data import REGULARISATION

    space = make(settings.space, data.input_shape, data.n_classes, macro_of(arguments))
    space = space.with_hyperparameters()
    fixed = arguments.fix or ()
    values: dict[str, Any] = {}
    known_for_data = REGULARISATION.get(settings.data, {})
    if data.task == "regression":
        known_for_data = {"label_smoothing": 0.0}  # is of classes
    values.update((name, value) for name, value in known_for_data.items() if name in space.names)
    given = [_fixed_value(space, word) for word in fixed]
    if len(dict(given)) < len(given):
        raise ValueError(f"--fix {' '.join(fixed)}: fixes one twice. Give each hyperparameter once.")
    values.update(given)
    return space.fix(values)


def _fixed_value(space: Space, word: str) -> tuple[str, Any]:
    """``NAME=VALUE`` as a hyperparameter's name and one of its values."""
    name, equals, text = word.partition("=")
    if not equals or not text:
        raise ValueError(f"--fix {word}: must be NAME=VALUE, such as optimizer=adamw.")
    known("--fix", name, space.names)
    hyperparameter = space.configuration_space[name]
    choices = getattr(hyperparameter, "choices", getattr(hyperparameter, "sequence", None))
    if choices is not None:
        legal = {str(choice): choice for choice in choices}
        known(f"--fix {name}", text, list(legal))
        value = legal[text]
        return name, value.item() if hasattr(value, "item") else value
    try:
        return name, int(text) if text.lstrip("+-").isdecimal() else float(text)
    except ValueError:
        raise ValueError(f"--fix {word}: must be a number.") from None


def _plan(
    arguments: argparse.Namespace,
    settings: Settings,
    data: Data,
    objective: TrainOn,
    timeout: float | None,
) -> tuple[Axes | None, dict[str, float | Latency]]:
    """The axes and constraints asked for; what a time limit leaves open follows from this machine's speed."""
    axes = None if arguments.axis is None else parse_axes(arguments.axis)
    constraints = _constraints(arguments)
    if timeout is None or axes is not None:
        return axes, constraints
    from bonas.leaderboard import format_seconds
    from fidelity import pace

    space = _space(settings, data, arguments)
    macs = space.count(space.default).macs
    network = space.build(space.default)
    import torch

    threads = torch.get_num_threads()
    measured = pace.fastest(objective, network, space.default, macs, arguments.jobs)
    if arguments.jobs > 1:
        torch.set_num_threads(threads)  # what was measured is a worker's; this process has yet to train
    timed = pace.plan(measured, len(data.train), len(data.val), timeout, arguments.jobs)
    constraints["macs"] = most = arguments.max_macs or round(timed.max_macs)
    print(
        f"Plan     {round(1 / measured.seconds_per_image):,} examples a second here with {measured.threads} "
        f"thread{'s' * (measured.threads > 1)} for the hand-written default\n"
        f"         {format_seconds(timeout)}: a full evaluation trains {timed.axes.full.epochs} epochs, "
        f"{format_seconds(timed.seconds)} for that default; networks up to "
        f"{most / 1e6:.3g} million multiply-accumulates",
        flush=True,
    )
    return timed.axes, constraints


def _constraints(arguments: argparse.Namespace) -> dict[str, float | Latency]:
    """The limits on networks that are asked for."""
    from bonas.feasibility import Latency

    counted = {name: getattr(arguments, f"max_{name}") for name in ("parameters", "macs", "memory")}
    constraints: dict[str, float | Latency] = {n: bound for n, bound in counted.items() if bound is not None}
    if arguments.max_latency is not None:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        constraints["latency"] = Latency(arguments.max_latency, device)
    return constraints


def _open(
    arguments: argparse.Namespace,
    folder: StudyFolder,
    settings: Settings,
    data: Data,
    axes: Axes | None,
    constraints: dict[str, float | Latency],
) -> Study:
    import bonas
    from bonas import samplers
    from fidelity import schedulers
    from fidelity.tasks import task_of, told

    sampler = None if arguments.sampler is None else samplers.get(SAMPLERS[arguments.sampler])
    chosen = arguments.scheduler
    scheduler = None if chosen is None else schedulers.REGISTRY[SCHEDULERS[chosen]]()
    if not folder.exists:
        axes = axes or parse_axes(DEFAULT_AXES)
        space = _space(settings, data, arguments)  # a wrong --fix leaves no folder behind
        task = task_of(data)
        objectives = parse_objectives(arguments.objectives or task.default["maximize"])
        told(list(objectives), list(objectives.values()), None, task)  # what the data have not is refused
        earlier = [open_folder(name).load() for name in arguments.warm_start or ()]
        folder.write(settings)
        study: Study = bonas.create_study(
            space=space,
            axes=axes,
            directions=list(objectives.values()),
            metric_names=list(objectives),
            sampler=sampler,
            scheduler=scheduler,
            constraints=constraints or None,
            storage=folder.database,
            study_name=folder.path.absolute().name,
            load_if_exists=True,  # by another search that began here at the same moment
            warm_start=earlier,
            seed=settings.seed,
        )
        return study
    study = folder.load(sampler=sampler, scheduler=scheduler)
    expects = (study.space.input_shape, study.space.n_classes)
    if expects != (data.input_shape, data.n_classes):
        raise ValueError(
            f"--data {settings.data}: inputs of shape {data.input_shape} in {data.n_classes} classes, but "
            f"the search in {folder.path} is for {expects[0]} in {expects[1]}. Name another --study folder."
        )
    learned = {told.study for told in study.view().earlier}
    for name in arguments.warm_start or ():
        if open_folder(name).path.absolute().name not in learned:
            raise ValueError(
                f"--warm-start {name}: the search in {folder.path} began without it. "
                "Leave it out to go on, or name another --study folder."
            )
    given = [option for option in ("fix", "filters", "cells") if getattr(arguments, option) is not None]
    if given and _space(settings, data, arguments) != study.space:
        raise ValueError(
            f"{', '.join('--' + option for option in given)}: the search in {folder.path} is over another "
            "space. Leave out what makes it another one to go on, or name another --study folder."
        )
    typed = (
        (_typed_objectives(study.metric_names), _typed_objectives((arguments.objectives or "").split(","))),
        (_typed_axes(study.axes), "" if axes is None else _typed_axes(axes)),
        (_typed_constraints(study.constraints), _typed_constraints(constraints)),
    )
    for was, now in typed:
        if now and now != was:
            raise ValueError(
                f"{now}: the search in {folder.path} has {was or 'none'}. "
                "Leave it out to go on, or name another --study folder."
            )
    folder.write(settings)
    return study


def _typed_objectives(names: Sequence[str]) -> str:
    """Objectives as one types them, whatever their order."""
    return f"--objectives {','.join(sorted(name.strip() for name in names))}" if any(names) else ""


def _typed_axes(axes: Axes) -> str:
    """Axes as one types them."""
    words = []
    for axis in axes.axes:
        values = (",", axis.values) if axis.listed else (":", axis.values)
        words.append(f"--axis {axis.name}={values[0].join(f'{v:g}' for v in values[1])}")
    return " ".join(words)


def _typed_constraints(constraints: Mapping[str, float | Latency]) -> str:
    """Constraints as one types them."""
    typed = {
        name: f"{b:.0f}" if isinstance(b, (int, float)) else f"{b.seconds:g}"
        for name, b in constraints.items()
    }
    return " ".join(f"--max-{name} {bound}" for name, bound in typed.items())


def _describe(data: Data) -> str:
    counts = ", ".join(f"{len(getattr(data, part)):,} {part}" for part in ("train", "val", "test"))
    if len(data.input_shape) == 3:
        c, h, w = data.input_shape
        inputs = f"images of {h}×{w} pixels, {c} channel{'s' * (c > 1)}"
    else:
        inputs = f"vectors of {data.input_shape[0]} features"
    labels = f"{data.n_classes} classes" if data.task == "classification" else "a number to predict"
    return f"Data     {data.name}: {inputs}, {labels}; {counts}"


def _opening(study: Study, folder: StudyFolder, going_on: bool) -> str:
    from bonas.leaderboard import states

    names = study.space.names
    space = f"Space    {len(names)} hyperparameters of architecture and training"
    # Fixed because the data set is known to want it, so nobody asked for it.
    if "augmentation" in names and not hasattr(study.space.configuration_space["augmentation"], "choices"):
        space += f", augmentation {study.space.default['augmentation']}"
    verb = f"going on with {states(study)}" if going_on else "new"
    how = f"{type(study.sampler).__name__} proposes, {type(study.scheduler).__name__} decides for how long"
    earlier = [told.study for told in study.view().earlier]
    if earlier:
        how += f", learning from {', '.join(earlier)}"
    return f"{space}\nSearch   {how}\nStudy    {folder.path} ({verb})"


def _again(arguments: argparse.Namespace, folder: StudyFolder, study: Study, more: int = 1) -> str:
    """The command that goes on; a total that is used up is given ``more`` times over."""
    words = ["bonas search --study", shlex.quote(str(folder.path))]
    used = {"n_trials": len(study.trials), "budget": math.ceil(study.spent), "timeout": 0}
    for option, value in _limits(arguments).items():
        if value is not None:
            total = value if option == "timeout" else max(value, used[option]) * more
            # Whole numbers in full: 2e+06 is no number of trials.
            words.append(f"--{option.replace('_', '-')} {total if isinstance(total, int) else f'{total:g}'}")
    if arguments.trial_timeout is not None:
        words.append(f"--trial-timeout {arguments.trial_timeout:g}")
    # What the study does not keep, and what would otherwise be done differently, or not at all.
    for option in ("sampler", "scheduler", "jobs", "device", "retrain_epochs", "export"):
        value = getattr(arguments, option)
        if value not in (None, _USUAL.get(option)):
            words.append(f"--{option.replace('_', '-')} {shlex.quote(str(value))}")
    words += [f"--{o.replace('_', '-')}" for o in ("no_retrain", "baseline") if getattr(arguments, o)]
    return " ".join(words)


def _note_seconds(study: Study, seconds: float) -> float:
    """Add to the seconds this study was searched for, over all its runs, and return them."""
    total = float(study.attrs.get("search_seconds", 0.0)) + seconds
    study.set_attr("search_seconds", total)
    return total


def _baseline(objective: TrainOn, seconds: float) -> tuple[str, Mapping[str, float], int, str]:
    """The hand-written network after as many seconds, as a row of the comparison."""
    import torch

    from bonas.leaderboard import format_seconds
    from fidelity.baseline import train_baseline

    print(f"Training a hand-written network for the same {format_seconds(seconds)}", flush=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    made = train_baseline(objective.data, seconds, device=device, class_weights=objective.class_weights)
    how = f"{format_seconds(made.seconds)}, {made.epochs} epochs"
    layers = "three convolutions" if len(objective.data.input_shape) == 3 else "two hidden layers"
    return f"{layers} written by hand", made.test, made.parameters, how


def _share_no_more(study: Study, objective: TrainOn, params: dict[str, Any]) -> None:
    """The workers are done: one training has all cores now, and as many threads as are fastest."""
    from fidelity import pace

    pace.fastest(objective, study.space.build(params), params, study.space.count(params).macs)


def _afterwards(
    arguments: argparse.Namespace,
    study: Study,
    folder: StudyFolder,
    objective: TrainOn,
    seconds: float,
) -> None:
    """Retrain, compare and export what the search found, and say where it lies and how to go on."""
    from bonas.cli import winner
    from bonas.leaderboard import best_line, format_seconds

    chosen = winner.find(study)
    line = best_line(study, chosen.trial).removeprefix("best ")
    if len(study.metric_names) == 1:
        learned = hasattr(study.sampler, "posterior")
        why = "by its value and what the sampler learned from all others" if learned else "by its value"
    else:
        why = f"the knee of the front; bonas best {shlex.quote(str(folder.path))} --trial N takes another"
    print(f"Winner   {line}, {why}", flush=True)
    if not arguments.no_retrain:
        if arguments.jobs > 1 and arguments.timeout is not None:
            _share_no_more(study, objective, chosen.trial.params)
        chosen = winner.retrain(study, objective, chosen.trial, arguments.retrain_epochs)
        took = f"search {format_seconds(seconds)} + retrain {format_seconds(chosen.seconds)}"
        rows: list[tuple[str, Mapping[str, float], int, str]] = [
            (
                f"found by the search (trial {chosen.trial.number})",
                chosen.test,
                winner.parameters(study, chosen.trial),
                took,
            )
        ]
        if arguments.baseline:
            rows.append(_baseline(objective, seconds + chosen.seconds))
        print()
        print("\n".join(winner.comparison(rows, study.metric_names)))
    print()
    if arguments.export is not None:
        print(f"Result   {winner.said(winner.export(study, chosen, objective, arguments.export))}")
    else:
        words = ["bonas best", shlex.quote(str(folder.path))]
        if len(study.metric_names) > 1:
            words.append(f"--trial {chosen.trial.number}")
        if chosen.retrained:  # it is not trained again, and without the word the search's weights are meant
            words.append("--retrain")
            if arguments.retrain_epochs is not None:
                words.append(f"--retrain-epochs {arguments.retrain_epochs}")
        print(f"Result   {' '.join(words)} --export FOLDER")
    print(f"Look     bonas show {shlex.quote(str(folder.path))} --html report.html")
    print(f"Go on    {_again(arguments, folder, study, more=2)}")
