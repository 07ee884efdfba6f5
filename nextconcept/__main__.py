"""Entry point of ``python -m nextconcept``."""

from nextconcept.cli.main import main

if __name__ == "__main__":
    main()
