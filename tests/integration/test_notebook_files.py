"""The committed notebooks: executed in order, without errors, small, and silent about where they were made.

That they run is tested by executing them (`make notebooks`).
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_what_is_committed_was_run_from_top_to_bottom(path: Path) -> None:
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    outputs = [o for c in cells for o in c.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_what_is_committed_is_small_and_names_no_machine(path: Path) -> None:
    text = path.read_text()
    assert len(text) < 500_000
    assert not re.search(r"/(home|root|Users|tmp|work)/", text)


def test_there_is_a_first_one() -> None:
    assert any(p.name == "01_first_search.ipynb" for p in NOTEBOOKS)
