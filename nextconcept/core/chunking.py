"""Which rule cuts the chunks of a concept level, and how long they may be."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nextconcept.core.chunk_rules import RULES, ChunkRule, ends_behind
from nextconcept.core.errors import InputError
from nextconcept.core.suggestions import did_you_mean

__all__ = ["ChunkingConfig", "RuleEntry", "parse_chunking", "same_chunking", "same_rules"]

LENGTHS = {"words": (16, 4.0), "lines": (128, 24.0), "sentences": (256, 48.0), "paragraphs": (512, 128.0)}
"""Default ``max_length`` and ``mean_length`` of chunks of tokens, for texts of single bytes."""

RuleEntry = int | str | dict[str, str | int | float]
"""A rule as settings give it. Its group holds not just any values, because the command line would
then read characters such as ``#`` and ``{}`` as YAML."""

OTHERS = (32, 4.0)
"""Those of other rules, and of all chunks of concepts."""


@dataclass(frozen=True)
class ChunkingConfig:
    """How the elements of a level are cut into the chunks of the level above.

    Args:
        rule: a number of elements; ``words``, ``lines``, ``sentences`` or ``paragraphs``; or the
            full name of a function without arguments that returns a
            :class:`~nextconcept.core.chunk_rules.ChunkRule`.
        ends: characters after which a chunk ends, instead of a rule.
        max_length: elements at which a longer chunk is cut.
        mean_length: elements of a chunk on average, or less: a window of n elements holds at most
            ``n / mean_length`` chunks, and what follows them belongs to a chunk that does not end.
        num_states: states of the rule; filled in by the model. Loading never imports a function by
            the name of a rule.

    Raises:
        InputError: if the rule is unknown or a number is out of range.
    """

    rule: int | str = ""
    ends: str = ""
    max_length: int = OTHERS[0]
    mean_length: float = OTHERS[1]
    num_states: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.rule, (int, str)):
            raise InputError(f"a chunking rule is a number of elements or a name, not {self.rule!r}.")
        # Written out: a compiled step makes this object too, and can't read type hints.
        for name, kind in (("ends", str), ("max_length", int), ("mean_length", (int, float)), ("num_states", int)):
            value = getattr(self, name)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise InputError(f"chunking.{name} can't be {value!r}: see the docstring of ChunkingConfig.")
        if bool(self.rule) == bool(self.ends):
            raise InputError(f"a chunking rule needs either a rule or the characters that end a chunk, not {self}.")
        if isinstance(self.rule, int) and self.rule < 2:
            raise InputError(f"chunks of a fixed length need 2 elements or more, not {self.rule}.")
        if isinstance(self.rule, int) and self.rule and self.max_length != self.rule:
            raise InputError(
                f"chunks of {self.rule} elements have a max_length of {self.rule}, not {self.max_length}: leave it out."
            )
        if not 1 <= self.max_length < 2**63 or not 1 <= self.mean_length <= self.max_length:
            raise InputError(
                f"chunking: max_length {self.max_length} must be from 1 to {2**63 - 1}, and mean_length "
                f"{self.mean_length} between 1 and max_length."
            )
        if self.num_states < 0:
            raise InputError(f"chunking.num_states must be 0 or more, not {self.num_states}: leave it out.")
        if isinstance(self.rule, str) and self.rule and self.rule not in RULES and "." not in self.rule:
            hint = did_you_mean(self.rule, list(RULES))
            raise InputError(
                f"unknown chunking rule {self.rule!r}: {hint + ' ' if hint else ''}choose a number of elements, one of "
                f"{', '.join(RULES)}, {{ends: CHARACTERS}}, or the full name of your own function."
            )

    def __str__(self) -> str:
        """Return the rule with its bounds, as messages name it."""
        what = self.rule or f"ends {self.ends!r}"
        return f"{what} (max_length {self.max_length}, mean_length {self.mean_length})"

    @property
    def of_text(self) -> bool:
        """Whether the rule reads the text, rather than counting elements."""
        return not isinstance(self.rule, int)

    @property
    def known(self) -> bool:
        """Whether the rule is part of this package."""
        return bool(self.ends) or self.rule in RULES

    def automaton(self) -> ChunkRule:
        """Return the automaton of a rule that reads the text.

        Raises:
            InputError: if it is the name of a function that can't be imported or returns no rule.
        """
        if self.ends:
            return ends_behind(self.ends)
        assert isinstance(self.rule, str)
        if self.rule in RULES:
            return RULES[self.rule]()
        module, _, name = self.rule.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), name)()
        except (Exception, SystemExit) as error:  # a user's function may raise anything
            raise InputError(f"the chunking rule {self.rule!r} can't be used: {error!r}.") from error
        if not isinstance(found, ChunkRule):
            raise InputError(f"the chunking rule {self.rule!r} must return a ChunkRule, not {type(found).__name__}.")
        return found


def parse_chunking(entries: list[RuleEntry]) -> list[ChunkingConfig]:
    """Read the rules of all concept levels, the lowest first.

    Raises:
        InputError: if one is malformed.
    """
    return [_parse(entry, level) for level, entry in enumerate(entries, 1)]


def same_chunking(one: Any, other: Any) -> bool:
    """Whether two values of ``chunking`` mean the same rules, however much of them is spelt out."""
    if not isinstance(one, list) or not isinstance(other, list):
        return bool(one == other)
    try:
        return same_rules(parse_chunking(one), parse_chunking(other))
    except InputError:
        return False


def same_rules(one: Sequence[ChunkingConfig], other: Sequence[ChunkingConfig]) -> bool:
    """Whether rules are equal, built or not."""
    return [replace(rule, num_states=0) for rule in one] == [replace(rule, num_states=0) for rule in other]


def _parse(entry: RuleEntry, level: int) -> ChunkingConfig:
    values: dict[str, Any] = dict(entry) if isinstance(entry, dict) else {"rule": entry}
    rule = values.get("rule", "")
    if isinstance(rule, bool):
        raise InputError(f"chunking of level {level} can't be {rule}: give a number of elements or the name of a rule.")
    longest, mean = LENGTHS.get(rule, OTHERS) if level == 1 and isinstance(rule, str) else OTHERS
    if isinstance(rule, int):
        longest, mean = rule, float(rule)
    values.setdefault("max_length", longest)
    try:
        values.setdefault("mean_length", min(mean, values["max_length"]))
        return ChunkingConfig(**values)
    except TypeError:
        raise InputError(
            f"chunking of level {level} can't be {entry!r}: give a number of elements, the name of a rule, or a group "
            "with rule or ends, max_length and mean_length."
        ) from None
