"""The tables of a store, and how an older file gets what it lacks; knows no records and no transactions."""

from __future__ import annotations

import sqlalchemy as sa

SCHEMA_VERSION = 1

_schema = sa.MetaData()

STUDIES = sa.Table(
    "studies",
    _schema,
    sa.Column("study", sa.Integer, primary_key=True),
    sa.Column("name", sa.String, unique=True, nullable=False),
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("definition", sa.Text, nullable=False),  # space, axes, directions, sampler, ... as JSON
    sa.Column("attrs", sa.Text, nullable=False),
    sa.Column("watermark", sa.Integer, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
)
TRIALS = sa.Table(
    "trials",
    _schema,
    sa.Column("study", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("params", sa.Text, nullable=False),
    sa.Column("key", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("fidelity", sa.Text, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("parent", sa.Integer),
    sa.Column("figures", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("user_attrs", sa.Text, nullable=False),
    sa.Column("unfinished", sa.Boolean, nullable=False),
    sa.Column("lost", sa.Float, nullable=False),
    sa.Column("retrained", sa.Float, nullable=False, server_default="0"),
    sa.Column("elsewhere", sa.Float),
    sa.Column("owner", sa.String),
    sa.Column("lease", sa.Float),  # Unix time until which the owner's word holds
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("watermark", sa.Integer, nullable=False),
    sa.Index("trials_changed", "study", "watermark"),
)
OBSERVATIONS = sa.Table(
    "observations",
    _schema,
    sa.Column("study", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("curve", sa.Integer, primary_key=True),
    sa.Column("epoch", sa.Integer, primary_key=True),
    sa.Column("metrics", sa.Text, nullable=False),
    sa.Column("cost", sa.Float, nullable=False),
    sa.Column("fidelity", sa.Text, nullable=False),
    sa.Column("seconds", sa.Float),
    sa.Column("watermark", sa.Integer, nullable=False),
)
CHECKPOINTS = sa.Table(
    "checkpoints",
    _schema,
    sa.Column("study", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("fidelity", sa.Text, nullable=False),
    sa.Column("file", sa.String, nullable=False),
    sa.Column("sha256", sa.String, nullable=False),
    sa.Column("nbytes", sa.BigInteger, nullable=False),
    sa.Column("watermark", sa.Integer, nullable=False),
)
DECISIONS = sa.Table(
    "decisions",
    _schema,
    sa.Column("study", sa.Integer, primary_key=True),
    sa.Column("ask", sa.Integer, primary_key=True),  # k of default_rng([seed, k])
    sa.Column("action", sa.String, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("fidelity", sa.Text, nullable=False),
    sa.Column("figures", sa.Text, nullable=False),
    sa.Column("seen", sa.Integer, nullable=False),  # the watermark the decision was made from
    sa.Column("owner", sa.String, nullable=False),
    sa.Column("decided", sa.Float, nullable=False),
)
QUEUE = sa.Table(
    "queue",
    _schema,
    sa.Column("study", sa.Integer, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("params", sa.Text, nullable=False),
    sa.Column("number", sa.Integer),  # the trial it became
)

# Columns that studies written by earlier versions lack; those versions can still read and write the file.
_ADDED = (
    ("observations", "seconds", "FLOAT"),
    ("trials", "retrained", "FLOAT NOT NULL DEFAULT 0"),
    ("trials", "elsewhere", "FLOAT"),
)

# Where it was not written yet which trials were added: those that were never handed out, and are not
# infeasible. Of those that were resumed since nobody knows what they had cost before.
_FILLED = {
    ("trials", "elsewhere"): """UPDATE trials SET elsewhere = lost + COALESCE(
        (SELECT SUM(cost) FROM observations AS o WHERE o.study = trials.study AND o.number = trials.number), 0
    ) WHERE attempt = 0 AND state <> 'INFEASIBLE'""",
}


def prepare(connection: sa.Connection) -> bool:
    """Make the tables, or the columns that a file written by an earlier version lacks.

    Returns:
        False, with nothing changed, if the database is one of something else.
    """
    tables = set(sa.inspect(connection).get_table_names())
    if tables and "studies" not in tables:
        return False
    if not tables:
        _schema.create_all(connection)
    for table, column, kind in _ADDED:
        known = sa.inspect(connection).get_columns(table) if table in tables else None
        if known is not None and column not in {c["name"] for c in known}:
            connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
            if (table, column) in _FILLED and "observations" in tables:
                connection.exec_driver_sql(_FILLED[table, column])
    return True
