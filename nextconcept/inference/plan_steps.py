"""Planned concepts in words, beside what was written: plain values, without tensors."""

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["BARELY_READ", "END_MARK", "AnchorPlan", "LevelPlans", "PlanStep", "visible"]

BARELY_READ = 0.01
"""Mean size of the gates below which the level below is said to barely read a plan."""


END_MARK = "<|endoftext|>"
"""How texts of plans show the token that ends a document, which decodes to no text."""


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
class AnchorPlan:
    """The plan that is made just before a chunk.

    Attributes:
        start: position in the text of the first token of the chunk; negative in the padding.
        chunk: text of the chunk, or of what there is of it.
        steps: the planned concepts.
    """

    start: int
    chunk: str
    steps: list[PlanStep]


@dataclass
class LevelPlans:
    """The plans of a level over a text.

    Attributes:
        level: 1 or more.
        gate: mean size of the gates through which the level below reads the plan.
        anchors: the plans in the order of the text.
    """

    level: int
    gate: float
    anchors: list[AnchorPlan]

    @property
    def barely_read(self) -> bool:
        """Whether the gates are so small that the plan hardly changes what is written."""
        return self.gate < BARELY_READ


def visible(text: str) -> str:
    """Make blanks, line breaks and control characters of a text visible."""
    shown = (f"\\x{ord(char):02x}" if char < " " and char not in "\n\t\r" else char for char in text)
    return "".join(shown).translate({ord(" "): "␣", ord("\n"): "\\n", ord("\t"): "\\t", ord("\r"): "\\r"})
