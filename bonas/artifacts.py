"""Where a study keeps its checkpoints: folders and how they are stored; knows nothing of their contents."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bonas.store import StudyRow

MAX_BYTES = 5_000_000_000


@dataclass(frozen=True, slots=True)
class Artifacts:
    """Where checkpoints lie and how much room they may take: ``create_study(artifacts=Artifacts(...))``.

    Once there is no more room the checkpoints of the least promising trials are dropped: of finished trials
    that lost, then of paused ones on the lowest rung with the worst value; never those of the best. A
    paused trial whose checkpoint was dropped can still be resumed, and trains again from its first epoch.
    """

    folder: str | os.PathLike[str] | None = None
    """In which each study has a folder of its own; None means beside the storage."""
    max_bytes: int | None = MAX_BYTES
    """What all checkpoints may take on disk together, in bytes; None means without limit."""

    def __post_init__(self) -> None:
        if self.folder is not None and (
            not isinstance(self.folder, (str, os.PathLike)) or not str(self.folder)
        ):
            raise ValueError(f"artifacts={self.folder!r}: must be a folder.")
        n = self.max_bytes
        if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
            raise ValueError(
                f"max_bytes={n!r}: must be a whole number of bytes, such as 5_000_000_000, or None."
            )

    @staticmethod
    def of(given: Any) -> Artifacts:
        """What ``create_study`` was given for ``artifacts``: a folder, None, or all of it.

        Raises:
            ValueError: if it is none of these.
        """
        return given if isinstance(given, Artifacts) else Artifacts(given)

    def to_dict(self, database: Path | None) -> dict[str, Any]:
        """JSON-ready, the folder relative to that of the database if it lies in there.

        In it each study has a folder of its own, whose name nobody else's has: studies and databases may
        share a folder, and one that was deleted leaves its checkpoints behind.
        """
        entry = None if self.folder is None else str(Path(self.folder).absolute())
        if entry is not None and database is not None and Path(entry).is_relative_to(database.parent):
            # The study's folder may be moved as a whole.
            entry = Path(entry).relative_to(database.parent).as_posix()
        # Of a study in memory, without a folder of the user's, everything is temporary.
        own = {} if entry is None and database is None else {"artifacts_id": secrets.token_hex(4)}
        return {"artifacts": entry, "max_bytes": self.max_bytes, **own}


def artifacts_folder(row: StudyRow, database: Path | None, keeper: object) -> Path:
    """Where a stored study keeps its checkpoints; a temporary folder is removed together with ``keeper``."""
    entry = row.definition.get("artifacts")
    own = row.definition.get("artifacts_id", "")  # studies made before it have none
    if not isinstance(entry, str | None) or not (isinstance(own, str) and re.fullmatch(r"[0-9a-f]*", own)):
        raise ValueError(
            f"study.db: artifacts={entry!r}, artifacts_id={own!r} is damaged. Restore the file from a copy."
        )
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", row.name)[:40]
    name = "-".join(filter(None, [str(row.study), slug, own]))
    if entry is not None:
        given = Path(entry) if database is None else database.parent / entry
        return given / name if own else given
    if database is None:
        folder = tempfile.mkdtemp(prefix="bonas-")
        weakref.finalize(keeper, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)
    return database.parent / "artifacts" / name


def stored_max_bytes(definition: Mapping[str, Any]) -> int | None:
    """The limit a study was made with; studies made before there was one have the usual limit."""
    try:
        return Artifacts(max_bytes=definition.get("max_bytes", MAX_BYTES)).max_bytes
    except ValueError as error:
        raise ValueError(f"study.db: {error} It is damaged. Restore the file from a copy.") from None


def trial_folder(artifacts: Path, number: int) -> Path:
    """The folder of one trial."""
    return artifacts / f"trial-{number:05d}"
