"""``python -m nextconcept`` is ``nextconcept``."""

from nextconcept.cli import main

main()
