"""The notebooks hold the outputs of a complete run (``pytest --nbmake notebooks`` runs them)."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
PICTURES = {
    "1_windows": 1,
    "2_concepts": 1,
    "3_plan": 2,
    "4_write_and_steer": 0,
    "5_grow": 2,
    "6_your_own_encoder": 0,
}


def cells(name: str, kind: str) -> list[dict[str, Any]]:
    """Return the code or markdown cells of a notebook."""
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def outputs(name: str) -> list[dict[str, Any]]:
    """Return the stored outputs of a notebook."""
    return [output for cell in cells(name, "code") for output in cell["outputs"]]


def test_notebooks__are_the_ones_listed_here():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(PICTURES)


@pytest.mark.parametrize("name", PICTURES)
def test_notebooks__were_run_from_top_to_bottom(name: str):
    counts = [cell["execution_count"] for cell in cells(name, "code")]
    assert counts == list(range(1, len(counts) + 1)), f"run all cells of {name} and store the notebook"


@pytest.mark.parametrize("name", PICTURES)
def test_outputs__hold_the_pictures(name: str):
    assert sum("image/png" in output.get("data", {}) for output in outputs(name)) == PICTURES[name]


@pytest.mark.parametrize("name", PICTURES)
def test_outputs__hold_no_errors_or_warnings(name: str):
    assert [output for output in outputs(name) if output["output_type"] == "error"] == []
    assert [output["text"] for output in outputs(name) if output.get("name") == "stderr"] == []


@pytest.mark.parametrize("name", PICTURES)
def test_cells__are_explained(name: str):
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    kinds = [cell["cell_type"] for cell in notebook["cells"]]
    assert kinds[0] == "markdown"
    assert all(before == "markdown" for before, kind in pairwise(kinds) if kind == "code")
