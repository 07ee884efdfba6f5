"""``python -m nextconcept``, the same as the command ``nextconcept``."""

from nextconcept.cli.main import main

if __name__ == "__main__":
    main()
