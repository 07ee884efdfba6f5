"""Names of the metrics that comparisons read."""

from collections.abc import Iterable

__all__ = ["ANSWER", "EXACT", "LOSS", "SOLVED", "is_curve", "is_share", "named_answers"]

LOSS = "val/loss/tokens"
"""Cross-entropy of the tokens, in nats per token."""

ANSWER = "val/answer/"
"""Beginning of the metrics of a planning task, each a share of the held-out prompts."""

EXACT = f"{ANSWER}exact"
"""Share of answers that are right as a whole; every task has it."""

SOLVED = 0.99
"""Share of exact answers from which on a run has solved its task."""


def named_answers(tags: Iterable[str]) -> list[str]:
    """Return the names of the parts of an answer that a task reports, such as ``first_branch``.

    Args:
        tags: metrics of a run.

    Returns:
        Names without ``val/answer/``, in the order of ``tags``; ``exact`` and single tokens do not
        count, nor do metrics measured with another plan.
    """
    names = [tag.removeprefix(ANSWER) for tag in tags if tag.startswith(ANSWER) and tag != EXACT]
    return [name for name in names if not name.startswith("token_") and not name.endswith(("_zero", "_shuffled"))]


def is_share(tag: str) -> bool:
    """Return whether a metric is a share of right answers, under the model's own plan."""
    return tag == EXACT or bool(named_answers([tag]))


def is_curve(tag: str) -> bool:
    """Return whether a comparison keeps all values of a metric over training, for its picture."""
    return tag.startswith(LOSS) or is_share(tag)
