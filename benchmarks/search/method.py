"""What a search method is, and what identifies one; knows none of them.

A method is asked for a configuration, told its value, and asked again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from search.task import Task


class Method(Protocol):
    """Proposes configurations of a task's space and learns what they reached."""

    def ask(self) -> dict[str, Any] | None:
        """The next configuration, active hyperparameters only; None if there are no more."""

    def tell(self, params: Mapping[str, Any], value: float) -> None:
        """What the last evaluation reached, in the task's direction.

        Args:
            params: what was evaluated, active hyperparameters only. On a task that is a sample these are
                mostly not what was asked for, but the nearest ones of the table: a method learns the value
                of these, as an observation of its own where its interface takes one, else as that of what it
                asked for.
            value: of one training run.
        """


@dataclass(frozen=True)
class Entry:
    """A method with what identifies it."""

    settings: Mapping[str, Any]
    """JSON-ready, stored with every run; runs of other settings are made again."""
    make: Callable[[Task, int], Method]
    """A fresh search of a task, all its randomness from the seed."""
    packages: tuple[str, ...] = ()
    """Installed packages it runs; runs of other versions are made again."""
    behaviour: Callable[[], str] | None = None
    """For code that changes under the same settings and version: a text that changes with its decisions."""
