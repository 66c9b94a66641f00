"""The SQLite store: records in and out of its tables; decides nothing.

One transaction for each ask and each tell, written through to the disk (WAL, ``synchronous=FULL``).
Every change bears the study's change counter, the *watermark*, so that a reader fetches only what is new.
"""

from __future__ import annotations

import functools
import json
import os
import sqlite3
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bonas.store import schema
from bonas.store.schema import (
    CHECKPOINTS,
    DECISIONS,
    OBSERVATIONS,
    QUEUE,
    SCHEMA_VERSION,
    STUDIES,
    TRIALS,
)
from fidelity.records import CheckpointRecord, Curve, Fidelity, Observation, TrialRecord, TrialState


@dataclass(frozen=True, slots=True)
class StudyRow:
    """A study as it is stored."""

    study: int
    name: str
    definition: Mapping[str, Any]


@contextmanager
def _intact(what: str) -> Iterator[None]:
    """Turn what a damaged row leads to into one sentence and a remedy; rows may come from anywhere."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"study.db: {what} is damaged ({type(error).__name__}: {error}). Restore the file from a copy."
        ) from error


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError(f"{text[:50]}: is no JSON object")
    return value


class Store:
    """Studies in one database."""

    def __init__(self, engine: sa.Engine, path: Path | None) -> None:
        self._engine = engine
        self.path = path
        """The database file, or None in memory."""
        weakref.finalize(self, engine.dispose)
        self._process = os.getpid()
        self._lock = threading.RLock()

    def create(self, name: str, definition: Mapping[str, Any]) -> StudyRow | None:
        """Store a new study; None if the name is taken."""
        with self._begin() as connection:
            taken = connection.execute(sa.select(STUDIES.c.study).where(STUDIES.c.name == name)).first()
            if taken is not None:
                return None
            result = connection.execute(
                sa.insert(STUDIES).values(
                    name=name,
                    schema_version=SCHEMA_VERSION,
                    definition=_dump(definition),
                    attrs="{}",
                    watermark=0,
                    created=time.time(),
                )
            )
            assert result.inserted_primary_key is not None
            return StudyRow(result.inserted_primary_key[0], name, json.loads(_dump(definition)))

    def find(self, name: str) -> StudyRow | None:
        """The study of that name."""
        with self._begin() as connection:
            row = connection.execute(sa.select(STUDIES).where(STUDIES.c.name == name)).first()
        if row is None:
            return None
        if not isinstance(row.schema_version, int) or row.schema_version > SCHEMA_VERSION:
            raise ValueError(
                f"study {name!r}: stored by a newer bonas (schema {row.schema_version}, known is "
                f"{SCHEMA_VERSION}). Update bonas to open it."
            )
        with _intact(f"the definition of study {name!r}"):
            return StudyRow(row.study, row.name, _object(row.definition))

    def names(self) -> list[str]:
        """The names of all studies, oldest first."""
        with self._begin() as connection:
            return list(connection.execute(sa.select(STUDIES.c.name).order_by(STUDIES.c.study)).scalars())

    @contextmanager
    def transaction(self, study: int) -> Iterator[Transaction]:
        """Read and write one study, alone; all of it is kept or nothing."""
        with self._begin() as connection:
            watermark = connection.execute(
                sa.select(STUDIES.c.watermark).where(STUDIES.c.study == study).with_for_update()
            ).scalar_one()
            transaction = Transaction(connection, study, watermark)
            yield transaction
            transaction.advance()
            if transaction.watermark != watermark:
                connection.execute(
                    sa.update(STUDIES).where(STUDIES.c.study == study).values(watermark=transaction.watermark)
                )

    @contextmanager
    def _begin(self) -> Iterator[sa.Connection]:
        if self._process != os.getpid() and self.path is not None:
            # A connection must not be used on both sides of a fork.
            self._engine.dispose(close=False)
            self._process, self._lock = os.getpid(), threading.RLock()
        with self._lock, _readable_errors(self.path), self._engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()


class Transaction:
    """One atomic look at, and change of, a study."""

    def __init__(self, connection: sa.Connection, study: int, watermark: int) -> None:
        self._connection = connection
        self._study = study
        self.watermark = watermark
        """The study's change counter: what is written now bears the next number."""
        self.changed = False

    def advance(self) -> None:
        """Let what follows count as a later change than what was written so far."""
        if self.changed:
            self.watermark += 1
            self.changed = False

    # -- reading -------------------------------------------------------------------------------------

    @_intact("a trial")
    def changed_since(self, watermark: int) -> list[TrialRecord]:
        """The records of all trials that changed after a watermark, in order of their numbers."""
        rows = self._rows(TRIALS, TRIALS.c.watermark > watermark, TRIALS.c.number)
        if not rows:
            return []
        numbers = [row.number for row in rows]
        # With most of the study changed one scan is cheaper than a list of numbers.
        few = len(numbers) <= 100
        curves = self._observed(OBSERVATIONS.c.number.in_(numbers) if few else sa.true())
        among = CHECKPOINTS.c.number.in_(numbers) if few else sa.true()
        saved = {c.number: c for c in self._rows(CHECKPOINTS, among)}
        return [_record(row, curves.get(row.number, {}), saved.get(row.number)) for row in rows]

    def asks(self) -> int:
        """How many decisions were made: the number of the next ask."""
        count = sa.select(sa.func.count()).select_from(DECISIONS).where(DECISIONS.c.study == self._study)
        return int(self._connection.execute(count).scalar_one())

    def leases(self) -> list[tuple[int, str, float]]:
        """Number, owner and end of the lease of every running trial."""
        rows = self._rows(TRIALS, TRIALS.c.state == TrialState.RUNNING.value)
        return [(row.number, str(row.owner), row.lease or 0.0) for row in rows]

    def decisions(self, number: int) -> list[Mapping[str, Any]]:
        """Every decision about a trial, oldest first, with the figures it was made from."""
        rows = self._rows(DECISIONS, DECISIONS.c.number == number, DECISIONS.c.ask)
        return [
            {
                "ask": row.ask,
                "action": row.action,
                "fidelity": _fidelity(row.fidelity),
                "figures": json.loads(row.figures),
                "watermark": row.seen,
            }
            for row in rows
        ]

    def next_in_queue(self) -> tuple[int, dict[str, Any]] | None:
        """The next enqueued configuration and its position."""
        rows = self._rows(QUEUE, QUEUE.c.number.is_(None), QUEUE.c.position)
        with _intact("an enqueued configuration"):
            return (rows[0].position, _object(rows[0].params)) if rows else None

    def attrs(self) -> dict[str, Any]:
        """What was kept with the study as a whole."""
        row = self._connection.execute(sa.select(STUDIES.c.attrs).where(STUDIES.c.study == self._study))
        with _intact("what is kept with the study"):
            return _object(row.scalar_one())

    # -- writing -------------------------------------------------------------------------------------

    def put_trial(self, record: TrialRecord, lease: float | None = None, *, new: bool = False) -> None:
        """Insert or replace a trial's row; its observations are written by :meth:`put_curve`."""
        values = {
            "params": _dump(record.params),
            "key": record.key,
            "state": record.state.value,
            "fidelity": _dump(record.fidelity.to_dict()),
            "seed": record.seed,
            "parent": record.parent,
            "figures": _dump(record.figures),
            "reason": record.reason,
            "user_attrs": _dump(record.user_attrs),
            "unfinished": record.unfinished,
            "lost": record.lost,
            "retrained": record.retrained,
            "elsewhere": record.elsewhere,
            "owner": record.owner,
            "lease": lease,
            "attempt": record.attempt,
        }
        self._put(TRIALS, {"number": record.number}, values, new=new)
        if record.checkpoint is not None:
            saved = record.checkpoint
            values = {
                "epoch": saved.epoch,
                "fidelity": _dump(saved.fidelity.to_dict()),
                "file": saved.file,
                "sha256": saved.sha256,
                "nbytes": saved.nbytes,
            }
            self._put(CHECKPOINTS, {"number": record.number}, values)
        elif not new:
            mine = (CHECKPOINTS.c.study == self._study, CHECKPOINTS.c.number == record.number)
            self._connection.execute(sa.delete(CHECKPOINTS).where(*mine))

    def put_curve(
        self, number: int, curve: int, observations: tuple[Observation, ...], known: int = 0
    ) -> None:
        """Write one learning curve; an observation that is there keeps its values, and gets the new cost."""
        self.changed = True
        present = self._rows(
            OBSERVATIONS, (OBSERVATIONS.c.number == number) & (OBSERVATIONS.c.curve == curve)
        )
        costs = {row.epoch: row.cost for row in present}
        new = []
        for o in observations:
            if o.epoch in costs:
                if costs[o.epoch] != o.cost:
                    self._put(
                        OBSERVATIONS, {"number": number, "curve": curve, "epoch": o.epoch}, {"cost": o.cost}
                    )
                continue
            new.append(
                {
                    "study": self._study,
                    "number": number,
                    "curve": curve,
                    "epoch": o.epoch,
                    "metrics": _dump(o.values),
                    "cost": o.cost,
                    "fidelity": _dump(o.fidelity.to_dict()),
                    "seconds": o.seconds,
                    "watermark": self.watermark + 1,
                }
            )
        if new:
            self._connection.execute(sa.insert(OBSERVATIONS), new)

    def put_decision(
        self, ask: int, action: str, record: TrialRecord, figures: Mapping[str, Any], owner: str
    ) -> None:
        """Write down what was decided, and from which state of the study."""
        self.changed = True
        self._connection.execute(
            sa.insert(DECISIONS).values(
                study=self._study,
                ask=ask,
                action=action,
                number=record.number,
                fidelity=_dump(record.fidelity.to_dict()),
                figures=_dump(figures),
                seen=self.watermark,
                owner=owner,
                decided=time.time(),
            )
        )

    def renew(self, numbers: list[int], owner: str, lease: float) -> None:
        """Move the end of leases that are still this owner's; no change that anybody has to read."""
        self._connection.execute(
            sa.update(TRIALS)
            .where(
                TRIALS.c.study == self._study,
                TRIALS.c.number.in_(numbers),
                TRIALS.c.owner == owner,
                TRIALS.c.state == TrialState.RUNNING.value,
            )
            .values(lease=lease)
        )

    def enqueue(self, params: Mapping[str, Any]) -> None:
        """Put a configuration in line for the next start."""
        self.changed = True
        count = sa.select(sa.func.count()).select_from(QUEUE).where(QUEUE.c.study == self._study)
        position = self._connection.execute(count).scalar_one()
        row = {"study": self._study, "position": position, "params": _dump(params), "number": None}
        self._connection.execute(sa.insert(QUEUE), [row])

    def take_from_queue(self, position: int, number: int) -> None:
        """Mark an enqueued configuration as started."""
        where = (QUEUE.c.study == self._study) & (QUEUE.c.position == position)
        self._connection.execute(sa.update(QUEUE).where(where).values(number=number))

    def put_attrs(self, attrs: Mapping[str, Any]) -> None:
        """Replace what is kept with the study as a whole."""
        self._connection.execute(
            sa.update(STUDIES).where(STUDIES.c.study == self._study).values(attrs=_dump(attrs))
        )

    # -- inside --------------------------------------------------------------------------------------

    def _observed(self, where: sa.ColumnElement[bool]) -> dict[int, dict[int, list[Observation]]]:
        """Observations by trial and curve, in order of their epochs."""
        curves: dict[int, dict[int, list[Observation]]] = defaultdict(lambda: defaultdict(list))
        order = (OBSERVATIONS.c.number, OBSERVATIONS.c.curve, OBSERVATIONS.c.epoch)
        for o in self._rows(OBSERVATIONS, where, *order):
            observation = Observation(
                o.epoch, _object(o.metrics), o.cost, _fidelity(o.fidelity), o.seconds, o.watermark
            )
            curves[o.number][o.curve].append(observation)
        return curves

    def _rows(
        self, table: sa.Table, where: sa.ColumnElement[bool], *order: sa.ColumnElement[Any]
    ) -> list[Any]:
        query = sa.select(table).where(table.c.study == self._study, where).order_by(*order)
        return list(self._connection.execute(query))

    def _put(
        self, table: sa.Table, key: Mapping[str, Any], values: Mapping[str, Any], *, new: bool = False
    ) -> None:
        self.changed = True
        values = {**values, "watermark": self.watermark + 1}
        if not new:
            where = [table.c.study == self._study, *(table.c[name] == value for name, value in key.items())]
            new = self._connection.execute(sa.update(table).where(*where), values).rowcount == 0
        if new:
            self._connection.execute(sa.insert(table), [{"study": self._study, **key, **values}])


def open_store(storage: str | Path | None, create: bool) -> Store:
    """The store that ``storage`` names: None for memory, a file, a folder with its ``study.db``, or a URL.

    Raises:
        ValueError: if it is neither, or with ``create=False`` if nothing is stored there.
    """
    if storage is None or storage == "sqlite://":
        return _connect("sqlite://", None, poolclass=sa.StaticPool)
    text = str(storage)
    if not isinstance(storage, (str, os.PathLike)) or not text or "\0" in text:
        raise ValueError(f"storage={storage!r}: must be a file, a folder or an SQLite URL.")
    if "://" in text:
        try:
            url = sa.make_url(text)
        except (sa.exc.ArgumentError, ValueError):
            raise ValueError(f"storage={text!r}: is no URL. Give a file, or 'sqlite:///study.db'.") from None
        if url.get_backend_name() != "sqlite":
            raise ValueError(
                f"storage={text!r}: only SQLite is served. Give a file, or 'sqlite:///study.db'."
            )
        if not url.database or url.database == ":memory:":
            return _connect("sqlite://", None, poolclass=sa.StaticPool)
        path = Path(url.database)
    else:
        path = Path(text)
        if path.is_dir() or text.endswith("/") or (create and not path.suffix and not path.exists()):
            path = path / "study.db"
    path = path.absolute()
    if path.is_file() and path.stat().st_size and _beginning(path) != b"SQLite format 3\x00":
        raise ValueError(f"{text}: is not a study. A study is a folder with a study.db, or such a file.")
    if path.is_dir():
        raise ValueError(f"{text}: is a folder, not a study. Give the folder it lies in, or another file.")
    if not create and (not path.exists() or not path.stat().st_size):
        raise ValueError(
            f"{text}: there is no study here. A study is a folder with a study.db, or such a file."
        )
    if create:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"{text}: the folder {path.parent} cannot be made ({error.strerror}). Give another place."
            ) from None
    with _readable_errors(path):
        return _connect(f"sqlite:///{path}", path)


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


@contextmanager
def _readable_errors(path: Path | None) -> Iterator[None]:
    """Turn the database's errors into one sentence and a remedy; nothing of the transaction is kept."""
    try:
        yield
    except sa.exc.DatabaseError as error:
        said = str(error.orig)
        remedies = {
            "locked": "Another process holds it. Wait, or end that process",
            "full": "Make room, and call again: the search goes on from here",
            "readonly": "Give a place you may write to, or copy the study's folder there",
            "unable to open": "Give a place you may write to",
        }
        remedy = next((r for word, r in remedies.items() if word in said), None)
        if remedy is None and isinstance(error, (sa.exc.IntegrityError, sa.exc.ProgrammingError)):
            raise  # a mistake of ours, not of the file's
        remedy = remedy or "It is not a study, or a damaged one: restore it from a copy"
        raise ValueError(f"{path or 'storage'}: {said}. {remedy}.") from error


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to WAL; of two that do so at once SQLite turns one away without waiting."""
    deadline = time.monotonic() + 60.0
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _connect(url: str, path: Path | None, **options: Any) -> Store:
    engine = sa.create_engine(url, connect_args={"timeout": 60.0, "check_same_thread": False}, **options)

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        # The driver would begin transactions by itself, and too late; see `begin` below.
        connection.isolation_level = None
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous=FULL")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # Take the write lock at once: what is read stays true until what follows from it is written.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    with engine.begin() as connection:
        if not schema.prepare(connection):
            raise ValueError(f"{path}: is a database of something else. Give a file of its own.")
    return Store(engine, path)


def _record(row: Any, curves: Mapping[int, list[Observation]], saved: Any) -> TrialRecord:
    checkpoint = None
    if saved is not None:
        checkpoint = CheckpointRecord(
            saved.epoch, _fidelity(saved.fidelity), saved.file, saved.sha256, saved.nbytes
        )
    return TrialRecord(
        number=row.number,
        params=_object(row.params),
        key=row.key,
        state=TrialState(row.state),
        fidelity=_fidelity(row.fidelity),
        seed=row.seed,
        curves=tuple(Curve(tuple(curves[index])) for index in sorted(curves)),
        checkpoint=checkpoint,
        unfinished=row.unfinished,
        attempt=row.attempt,
        reason=row.reason,
        parent=row.parent,
        lost=row.lost,
        retrained=float(row.retrained),
        figures=_object(row.figures),
        user_attrs=_object(row.user_attrs),
        owner=row.owner,
        watermark=row.watermark,
        elsewhere=None if row.elsewhere is None else float(row.elsewhere),
    )


@functools.lru_cache(maxsize=4096)
def _fidelity(text: str) -> Fidelity:
    return Fidelity.from_dict(json.loads(text))


def _dump(value: Any) -> str:
    return json.dumps(value, default=_plain, allow_nan=False)


def plain(value: Any) -> Any:
    """A JSON-ready value as it will be read again: tuples as lists, NumPy's numbers as Python's."""
    return json.loads(_dump(value))


def _plain(value: Any) -> Any:
    """What JSON does not know: NumPy's numbers, and mappings that are no dictionaries."""
    return value.item() if hasattr(value, "item") else dict(value)
