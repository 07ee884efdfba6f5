"""Names of metrics."""

from nextconcept.evaluation.metrics import is_curve, named_answers

TAGS = [
    "val/answer/exact",
    "val/answer/exact_zero",
    "val/answer/token_1",
    "val/answer/token_1_zero",
    "val/answer/first_branch",
    "val/answer/first_branch_zero",
    "val/answer/first_branch_shuffled",
    "val/loss/tokens",
]


def test_named_answers__what_a_task_names():
    assert named_answers(TAGS) == ["first_branch"]


def test_is_curve__losses_and_answers_with_the_predicted_plan():
    assert [tag for tag in TAGS if is_curve(tag)] == ["val/answer/exact", "val/answer/first_branch", "val/loss/tokens"]
    assert is_curve("val/loss/tokens_zero")
    assert not is_curve("val/bits_per_byte")
