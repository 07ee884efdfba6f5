"""What lies beside the package imports names that the package has."""

import ast
import json
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [*sorted(ROOT.glob("benchmarks/*.py")), *sorted(ROOT.glob("notebooks/*.ipynb"))]


def code_of(path: Path) -> str:
    """Return the code of a file, or of the cells of a notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    # Lines that begin with ! or % are for the shell and the notebook.
    lines = "\n".join("".join(cell["source"]) for cell in cells).splitlines()
    return "\n".join("" if line.startswith(("!", "%")) else line for line in lines)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_imports__of_the_package_are_there(path: Path):
    imports = [node for node in ast.walk(ast.parse(code_of(path))) if isinstance(node, ast.ImportFrom)]
    for node in imports:
        if node.module is not None and node.module.split(".")[0] == "nextconcept":
            module = import_module(node.module)
            assert [one.name for one in node.names if not hasattr(module, one.name)] == []
