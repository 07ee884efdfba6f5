"""Configuration of Sphinx; ``make docs`` builds the documentation."""

import importlib.metadata
import shutil
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
# Sphinx reads pages of this folder only, but the tables of results/ belong to the documentation.
shutil.copytree(HERE.parent / "results", HERE / "generated/results", dirs_exist_ok=True)

project = "nextconcept"
author = "The nextconcept authors"
release = importlib.metadata.version("nextconcept")
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "myst_parser",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autosummary_generate = True
autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_use_ivar = True
napoleon_use_rtype = False
html_theme = "furo"
exclude_patterns = ["html"]
templates_path = ["templates"]


def link_results(app: Sphinx, page: str, source: list[str]) -> None:
    """Let links to results/ lead to the copies."""
    source[0] = source[0].replace("](../results/", "](generated/results/")


def setup(app: Sphinx) -> None:
    """Register :func:`link_results`."""
    app.connect("source-read", link_results)
