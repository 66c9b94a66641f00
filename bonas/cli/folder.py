"""The folder a search is kept in: database, checkpoints and what was asked for; searches nothing.

``study.db`` holds the study, ``artifacts/`` its checkpoints, and ``search.json`` which data the search is
about, so that it can go on, retrain and export without being told again.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bonas.study import Study
    from fidelity.data import Data

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """What a search is about; the study itself stores space, axes, sampler and scheduler."""

    data: str
    space: str
    data_dir: str | None = None
    seed: int = 0
    class_weights: str | None = None


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """One search on disk."""

    path: Path

    @property
    def database(self) -> Path:
        """Trials, observations and decisions."""
        return self.path / "study.db"

    @property
    def exists(self) -> bool:
        """Whether a search was started here; a kill at its start can leave a database without one."""
        try:
            if not self.database.stat().st_size:
                return False
            with contextlib.closing(sqlite3.connect(self.database, timeout=60.0)) as database:
                tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master")]
                if "studies" not in tables:
                    return bool(tables)
                return database.execute("SELECT 1 FROM studies LIMIT 1").fetchone() is not None
        except FileNotFoundError:
            return False
        except sqlite3.Error:
            return True  # what is wrong with it is said when it is opened

    def settings(self) -> Settings | None:
        """What the search is about; None if it was not started by the command line.

        Raises:
            ValueError: if the file cannot be read.
        """
        path = self.path / "search.json"
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            version = stored.pop("version")
            if version > _VERSION:
                raise ValueError(f"{path}: written by a newer bonas. Update bonas to go on.")
            return Settings(**stored)
        except FileNotFoundError:
            return None
        except (TypeError, KeyError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: is damaged ({error}). Start the search in another folder.") from None

    def write(self, settings: Settings) -> None:
        """Keep what the search is about."""
        self.path.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"version": _VERSION, **asdict(settings)}, indent=2) + "\n"
        temporary = self.path / f".search.json.{os.getpid()}"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.path / "search.json")

    def load(self, **functions: Any) -> Study:
        """The study, as it was stored.

        Raises:
            ValueError: if there is none.
        """
        import bonas

        if not self.exists:
            raise ValueError(
                f"{self.path}: is not a study, it has no study.db. Give the folder of a search; "
                "`bonas search` prints it."
            )
        study: Study = bonas.load_study(storage=self.database, **functions)
        return study

    def discard(self) -> None:
        """Remove a study that has not begun."""
        for path in (*self.path.glob("study.db*"), self.path / "search.json"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()


def open_folder(text: str) -> StudyFolder:
    """The folder a user names: the folder itself, or the ``study.db`` in it."""
    if not text or "\0" in text:
        raise ValueError(f"{text!r}: is no folder. Name the folder of a study.")
    path = Path(text).expanduser()
    if path.is_file():
        if path.name != "study.db":
            raise ValueError(f"{path}: is a file. A study is a folder with a study.db in it.")
        path = path.parent
    return StudyFolder(path)


def check_export(folder: str | None) -> None:
    """Make sure that an export can be written, before anything is trained for it.

    Raises:
        ValueError: if the place is a file, below one, or may not be written to.
    """
    if folder is None:
        return
    if not folder:
        raise ValueError("--export '': is no folder. Name the folder to write to.")
    path = Path(folder).absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    if not path.is_dir():
        raise ValueError(f"--export {folder}: {path} is a file, and an export needs a folder. Name another.")
    if not os.access(path, os.W_OK | os.X_OK):
        raise ValueError(f"--export {folder}: {path} may not be written to. Name another folder.")


def load_data(settings: Settings, download: bool = False) -> Data:
    """The data set of a search, split as the search splits it."""
    import fidelity

    return fidelity.load_data(settings.data, settings.data_dir, seed=settings.seed, download=download)


def choose_device(name: str) -> None:
    """Let torch see the named device only; must run before torch is imported.

    Raises:
        ValueError: if the name is none of a device.
    """
    kind, _, index = name.partition(":")
    if name == "auto" or name == "cuda":
        return
    if name == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif kind == "cuda" and index.isdecimal():
        # Devices hidden by the user's own setting stay hidden: cuda:1 is the second of those left.
        visible = [d for d in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if d]
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[int(index)] if int(index) < len(visible) else index
    else:
        raise ValueError(f"--device {name}: must be auto, cpu, cuda or cuda with a number, such as cuda:1.")


def check_device(name: str) -> None:
    """Make sure that a GPU that was asked for by name is there.

    Raises:
        ValueError: if there is none.
    """
    import torch

    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"--device {name}: torch sees no such device. Use --device cpu or auto.")
