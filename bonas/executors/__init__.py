"""Who runs segments when it is not this process: a local pool, or any ``concurrent.futures`` executor."""

from __future__ import annotations

from bonas.executors.pool import run_in_pool

__all__ = ["run_in_pool"]
