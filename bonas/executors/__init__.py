"""Who runs segments: this process, a local pool of processes, or any ``concurrent.futures`` executor."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bonas.executors.calling import call
from bonas.executors.here import Callback, interruptible, leases_renewed, run_here

if TYPE_CHECKING:
    from bonas.study import Study
    from bonas.trial import Trial

__all__ = ["call", "interruptible", "run"]


def run(
    study: Study, objective: Callable[[Trial], Any], n_jobs: int, executor: Any, callbacks: Sequence[Callback]
) -> None:
    """Run segments until the study's limits are reached, nothing is left, or somebody stops it.

    Raises:
        ValueError: in a worker process that is importing the script it was started by.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # Otherwise every worker would run the script's search once more before its first segment.
        raise ValueError(
            "optimize: a worker process imports the script and must not search itself. "
            "Put what the script does under `if __name__ == '__main__':`."
        )
    with interruptible() as interruption, leases_renewed(study, interruption):
        interruption.on_request.append(study.stop)  # measuring latencies may keep it asking for long
        if n_jobs == 1 and executor is None:
            run_here(study, objective, callbacks, interruption)
        else:
            from bonas.executors.pool import run_in_pool

            run_in_pool(study, objective, n_jobs, executor, callbacks, interruption)
    interruption.pass_on()
