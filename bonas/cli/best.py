"""``bonas best``: prints the winner of a study, retrains it, exports it; never searches."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from bonas.cli.folder import check_device, check_export, choose_device, load_data, open_folder


def run(arguments: argparse.Namespace) -> int:
    """Print the best trial; retrain and export it as far as asked."""
    choose_device(arguments.device)
    check_export(arguments.export)
    if arguments.retrain_epochs is not None and not arguments.retrain:
        raise ValueError("--retrain-epochs: says how long --retrain trains. Give both or neither.")
    folder = open_folder(arguments.study)
    study = folder.load()
    from bonas.cli import winner
    from bonas.leaderboard import best_line, format_seconds, leading_line

    chosen = winner.find(study, arguments.trial)
    several = len(study.metric_names) > 1
    if several:
        print(leading_line(study))
    word = "chosen" if arguments.trial is not None else "knee" if several else "best"
    print(f"{word} {best_line(study, chosen.trial).removeprefix('best ')}")
    for name, value in sorted(chosen.trial.params.items()):
        print(f"  {name} = {value}")
    if not arguments.retrain and arguments.export is None:
        return 0

    settings = folder.settings()
    if settings is None:
        raise ValueError(
            f"{folder.path}: was not made by `bonas search`, so its data are unknown here. "
            "Use study.retrain(objective) and study.best_trial.load_model() in Python."
        )
    if arguments.data_dir is not None:
        settings = replace(settings, data_dir=str(Path(arguments.data_dir).expanduser().absolute()))
    import bonas

    objective = bonas.train_on(load_data(settings), class_weights=settings.class_weights)
    check_device(arguments.device)
    if arguments.retrain:
        chosen = winner.retrain(study, objective, chosen.trial, arguments.retrain_epochs)
        name, figure = winner.score(chosen.test, study.metric_names)
        print(f"Test {name} {figure} after {format_seconds(chosen.seconds)}")
    if arguments.export is not None:
        print(f"Result   {winner.said(winner.export(study, chosen, objective, arguments.export))}")
    return 0
