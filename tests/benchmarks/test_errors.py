"""Benchmarks tell wrong input as commands do."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*options: str, folder: Path, script: str = "loss_law") -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / f"benchmarks/{script}.py"), *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_wrong_input(tmp_path: Path):
    done = run("--results+", "none.json", "--families", "gpt", folder=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("nextconcept: error: ")
    assert "none.json is not the results file of a comparison" in line


@pytest.mark.parametrize(
    ("script", "options", "message"),
    [
        ("curves", ("--folder", "nowhere", "--tags", "loss"), "there is no TensorBoard run in nowhere"),
        ("attention", ("--device", "cuda:99"), "there is no device 'cuda:99' here"),
        ("attention", ("--precision", "fp8"), "precision"),
    ],
)
def test_what_is_not_there(tmp_path: Path, script: str, options: tuple, message: str):
    done = run(*options, folder=tmp_path, script=script)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert message in line


@pytest.mark.slow
def test_misspelt_option(tmp_path: Path):
    done = run("--familes", "gpt", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "nextconcept: error: there is no option --familes: did you mean --families?\n"


@pytest.mark.slow
def test_help(tmp_path: Path):
    done = run("--help", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--families" in done.stdout
