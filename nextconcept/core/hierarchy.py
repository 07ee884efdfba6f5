"""Arithmetic of levels: chunk sizes, lengths, anchors.

Symbols: level 0 is the tokens, ``c`` the chunk size, and an element of level ``l`` covers ``c^l``
tokens.
"""

from dataclasses import dataclass

from nextconcept.core.errors import InputError

__all__ = ["Hierarchy"]


@dataclass(frozen=True)
class Hierarchy:
    """The grid that aligns tokens with concepts of every level.

    Args:
        levels: number of levels, tokens included; 1 is a plain language model without concepts.
        chunk_size: elements of one level that are composed into one element of the next.

    Raises:
        InputError: if there is no level, or if a chunk has fewer than two elements.
    """

    levels: int
    chunk_size: int

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise InputError(f"levels must be 1 (tokens alone) or more, not {self.levels}.")
        if self.chunk_size < 2:
            raise InputError(f"chunk_size must be 2 or more, not {self.chunk_size}.")

    @property
    def concept_levels(self) -> range:
        """Levels above the tokens, lowest first."""
        return range(1, self.levels)

    @property
    def top_span(self) -> int:
        """Tokens under one element of the top level."""
        return self.span(self.levels - 1)

    def span(self, level: int) -> int:
        """Tokens under one element of ``level``."""
        return int(self.chunk_size**level)

    def length(self, time: int, level: int) -> int:
        """Complete elements of ``level`` in ``time`` tokens."""
        return time // self.span(level)

    def anchors(self, time: int, level: int) -> int:
        """Anchors of ``level`` in ``time`` tokens: one before each element, one after the last."""
        return self.length(time, level) + 1

    def check_context(self, context: int) -> None:
        """Check that a window holds whole elements at every level.

        Args:
            context: tokens in the window.

        Raises:
            InputError: if the window does not.
        """
        if context < 1 or context % self.top_span:
            raise InputError(
                f"context {context} is not divisible by {self.top_span} = chunk_size {self.chunk_size} to the power of "
                f"{self.levels - 1} concept levels: choose a multiple of {self.top_span}."
            )
