"""Where studies live: trials, observations, decisions and checkpoint records, one transaction at a time."""

from __future__ import annotations

from bonas.store.owners import Owner
from bonas.store.sql import Store, StudyRow, open_store

__all__ = ["Owner", "Store", "StudyRow", "open_store"]
