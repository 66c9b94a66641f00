"""Where a study keeps its checkpoints: folders and how they are stored; knows nothing of their contents."""

from __future__ import annotations

import re
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bonas.store import StudyRow


def artifacts_entry(artifacts: str | Path | None, database: Path | None) -> str | None:
    """The folder a user asked for as it is stored, beside the database or anywhere else."""
    if artifacts is None:
        return None
    folder = Path(artifacts).absolute()
    if database is not None and folder.is_relative_to(database.parent):
        return folder.relative_to(database.parent).as_posix()  # the study's folder may be moved as a whole
    return str(folder)


def artifacts_folder(row: StudyRow, database: Path | None, keeper: object) -> Path:
    """Where a stored study keeps its checkpoints; a temporary folder is removed together with ``keeper``."""
    entry = row.definition.get("artifacts")
    if not isinstance(entry, str | None):
        raise ValueError(f"study.db: artifacts={entry!r} is damaged. Restore the file from a copy.")
    if entry is not None:
        return Path(entry) if database is None else database.parent / entry
    if database is None:
        folder = tempfile.mkdtemp(prefix="bonas-")
        weakref.finalize(keeper, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", row.name)[:40]
    return database.parent / "artifacts" / f"{row.study}-{slug}"


def trial_folder(artifacts: Path, number: int) -> Path:
    """The folder of one trial."""
    return artifacts / f"trial-{number:05d}"
