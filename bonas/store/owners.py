"""Who holds a trial's lease, and whether that worker still lives; knows nothing of trials or databases.

An owner is a study object in a process on a host. On the same host its life is checked directly, so the
lease of a killed process has expired at once; elsewhere only the clock tells.
"""

from __future__ import annotations

import os
import secrets
import socket
import weakref
from dataclasses import dataclass, field

LEASE = 600.0  # seconds after which a worker out of sight is taken for dead

_RELEASED: set[tuple[str, int, int]] = set()
_ALIVE: weakref.WeakValueDictionary[str, Owner] = weakref.WeakValueDictionary()


@dataclass(frozen=True, eq=False)
class Owner:
    """One study object of this process."""

    host: str = field(default_factory=socket.gethostname)
    process: int = field(default_factory=os.getpid)
    started: int = field(default_factory=lambda: _start_time(os.getpid()) or 0)
    """Start time of the process in clock ticks, because process numbers are used again."""
    nonce: str = field(default_factory=lambda: secrets.token_hex(4))

    def __post_init__(self) -> None:
        _ALIVE[str(self)] = self

    def __str__(self) -> str:
        return f"{self.host}:{self.process}:{self.started}:{self.nonce}"


def release(owner: str, number: int, watermark: int) -> None:
    """Note that nobody in this process will tell this trial any more, though its owner lives."""
    _RELEASED.add((owner, number, watermark))


def released(owner: str, number: int, watermark: int) -> bool:
    """Whether :func:`release` was called for this very segment."""
    return (owner, number, watermark) in _RELEASED


def gone(owner: str) -> bool | None:
    """Whether an owner is certainly gone (True), certainly alive (False), or out of sight (None)."""
    try:
        host, process, started, _ = owner.rsplit(":", 3)
        number, ticks = int(process), int(started)
    except ValueError:
        return None
    if host != socket.gethostname():
        return None
    if number == os.getpid() and ticks == (_start_time(number) or 0):
        return owner not in _ALIVE
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    now = _start_time(number)
    return now is not None and ticks != 0 and now != ticks


def in_this_process(owner: str) -> bool:
    """Whether an owner is, or was, a study object of this very process."""
    return owner.rsplit(":", 1)[0] == f"{socket.gethostname()}:{os.getpid()}:{_start_time(os.getpid()) or 0}"


def _start_time(process: int) -> int | None:
    """Field 22 of /proc/PID/stat; None where there is no such file, or for a process that is a zombie."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    # A zombie keeps its number until its parent asks for it, but runs nothing any more.
    return -1 if fields[0] in "ZX" else int(fields[19])
