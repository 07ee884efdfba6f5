import pytest

from nextconcept.core.errors import InputError
from nextconcept.core.hierarchy import Hierarchy


def test_lengths_and_anchors_follow_the_chunk_size():
    hierarchy = Hierarchy(levels=3, chunk_size=4)
    assert [hierarchy.span(level) for level in range(3)] == [1, 4, 16]
    assert [hierarchy.length(37, level) for level in range(3)] == [37, 9, 2]
    assert [hierarchy.anchors(37, level) for level in (1, 2)] == [10, 3]
    assert list(hierarchy.concept_levels) == [1, 2]


def test_check_context__names_the_divisor():
    Hierarchy(3, 4).check_context(64)
    with pytest.raises(InputError, match="context_length 60 is not divisible by 16"):
        Hierarchy(3, 4).check_context(60)
    for hierarchy in (Hierarchy(1, 4), Hierarchy(3, 4)):
        with pytest.raises(InputError, match="context_length must be 1 or more, not 0"):
            hierarchy.check_context(0)


def test_of__a_text_is_no_list_of_rules():
    with pytest.raises(InputError, match=r"such as \[words\], not a text"):
        Hierarchy.of(2, 4, "words")


@pytest.mark.parametrize(("levels", "chunk_size"), [(0, 4), (2, 1)])
def test_init__impossible_grid(levels: int, chunk_size: int):
    with pytest.raises(InputError):
        Hierarchy(levels, chunk_size)
