"""Studies and trials as HTML: fragments for notebooks and a page for the browser; trains and stores nothing.

Everything that comes from outside (names, reasons, hyperparameters) is escaped. The fragments take text
colour and background from the page around them, so they read well in light and dark notebooks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from bonas.leaderboard import (
    columns,
    cost_unit,
    format_value,
    last_observation,
    leader,
    leading_line,
    numeric,
    rows,
    states,
)

if TYPE_CHECKING:
    from bonas.leaderboard import StudyLike, TrialLike

__all__ = ["page", "study_html", "trial_html"]

_LINE = "1px solid rgba(128,128,128,.35)"
_CELL = (
    f"padding:3px 12px 3px 0;border:0;border-bottom:{_LINE};white-space:nowrap;background:none;color:inherit"
)
_SOFT = "opacity:.7"
# Pages without a doctype reset fonts and colours at every table.
_INHERIT = "color:inherit;font:inherit"


def study_html(study: StudyLike, top: int = 5) -> str:
    """A study as an HTML fragment: goal, states, cost, the best trial and the leaderboard."""
    return _box([f"<strong>{escape(study.study_name)}</strong>", *_study(study, top)])


def _study(study: StudyLike, top: int) -> list[str]:
    goal = ", ".join(f"{d} {m}" for d, m in zip(study.directions, study.metric_names, strict=True))
    best = leading_line(study)
    parts = [_lines([goal, states(study), f"spent {study.spent:.2f} {cost_unit(study.axes)}"])]
    if best:
        parts.append(f"<div style='margin:4px 0'><strong>{escape(best)}</strong></div>")
        parts.append(_table(columns(study), rows(study, top), numeric(study)))
    return parts


def trial_html(trial: TrialLike) -> str:
    """A trial as an HTML fragment: state, values, where it was evaluated, cost and hyperparameters."""
    last = last_observation(trial)
    facts = [f"state {str(trial.state).lower()}"]
    if last is not None:
        values = ", ".join(f"{m} {format_value(v)}" for m, v in last.values.items())
        facts.append(f"{values} after {last.epoch} epoch{'' if last.epoch == 1 else 's'}")
        others = {k: v for k, v in last.fidelity.to_dict().items() if k != "epochs" and v not in (1.0, None)}
        if others:
            facts.append("at " + ", ".join(f"{k} {_value(v)}" for k, v in others.items()))
    if trial.reason:
        facts.append(f"reason: {trial.reason}")
    facts.append(f"cost {trial.cost:.3g}")
    parts = [f"<strong>Trial {trial.number}</strong>", _lines(facts)]
    parts.append(
        _table(["hyperparameter", "value"], [[k, _value(v)] for k, v in sorted(trial.params.items())], set())
    )
    return _box(parts)


def page(
    study: StudyLike, pictures: Mapping[str, str], drawing: str = "", top: int = 20, fidelities: str = ""
) -> str:
    """A whole HTML page that needs no other file.

    Args:
        study: the study to report on.
        pictures: caption → SVG text, in order; the caller made the SVG and it goes in as it is.
        drawing: SVG text of the network of :func:`bonas.leaderboard.leader`'s trial.
        top: rows of the leaderboard.
        fidelities: the fidelity report as an HTML fragment.
    """
    figures = "".join(
        f"<figure>{_inline(svg)}<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, svg in pictures.items()
    )
    best = leader(study)
    title = "The best trial" if len(study.metric_names) == 1 else "The trial at the knee of the front"
    network = f"<div>{_inline(drawing)}</div>" if drawing else ""
    winner = (
        f"<h2>{title}</h2><div class='beside'>{network}{trial_html(best)}</div>" if best is not None else ""
    )
    rungs = f"<h2>The cheap evaluations</h2><div class='scroll'>{fidelities}</div>" if fidelities else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(study.study_name)} - bonas</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; }} h2 {{ font-size: 1.15rem; margin-top: 2rem; }}
figure {{ margin: 1.5rem 0; padding: .75rem; border-radius: 6px; background: #fff; color: #222; }}
figcaption {{ font-size: .85rem; color: #5c6670; }}
svg {{ max-width: 100%; height: auto; }}
.scroll {{ overflow-x: auto; }}
.beside {{ display: flex; flex-wrap: wrap; gap: 3rem; align-items: flex-start; }}
.beside > :last-child {{ flex: 1 1 20rem; }}
</style>
</head>
<body>
<h1>{escape(study.study_name)}</h1>
<div class="scroll">{_box(_study(study, top))}</div>
{figures}
{rungs}
{winner}
</body>
</html>
"""


def _inline(svg: str) -> str:
    # An XML declaration or doctype is valid in a file of its own only.
    start = svg.find("<svg")
    return svg[start:] if start >= 0 else svg


def _box(parts: Sequence[str]) -> str:
    return (
        f"<div style='font-family:system-ui,sans-serif;font-size:13px;line-height:1.5'>{''.join(parts)}</div>"
    )


def _lines(facts: Sequence[str]) -> str:
    return "".join(f"<div style='{_SOFT}'>{escape(fact)}</div>" for fact in facts)


def _table(headings: Sequence[str], body: Sequence[Sequence[str]], flush_right: set[str]) -> str:
    def cell(tag: str, text: str, column: int) -> str:
        align = "right" if headings[column] in flush_right else "left"
        weight = ";font-weight:600" if tag == "th" else ""
        return f"<{tag} style='{_CELL};text-align:{align}{weight}'>{escape(text)}</{tag}>"

    lines = ["".join(cell("th", h, i) for i, h in enumerate(headings))]
    lines += ["".join(cell("td", text, i) for i, text in enumerate(row)) for row in body]
    inner = "".join(f"<tr style='{_INHERIT};background:none'>{line}</tr>" for line in lines)
    return f"<table style='{_INHERIT};border-collapse:collapse;border:0;margin-top:6px'>{inner}</table>"


def _value(value: Any) -> str:
    if isinstance(value, float):
        return format_value(value) if math.isnan(value) else f"{value:.4g}"
    return str(value)
