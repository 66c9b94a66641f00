"""Keeps a study's checkpoints within a number of bytes; knows folders and trial numbers, no trials.

Checkpoints are written by several processes that do not talk to each other, so they agree on disk. Whoever
writes one takes a lock on the artifacts folder, measures what lies there, and if need be makes room by the
*book*: in this file the study keeps whose checkpoints may go, the least promising first. What was dropped
is noted in it, and the study reads that before it decides what runs next.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bonas.artifacts import trial_folder

_BOOK = ".room.json"
# Of trials, of evaluations for a recommendation, and of retrained winners.
_FOLDERS = re.compile(r"(trial|again-\d+|retrained)-\d+")
_BLOCK = 4096  # bytes; files are counted as a disk stores them, in whole blocks
_TRIES = 100

_HELD: set[tuple[str, int]] = set()  # folders this process has locked, and the threads that have


class NoRoomError(OSError):
    """A checkpoint does not fit beside those that must be kept."""


@dataclass(frozen=True, slots=True)
class Book:
    """What the study says and what its workers have done about it."""

    order: tuple[int, ...] = ()
    """Numbers of the trials whose checkpoints may be dropped, in this order."""
    dropped: tuple[int, ...] = ()
    """Those whose checkpoints were dropped since the study looked last."""
    whole: bool = True
    """False if the file was torn: anything may have been dropped."""


class Room:
    """The room in one artifacts folder.

    Attributes:
        max_bytes: what all checkpoints may take together, temporary files included; None for no limit.
    """

    def __init__(self, folder: Path, max_bytes: int | None) -> None:
        self._folder = folder
        self.max_bytes = max_bytes

    # -- what a worker does --------------------------------------------------------------------------

    @contextmanager
    def reserved(self, nbytes: int, own: str = "") -> Iterator[None]:
        """Room for one more file; within the block the file must appear, at its full size.

        If possible there is made room for another one of that size, unless the trial has an earlier file: the
        next one is written before this one is removed, and what is dropped must not depend on how often a
        segment happens to write.

        Args:
            nbytes: of the file.
            own: name of the folder it will lie in.

        Raises:
            NoRoomError: if it does not fit, whatever is dropped; then nothing is.
        """
        if self.max_bytes is None:
            yield
            return
        with self.locked():
            self._make_room(_blocks(nbytes), own, self.max_bytes)
            yield

    def _make_room(self, needed: int, own: str, limit: int) -> None:
        sizes = self._sizes()
        used, spare = sum(sizes.values()), max(0, needed - sizes.get(own, 0))
        if used + needed + spare <= limit:
            return
        book = self.book()
        going = {n: sizes.get(trial_folder(self._folder, n).name, 0) for n in book.order}
        least = used - sum(going.values())
        if least + needed > limit:
            raise NoRoomError(
                f"its {needed:,} bytes do not fit into max_bytes={limit:,} beside {least:,} that must be kept"
            )
        goal = limit - needed - (spare if least + needed + spare <= limit else 0)
        order, dropped = list(book.order), []
        while used > goal:
            dropped.append(order.pop(0))
            used -= going[dropped[-1]]
        dropped = [n for n in dropped if going[n]]
        # Noted before it is done: killed in between, the study finds the files still there.
        self._write(Book(tuple(order), (*book.dropped, *dropped), book.whole))
        for number in dropped:
            _remove(trial_folder(self._folder, number))

    def _sizes(self) -> dict[str, int]:
        """Bytes in the folder of every trial, in whole blocks."""
        with suppress(OSError), os.scandir(self._folder) as found:
            names = [entry.name for entry in found if _FOLDERS.fullmatch(entry.name)]
            return {name: _size(os.path.join(self._folder, name)) for name in names}
        return {}

    # -- what the study does -------------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let nobody else make room, or a file, while the block runs.

        Where folders cannot be locked (Windows, some network drives) the limit holds for a single worker.
        """
        held = (str(self._folder), threading.get_ident())
        descriptor = _lock(self._folder) if self.max_bytes is not None and held not in _HELD else None
        if descriptor is None:
            yield
            return
        _HELD.add(held)
        try:
            yield
        finally:
            _HELD.discard(held)
            _unlock(descriptor)

    def scarce(self, known: int) -> bool:
        """Whether somebody may soon have to drop something, with so many bytes in known checkpoints.

        Before that no book is kept, so that most studies have none.
        """
        return self.max_bytes is not None and (known > self.max_bytes // 4 or self._book.exists())

    def book(self) -> Book:
        """The book as it is; an empty one if there is none."""
        try:
            data = json.loads(self._book.read_text(encoding="utf-8"))
            order, dropped = (tuple(map(_number, data[key])) for key in ("order", "dropped"))
        except FileNotFoundError:
            return Book()
        except (OSError, ValueError, TypeError, KeyError):
            return Book(whole=False)
        return Book(order, dropped, bool(data.get("whole", True)))

    def settle(self, order: Sequence[int]) -> None:
        """After the study has noted what was dropped: what may go from now on."""
        book = Book(tuple(order))
        if self._folder.is_dir() and self.book() != book:
            # A full disk must not stop the study; without a book nothing is dropped.
            with suppress(OSError):
                self._write(book)

    @property
    def _book(self) -> Path:
        return self._folder / _BOOK

    def _write(self, book: Book) -> None:
        data = {"order": book.order, "dropped": book.dropped, "whole": book.whole}
        temporary = self._folder / f"{_BOOK}.{os.getpid()}-{threading.get_ident()}"
        temporary.write_text(json.dumps(data), encoding="utf-8")
        os.replace(temporary, self._book)


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r}: is no trial's number")
    return value


def _blocks(nbytes: int) -> int:
    return -(-nbytes // _BLOCK) * _BLOCK


def _size(folder: str) -> int:
    """Bytes of all files in a folder and below, in whole blocks; other processes may be at work in it."""
    for _ in range(_TRIES):
        total = 0
        try:
            with os.scandir(folder) as found:
                for entry in found:
                    if entry.is_dir(follow_symlinks=False):
                        total += _size(entry.path)
                    else:
                        total += _blocks(entry.stat(follow_symlinks=False).st_size)
        except NotADirectoryError:
            return 0
        except FileNotFoundError:
            # A file was renamed after it was listed: only another look counts it for certain.
            if not os.path.isdir(folder):
                return 0
            continue
        return total
    return total


def _remove(folder: Path) -> None:
    """Delete a trial's checkpoints, and the folders if nothing else lies in them."""
    for path in sorted(folder.glob("**/*"), reverse=True):  # what is inside comes before its folder
        with suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
    with suppress(OSError):
        folder.rmdir()


def _lock(folder: Path) -> int | None:
    """An open descriptor that holds the lock, at the longest until this process ends."""
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _unlock(descriptor: int) -> None:
    import fcntl

    # Closing would not do where a fork of this process has the descriptor, too.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
