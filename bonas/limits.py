"""The limits that a call of ``optimize`` may be given; knows nothing of what they limit."""

from __future__ import annotations

_MOST = 1e300  # beyond it sums and whole numbers leave the range of floats
MOST_JOBS = 256  # processes on one machine; more is a typing error that would bring it down


def check_limits(
    n_trials: int | None,
    budget: float | None,
    timeout: float | None,
    n_jobs: int,
    trial_timeout: float | None = None,
) -> None:
    """Refuse limits of a wrong type or out of range.

    Raises:
        ValueError: for the first one that is.
    """
    if n_trials is not None and (isinstance(n_trials, bool) or not isinstance(n_trials, int) or n_trials < 1):
        raise ValueError(f"n_trials={n_trials!r}: must be a whole number of at least 1, or None.")
    for name, limit in (("budget", budget), ("timeout", timeout), ("trial_timeout", trial_timeout)):
        if limit is None:
            continue
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0 < limit < _MOST:
            raise ValueError(f"{name}={limit!r}: must be a finite number above 0, or None.")
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or not 1 <= n_jobs <= MOST_JOBS:
        raise ValueError(f"n_jobs={n_jobs!r}: must be a whole number from 1 to {MOST_JOBS}.")
