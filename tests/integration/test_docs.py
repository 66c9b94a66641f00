"""The examples of the documentation run as written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"


def test_the_examples_about_spaces_run() -> None:
    examples = re.findall(r"```python\n(.*?)```", (DOCS / "spaces.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) >= 8
    names: dict[str, Any] = {}
    for example in examples:
        exec(compile(example, "spaces.md", "exec"), names)
    assert names["space"].build({"units": 8, "lr": 0.1})
    genotype = names["genotype"]
    assert genotype.space().count(genotype.params).parameters == 3_349_342
