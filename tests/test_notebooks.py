"""The notebooks hold the outputs of a complete run: ``make notebooks-store`` stores them."""

import json
import re
import runpy
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
    "7_bare_trainer": 1,
    "8_star_graph": 3,
}
PATH = re.compile(r"(?<![\w.)/])(/(?:home|root|Users|tmp|usr|opt|var|work|private|content)/|[A-Z]:\\)")


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
def test_outputs__are_there_and_say_nothing_of_the_machine(name: str):
    assert outputs(name), f"{name} is stored without outputs"
    data = [output.get("data", {}) | {"text": output.get("text", "")} for output in outputs(name)]
    texts = [str(value) for one in data for kind, value in one.items() if kind != "image/png"]
    assert [text[:200] for text in texts if PATH.search(text)] == []
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 300_000


def test_path__is_found():
    for text in ("in /home/you/run", '"/home/me/a.py"', "C:\\Users"):
        assert PATH.search(text)
    for text in ("5,3|1,0/5,11=", "and/or", "image/png", "https://a.b/tmp/"):
        assert not PATH.search(text)


@pytest.mark.parametrize("name", PICTURES)
def test_cells__are_explained(name: str):
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    kinds = [cell["cell_type"] for cell in notebook["cells"]]
    assert kinds[0] == "markdown"
    assert all(before == "markdown" for before, kind in pairwise(kinds) if kind == "code")


def test_badges__open_each_notebook_and_are_replaced_by_a_second_run():
    badges = runpy.run_path(str(FOLDER / "badges.py"))
    cell = "# A title\n\nWhat it shows.\n\nMore."
    for repository in ("me/fork", "owner/name"):
        cell = badges["first_cell"](cell, "3_plan", repository)
    title, badge, *rest = cell.split("\n\n")
    assert (title, rest) == ("# A title", ["What it shows.", "More."])
    assert "/github/owner/name/blob/main/notebooks/3_plan.ipynb" in badge
    assert "me/fork" not in cell
    page = (FOLDER.parent / "docs/notebooks.md").read_text(encoding="utf-8")
    for repository in ("me/fork", "owner/name"):
        page = badges["list_of_notebooks"](page, repository)
    for name in PICTURES:
        assert page.count(f"/github/owner/name/blob/main/notebooks/{name}.ipynb)") == 1
    assert "me/fork" not in page
