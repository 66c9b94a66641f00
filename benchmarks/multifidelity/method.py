"""What a multi-fidelity search method is to this benchmark, and what identifies one; knows none of them.

bonas's own schedulers and samplers are played by ``simulate``. Any other method is a :class:`Method`: it is
asked what to train next, told the value after every epoch, and asked again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from multifidelity.trace import Trace


@dataclass(frozen=True)
class Proposal:
    """What to train next: a new configuration, or one that was trained before, further."""

    params: Mapping[str, Any]
    """Active hyperparameters only; ignored where ``trial`` is given."""
    epochs: int
    """Up to which epoch, from 1 to ``task.epochs``, everything else in full."""
    trial: int | None = None
    """The number of the trial that goes on, as told by :meth:`Method.tell`; None for a new one."""
    restart: bool = False
    """Whether it trains again from its first epoch and pays for it: True for packages that cannot resume."""


class Method(Protocol):
    """Proposes what to train and learns what came of it."""

    def ask(self) -> Proposal | None:
        """The next proposal; None if there are no more."""

    def tell(self, trial: int, params: Mapping[str, Any], epochs: int, values: Sequence[float]) -> None:
        """What the last proposal reached.

        Args:
            trial: its number, 0, 1, … in order of the new configurations.
            params: what was trained: mostly not what was proposed, but the nearest configuration of the table
                that was not trained yet. A method learns the value of these, as an observation of its own
                where its interface takes one, else as that of what it proposed.
            epochs: what was asked for.
            values: after each epoch that was trained now, in the task's direction, the last being that of
                ``epochs``; shorter if the training diverged, then there is no value any more.
        """


@dataclass(frozen=True)
class Entry:
    """A method with what identifies it."""

    settings: Mapping[str, Any]
    """JSON-ready, stored with every run; runs of other settings are made again."""
    run: Callable[..., Trace]
    """Searches a task by a seed for a budget in full evaluations; see :func:`multifidelity.play.play`.

    Methods of bonas take ``workers`` too, as :class:`multifidelity.simulate.Simulation` does.
    """
    packages: tuple[str, ...] = ()
    """Installed packages it runs; runs of other versions are made again."""
    behaviour: Callable[[], str] | None = None
    """For code that changes under the same settings and version: a text that changes with its decisions."""
    seeds: int = 30
    """How many the report asks for: fewer of slow packages."""
    only: tuple[str, ...] = ()
    """The tasks it is run on; empty for all."""
