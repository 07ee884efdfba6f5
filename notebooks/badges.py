"""Write badges that open the notebooks in Colab: ``python notebooks/badges.py OWNER/NAME``.

Each notebook, and the page of the documentation that lists them, gets a badge with the address of
the repository on GitHub. A second run replaces the badges, for a fork or another branch.
"""

import re
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
LIST = ROOT / "docs/notebooks.md"
IMAGE = "https://colab.research.google.com/assets/colab-badge.svg"
BADGE = re.compile(r" ?\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)")


def badge(name: str, repository: str, branch: str = "main") -> str:
    """Return the Markdown of a badge that opens a notebook."""
    address = f"https://colab.research.google.com/github/{repository}/blob/{branch}/notebooks/{name}.ipynb"
    return f"[![Open in Colab]({IMAGE})]({address})"


def first_cell(text: str, name: str, repository: str) -> str:
    """Return the first cell of a notebook, with badge and installation behind its title."""
    title, *rest = [part for part in text.split("\n\n") if not BADGE.match(part)]
    install = f"On Colab, first run `%pip install git+https://github.com/{repository}` in a cell of its own."
    return "\n\n".join([title, f"{badge(name, repository)}\n{install}", *rest])


def list_of_notebooks(text: str, repository: str) -> str:
    """Return the table of the notebooks with a badge behind each name."""
    text = BADGE.sub("", text)
    return re.sub(r"^\| `(\d_\w+)`", lambda row: f"{row[0]} {badge(row[1], repository)}", text, flags=re.MULTILINE)


def main(repository: str) -> None:
    """Write all badges.

    Args:
        repository: OWNER/NAME on GitHub.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        sys.exit(f"badges: {repository!r} is not OWNER/NAME of a repository on GitHub.")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        notebook.cells[0].source = first_cell(notebook.cells[0].source, path.stem, repository)
        nbformat.write(notebook, path)
    LIST.write_text(list_of_notebooks(LIST.read_text(encoding="utf-8"), repository), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("badges: give the repository, as in python notebooks/badges.py OWNER/NAME.")
    main(sys.argv[1])
