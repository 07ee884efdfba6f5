"""Benchmarks tell wrong input as commands do."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., tuple]:
    """Run a script in this process, and return its exit status, its output and its errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")

    def script(*options: str, name: str = "loss_law") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [f"benchmarks/{name}.py", *options])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(ROOT / f"benchmarks/{name}.py"), run_name="__main__")
        said = capsys.readouterr()
        return stopped.value.code or 0, said.out, said.err

    return script


def test_wrong_input(run: Callable[..., tuple]):
    code, _, errors = run("--results+", "none.json", "--families", "gpt")
    assert code == 2
    (line,) = errors.splitlines()
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
def test_what_is_not_there(run: Callable[..., tuple], script: str, options: tuple, message: str):
    code, _, errors = run(*options, name=script)
    assert code == 2
    (line,) = errors.splitlines()
    assert message in line


def test_misspelt_option(run: Callable[..., tuple]):
    code, _, errors = run("--familes", "gpt")
    assert code == 2
    assert errors == "nextconcept: error: there is no option --familes: did you mean --families?\n"


def test_help(run: Callable[..., tuple]):
    code, said, errors = run("--help")
    assert (code, errors) == (0, "")
    assert "--families" in said
