"""The README's Python example runs as written, only smaller."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_example_runs_and_goes_on_when_run_again(tmp_path: Path) -> None:
    [example] = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    small = example.replace("epochs=(1, 27)", "epochs=(1, 3)").replace("budget=20", "budget=4")
    assert small.count("(1, 3)") == 1
    assert small.count("budget=4") == 1
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", small],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert 0 < float(done.stdout.splitlines()[-1]) <= 1
    assert (tmp_path / "runs" / "first" / "study.db").exists()


def test_every_link_inside_the_documentation_leads_somewhere() -> None:
    root = README.parent
    for page in [README, root / "CONTRIBUTING.md", *(root / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
