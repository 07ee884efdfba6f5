import pytest
import torch

from nextconcept import InputError, NextConceptModel
from nextconcept.nn.draft_head import TOKENS_BEFORE, DraftHead, tokens_before
from tests.helpers import small_config


def head_of(**changes: object) -> DraftHead:
    return NextConceptModel(small_config(planner__draft_width=8, **changes)).draft_head


def test_tokens_before__the_nearest_first():
    assert tokens_before(torch.tensor([[3, 1, 4, 1, 5, 9]])).tolist() == [
        [[-1, -1, -1, -1], [3, -1, -1, -1], [1, 3, -1, -1], [4, 1, 3, -1], [1, 4, 1, 3], [5, 1, 4, 1]]
    ]


def test_draft_head__says_nothing_at_first():
    unbound, vocabulary = torch.randn(2, 5, 32), torch.randn(64, 32)
    before = torch.randint(64, (2, 5, TOKENS_BEFORE))
    assert torch.equal(head_of()(unbound, before, vocabulary), unbound)


def test_draft_head__is_the_formula():
    head, before = head_of(), torch.randint(64, (2, 5, TOKENS_BEFORE))
    torch.nn.init.normal_(head.out.weight)
    unbound, vocabulary = torch.randn(2, 5, 32), torch.randn(64, 32)
    read = 32**0.5 * torch.cat((unbound, vocabulary[before].flatten(-2)), -1)
    expected = unbound + head.out(torch.nn.functional.gelu(head.hidden(read)))
    torch.testing.assert_close(head(unbound, before, vocabulary), expected)


def test_draft_head__reads_tokens_in_their_order_and_none_that_is_not_there():
    head = head_of()
    torch.nn.init.normal_(head.out.weight)
    unbound, vocabulary = torch.randn(1, 32), torch.randn(64, 32)
    several = torch.tensor([[3, 5, -1, -1], [5, 3, -1, -1], [3, 5, 0, 0]])
    first, swapped, more = head(unbound.expand(3, -1), several, vocabulary)
    assert not torch.allclose(first, swapped)
    assert not torch.allclose(first, more)
    other = vocabulary.clone()
    other[0] = 7.0  # the token 0 is none of those before
    torch.testing.assert_close(head(unbound, several[:1], other)[0], first)


def test_draft_head__leaves_the_other_weights_as_they_are():
    models = []
    for width in (0, 8):
        torch.manual_seed(0)
        models.append(NextConceptModel(small_config(levels=3, planner__draft_width=width)).state_dict())
    assert all(torch.equal(models[1][name], value) for name, value in models[0].items())
    assert {name for name in models[1] if name not in models[0]} == {
        f"draft_head.{part}.{kind}" for part in ("hidden", "out") for kind in ("weight", "bias")
    }


def test_draft_head__is_for_models_whose_plans_can_be_read():
    assert head_of(levels=1) is None
    for changes in ({"encoder__composition": "max"}, {"encoder__position_binding": False}):
        with pytest.raises(InputError, match=r"planner.draft_width reads tokens back .*: leave it out"):
            head_of(**changes)
    with pytest.raises(InputError, match="planner.draft_width must be 0 or more, not -1"):
        small_config(planner__draft_width=-1)
