"""``bonas show``: a study as text, as a picture or as a page; reads, never writes to the study."""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bonas.cli.folder import open_folder

if TYPE_CHECKING:
    from bonas.study import Study

FORMATS = (".png", ".svg", ".pdf")


def run(arguments: argparse.Namespace) -> int:
    """Print summary and leaderboard; write the picture and the page asked for."""
    if arguments.plot is not None and Path(arguments.plot).suffix.lower() not in FORMATS:
        raise ValueError(
            f"--plot {arguments.plot}: must end in {', '.join(FORMATS)}, which says how to draw."
        )
    study = open_folder(arguments.study).load()
    from bonas.leaderboard import print_table, ranking, summary

    print("\n".join(summary(study)))
    if ranking(study):
        print()
        print_table(study, arguments.top)
    if arguments.fidelity:
        print(f"\n{study.fidelity_report()}")
    failed = sorted({f"trial {t.number}: {t.reason}" for t in study.trials if t.state == "FAIL"})
    if failed:
        print("\nFailed")
        print("\n".join(failed[:5] + ([f"and {len(failed) - 5} more"] if len(failed) > 5 else [])))
    if arguments.plot is not None:
        _write(arguments.plot, _drawn(study, Path(arguments.plot).suffix.lower()[1:]))
    if arguments.html is not None:
        _write(arguments.html, _page(study).encode())
    return 0


def _drawn(study: Study, kind: str) -> bytes:
    """History and learning curves as one picture; of several objectives the Pareto front."""
    from bonas import plots

    several = len(study.metric_names) > 1
    return _bytes(plots.plot_pareto_front(study) if several else plots.plot_study(study), kind)


def _page(study: Study) -> str:
    from bonas import plots, report
    from bonas.leaderboard import leader

    pictures: dict[str, Any] = {}
    if len(study.metric_names) > 1:
        pictures |= {
            "What each full evaluation traded for what; numbered trials are the front.": (
                plots.plot_pareto_front(study)
            ),
            "What the front dominates, for the cost spent.": plots.plot_hypervolume(study),
        }
    pictures |= {
        "Every point is the end of a training segment; cost counts all epochs trained so far.": (
            plots.plot_optimization_history(study)
        ),
        "Promoted trials go on from their checkpoint; the others stop at a rung.": (
            plots.plot_learning_curves(study)
        ),
    }
    rungs, fidelities = study.fidelity_report(), ""
    if len(rungs.rungs) > 1:
        pictures["How cheap evaluations rank the trials for dearer ones."] = plots.plot_fidelities(rungs)
        fidelities = rungs.to_html()
    svg = {caption: _bytes(figure, "svg").decode() for caption, figure in pictures.items()}
    shown = leader(study)
    drawing = study.space.draw(shown.params) if shown is not None else ""
    return report.page(study, svg, drawing, fidelities=fidelities)


def _bytes(figure: Any, kind: str) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return out.getvalue()


def _write(path: str, content: bytes) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content)
    print(f"Wrote {path}")
