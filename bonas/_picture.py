"""A matplotlib figure that shows itself in a notebook; knows nothing of what is drawn on it."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.figure import Figure


class Picture(Figure):
    """A ``Figure`` made without pyplot, which would show only figures of its own."""

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        out = io.BytesIO()
        # Twice the pixels on the same room: sharp on screens of any density, also in print.
        self.savefig(out, format="png", dpi=2 * 72)
        width, height = (round(inches * 96) for inches in self.get_size_inches())
        return out.getvalue(), {"width": width, "height": height}
