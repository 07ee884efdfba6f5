"""Arithmetic of levels: chunk sizes, lengths, anchors.

Symbols: level 0 is the tokens, ``c`` the chunk size, and an element of level ``l`` covers ``c^l``
tokens. Where rules cut the chunks, lengths and spans are upper bounds.
"""

import math
from dataclasses import dataclass

from nextconcept.core.chunking import ChunkingConfig, RuleEntry, parse_chunking
from nextconcept.core.errors import InputError

__all__ = ["DEFAULT_CONTEXT_LENGTH", "MOST_LEVELS", "Hierarchy"]

DEFAULT_CONTEXT_LENGTH = 256
"""Tokens of a window where none are given, before they are rounded up to whole chunks."""

MOST_LEVELS = 16
"""Levels of a model; the spans of more do not fit any text."""


@dataclass(frozen=True)
class Hierarchy:
    """The grid that aligns tokens with concepts of every level.

    Args:
        levels: number of levels, tokens included; 1 is a plain language model without concepts.
        chunk_size: elements of one level that are composed into one element of the next.
        rules: per concept level, the rule that cuts its chunks instead; empty for chunks of
            ``chunk_size``.

    Raises:
        InputError: if there is no level or more than ``MOST_LEVELS``, or if a chunk has fewer than
            two elements.
    """

    levels: int
    chunk_size: int
    rules: tuple[ChunkingConfig, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= MOST_LEVELS:
            raise InputError(f"levels must be 1 (tokens alone) to {MOST_LEVELS}, not {self.levels}.")
        if self.chunk_size < 2:
            raise InputError(f"chunk_size must be 2 or more, not {self.chunk_size}.")

    @classmethod
    def of(cls, levels: int, chunk_size: int, chunking: list[RuleEntry] | None) -> "Hierarchy":
        """Return the hierarchy of these settings; equal numbers for all levels are a chunk size.

        Raises:
            InputError: if ``chunking`` is malformed or has not one rule per concept level.
        """
        if chunking is None or levels == 1:
            return cls(levels, chunk_size)
        if isinstance(chunking, str):
            raise InputError(
                f"chunking is a list with a rule for each concept level, such as [{chunking}], not a text."
            )
        if len(chunking) != levels - 1:
            raise InputError(f"chunking has {len(chunking)} rules where {levels} levels need {levels - 1}: {chunking}.")
        rules = parse_chunking(chunking)
        if len({rule.rule for rule in rules}) == 1 and not rules[0].of_text:
            return cls(levels, int(rules[0].rule))
        return cls(levels, chunk_size, tuple(rules))

    @property
    def concept_levels(self) -> range:
        """Levels above the tokens, lowest first."""
        return range(1, self.levels)

    def check_level(self, level: int) -> None:
        """Check that a level has concepts.

        Raises:
            InputError: if it has none.
        """
        if level not in (levels := self.concept_levels):
            known = f"those are {', '.join(map(str, levels))}" if levels else "it has tokens alone"
            raise InputError(f"the model has no concept level {level!r}: {known}.")

    @property
    def top_span(self) -> int:
        """Tokens under one element of the top level."""
        return self.span(self.levels - 1)

    @property
    def alignment(self) -> int:
        """Tokens of which a window and its beginning are multiples; 1 where rules cut chunks."""
        return 1 if self.rules else self.top_span

    def span(self, level: int) -> int:
        """Tokens under one element of ``level``, or with rules at most."""
        if self.rules:
            return math.prod([rule.max_length for rule in self.rules[:level]])  # not a generator, for the compiler
        return int(self.chunk_size**level)

    def chunk_lengths(self, level: int) -> tuple[int, float]:
        """Elements in a chunk of ``level``, 1 or more: at most, and on average."""
        if not self.rules:
            return self.chunk_size, float(self.chunk_size)
        rule = self.rules[level - 1]
        return rule.max_length, rule.mean_length

    def length(self, time: int, level: int) -> int:
        """Complete elements of ``level`` in ``time`` tokens, or with rules at most."""
        if not self.rules:
            return time // self.span(level)
        for rule in self.rules[:level]:
            time = math.ceil(time / rule.mean_length)
        return time

    def anchors(self, time: int, level: int) -> int:
        """Anchors of ``level`` in ``time`` tokens: one before each element, one after the last."""
        return self.length(time, level) + 1

    def round_up(self, tokens: int) -> int:
        """Round a number of tokens up to whole elements at every level."""
        return -(-tokens // self.alignment) * self.alignment

    def check_context(self, context_length: int) -> None:
        """Check that a window holds whole elements at every level.

        Args:
            context_length: tokens in the window.

        Raises:
            InputError: if the window does not.
        """
        if context_length < 1:
            raise InputError(f"context_length must be 1 or more, not {context_length}.")
        if context_length % self.alignment:
            raise InputError(
                f"context_length {context_length} is not divisible by {self.alignment} = chunk_size "
                f"{self.chunk_size} to the power of {self.levels - 1} concept levels: choose a multiple of "
                f"{self.alignment}."
            )
