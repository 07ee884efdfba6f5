"""``python -m nextconcept``, the same as the command ``nextconcept``."""

from nextconcept.cli import main

if __name__ == "__main__":
    main()
