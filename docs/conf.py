"""Configuration of Sphinx; ``make docs`` builds the documentation."""

import importlib.metadata

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
exclude_patterns = ["html", "generated/README.md"]
templates_path = ["templates"]
