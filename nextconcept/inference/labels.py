"""Labels of pictures: words in any script for which a font is installed."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from matplotlib.font_manager import FontProperties, findfont, findSystemFonts, fontManager, get_font

from nextconcept.inference.plan_steps import visible

__all__ = ["families", "label"]

UNSUITABLE = ("lastresort", "blank", "emoji", "math", "symbol")
"""Parts of the names of fonts that draw boxes, nothing, or no plain text."""

STYLES = ("bold", "black", "light", "thin", "italic", "oblique", "condensed", "serif")
"""Parts of the names of fonts that other fonts are preferred to."""


def label(text: str) -> str:
    r"""Turn a text into a label.

    Args:
        text: any text.

    Returns:
        The text with visible blanks, no mathematics, and an escape such as ``\u4e2d`` for each
        character that no installed font has.
    """
    shown = "".join(char if _font(char) else f"\\u{ord(char):04x}" for char in visible(text))
    return shown.replace("$", r"\$")


def families(labels: Iterable[str]) -> list[str]:
    """Return the font families that draw all labels: monospace, then others as they are needed.

    Matplotlib takes each character from the first family that has it.
    """
    needed = {str(_font(char)) for text in labels for char in text}
    return ["monospace", *sorted(needed - {_monospace()})]


def _monospace() -> str:
    return str(get_font(findfont(FontProperties(family=["monospace"]))).family_name)


@cache
def _font(char: str) -> str | None:
    """Return the family of the first font that has a character, None if there is none."""
    for path in _fonts():
        try:
            font = get_font(path)
        except RuntimeError:  # broken, or of a kind that matplotlib does not read
            continue
        if font.scalable and font.get_char_index(ord(char)):
            if path not in {entry.fname for entry in fontManager.ttflist}:
                fontManager.addfont(path)  # its list is older than the font
            return str(font.family_name)
    return None


@cache
def _fonts() -> list[str]:
    """Return the files of the installed fonts, the most suitable for labels first."""
    names = {path: Path(path).name.lower() for path in findSystemFonts()}
    suitable = [path for path, name in names.items() if not any(part in name for part in UNSUITABLE)]
    rank = {path: (sum(part in names[path] for part in STYLES), names[path]) for path in suitable}
    first = [findfont(FontProperties(family=[family])) for family in ("monospace", "sans-serif")]
    return [*first, *sorted(suitable, key=lambda path: rank[path])]
