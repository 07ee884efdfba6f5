"""Benchmarks tell wrong input as commands do."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("script", "options", "sentence"),
    [
        ("loss_law", ["--results+", "none.json", "--families", "gpt"], "none.json is not the results file of a comp"),
        ("plan_edits", ["--ckpt_path", "none"], "none"),
    ],
)
def test_wrong_input(script: str, options: list[str], sentence: str, tmp_path: Path):
    command = [sys.executable, str(ROOT / "benchmarks" / f"{script}.py"), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("nextconcept: error: ")
    assert sentence in line
