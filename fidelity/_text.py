"""Small tables of strings as aligned text and as HTML; knows nothing of what they are about."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

_CELL = "padding:3px 14px 3px 0;border:0;border-bottom:1px solid rgba(128,128,128,.35);white-space:nowrap"


@dataclass(frozen=True, slots=True)
class TextTable:
    """Headings, rows of cells, what stands above them and what is said below."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    """Headings of columns of words; those of numbers are set flush right."""

    def __str__(self) -> str:
        lines = [self.headings, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        body = []
        for line in lines:
            cells = zip(line, widths, self.headings, strict=True)
            text = "  ".join(c.ljust(w) if h in self.left else c.rjust(w) for c, w, h in cells)
            body.append(text.rstrip())
        return "\n".join([self.title, *body, *self.notes])

    def html(self) -> str:
        """A fragment that takes its colours and fonts from the page around it."""
        body = "".join(self._row("td", row) for row in self.rows)
        notes = "".join(f"<div style='opacity:.8'>{escape(note)}</div>" for note in self.notes)
        return (
            "<div style='font-family:system-ui,sans-serif;font-size:13px;line-height:1.5;overflow-x:auto'>"
            f"<strong>{escape(self.title)}</strong>"
            f"<table style='border-collapse:collapse;border:0;color:inherit;margin:6px 0'>"
            f"{self._row('th', self.headings)}{body}</table>{notes}</div>"
        )

    def _row(self, tag: str, cells: tuple[str, ...]) -> str:
        weight = ";font-weight:600" if tag == "th" else ""
        inner = ""
        for heading, cell in zip(self.headings, cells, strict=True):
            align = "left" if heading in self.left else "right"
            inner += f"<{tag} style='{_CELL};text-align:{align}{weight}'>{escape(cell)}</{tag}>"
        return f"<tr style='background:none'>{inner}</tr>"
