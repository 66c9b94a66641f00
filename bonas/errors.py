"""The exceptions of the public API; knows nothing else."""

from __future__ import annotations


class TrialPruned(Exception):  # noqa: N818 - Optuna's name
    """Raised by an objective to stop: pauses after ``should_prune()`` was True, else prunes for good."""


class DuplicatedStudyError(ValueError):
    """A study of that name exists already in the storage."""


class StaleTrialError(RuntimeError):
    """Another worker holds the trial by now; what this one collected is not written."""


class MissingFunctionError(ValueError):
    """A function of the user's own was not stored with the study and has to be passed again."""
