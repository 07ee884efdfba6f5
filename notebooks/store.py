"""Run notebooks from top to bottom, and store them with their outputs.

``python notebooks/store.py`` runs all, ``python notebooks/store.py 3_plan 8_star_graph`` two. The
outputs hold no times and no names of this machine, so that a change of a notebook is a change of
its content.
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent


def store(path: Path) -> None:
    """Run a notebook in its folder, and write it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    folder = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=600, record_timing=False, coalesce_streams=True, resources=folder).execute()
    notebook.metadata["language_info"] = {"name": "python"}  # without the version of this machine
    nbformat.write(notebook, path)


if __name__ == "__main__":
    # Where the widgets of Jupyter are not installed, progress bars warn when they are imported.
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"
    for name in sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.ipynb")):
        print(f"notebooks/{name}.ipynb", flush=True)
        store(FOLDER / f"{name}.ipynb")
