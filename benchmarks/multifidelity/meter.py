"""How much processor time a part of a program took; knows nothing of searches."""

from __future__ import annotations

import time


class Meter:
    """A clock for a part that runs again and again: ``with meter: ...``.

    Asking for processor time can take longer than a decision does. So the part is timed by the wall clock,
    and what it took is told in proportion: as much of its time was the processor's as of the whole program's
    since the meter was made.
    """

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()
        self._began = self._inside = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._inside += time.perf_counter() - self._began

    @property
    def ms(self) -> float:
        """Milliseconds of processor time within the part so far."""
        wall = time.perf_counter() - self._wall
        return 1e3 * self._inside * (time.process_time() - self._processor) / wall
