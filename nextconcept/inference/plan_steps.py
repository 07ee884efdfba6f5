"""Planned concepts in words, beside what was written: plain values, without tensors."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = [
    "BARELY_READ",
    "CONTROL_CHARACTERS",
    "END_MARK",
    "AnchorPlan",
    "LevelPlans",
    "PlanReading",
    "PlanStep",
    "WrittenToken",
    "quoted",
    "visible",
]

BARELY_READ = 0.01
"""Mean size of the gates below which the level below is said to barely read a plan."""


END_MARK = "<|endoftext|>"
"""How texts of plans show the token that ends a document, which decodes to no text."""

CONTROL_CHARACTERS = {code: f"\\x{code:02x}" for code in [*range(32), *range(127, 160)] if chr(code) not in "\n\t\r"}
"""Table for ``str.translate`` that spells control characters but those of blanks and lines."""


@dataclass
class PlanStep:
    """A planned concept beside the concept that was written.

    Attributes:
        level: level of the concept, 1 or more.
        step: step of the horizon, from 0.
        start: position of the concept's first token in the text.
        planned: text of the tokens whose composition is nearest to the plan.
        match: cosine of that composition and the plan.
        alternatives: texts of the next nearest compositions.
        written: text of the tokens that were written, or None if the text ends before.
        cosine: cosine of the plan and the written concept.
        edited: whether an edit replaced the planned concept.
        in_prompt: text of those tokens of the concept that belong to the prompt.
    """

    level: int
    step: int
    start: int
    planned: str
    match: float
    alternatives: list[str] = field(default_factory=list)
    written: str | None = None
    cosine: float | None = None
    edited: bool = False
    in_prompt: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @property
    def differs(self) -> bool:
        """Whether something else was written than planned."""
        return self.written not in (None, self.planned)


@dataclass
class PlanReading:
    """What an element of a chunk, a token or a concept, read of the plan before it was written.

    Attributes:
        start: position of its first token in the text.
        length: its tokens.
        text: its text.
        new: whether it was written after the prompt.
        weights: how much it attended to each step of the plan, on average over heads and blocks.
            Where plans are read at their places, one for the step and zero for the others.
        place: the place in the chunk at which it read, where plans are read at their places.
    """

    start: int
    length: int
    text: str
    new: bool
    weights: list[float]
    place: int | None = None


@dataclass
class WrittenToken:
    """A token that was written after a prompt.

    Attributes:
        position: in the text.
        text: its text, empty if a later token completes its character.
        drafted: whether it was drafted and accepted.
    """

    position: int
    text: str
    drafted: bool = False


@dataclass
class AnchorPlan:
    """The plan that is made just before a chunk.

    Attributes:
        start: position in the text of the first token of the chunk; negative in the padding.
        chunk: text of the chunk, or of what there is of it.
        steps: the planned concepts.
        readings: what the elements of the chunk read of the plan, if that was asked for.
    """

    start: int
    chunk: str
    steps: list[PlanStep]
    readings: list[PlanReading] = field(default_factory=list)

    def move(self, tokens: int) -> None:
        """Count positions from a token that lies ``tokens`` before the one so far."""
        self.start += tokens
        for step in self.steps:
            step.start += tokens
        for reading in self.readings:
            reading.start += tokens


@dataclass
class LevelPlans:
    """The plans of a level over a text.

    Attributes:
        level: 1 or more.
        gate: mean size of the gates through which the level below reads the plan.
        anchors: the plans in the order of the text.
        conditioning: how the level below reads the plan, ``cross``, ``prefix`` or ``unbind``.
    """

    level: int
    gate: float
    anchors: list[AnchorPlan]
    conditioning: str = "cross"

    @property
    def barely_read(self) -> bool:
        """Whether the gates are so small that the plan hardly changes what is written."""
        return self.gate < BARELY_READ


def visible(text: str) -> str:
    """Make blanks, line breaks and control characters of a text visible."""
    blanks = {ord(" "): "␣", ord("\n"): "\\n", ord("\t"): "\\t", ord("\r"): "\\r"}
    return text.translate(CONTROL_CHARACTERS | blanks)


def quoted(text: str | None) -> str:
    """Return a text as a JSON string on one line, and a dash for None."""
    return "-" if text is None else json.dumps(text, ensure_ascii=False).translate(CONTROL_CHARACTERS)
