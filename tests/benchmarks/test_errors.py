"""Benchmarks tell wrong input as commands do."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_wrong_input(tmp_path: Path):
    command = [sys.executable, str(ROOT / "benchmarks/loss_law.py"), "--results+", "none.json", "--families", "gpt"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("nextconcept: error: ")
    assert "none.json is not the results file of a comparison" in line
