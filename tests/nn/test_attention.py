import pytest
import torch
import torch.nn.functional as F

from nextconcept.nn.attention import ChunkFold, PastAttention, PlanAttention, SelfAttention


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("time", range(1, 14))
def test_fold__puts_each_position_into_the_chunk_of_the_element_it_predicts(first: int, time: int):
    fold = ChunkFold(4, first)
    x = torch.arange(1.0, time + 1).reshape(1, time, 1)
    folded = fold.fold(x)
    assert folded.shape[1] == (time + first - 1) // 4 + 1
    for position in range(time):
        element = position + first
        assert folded[0, element // 4, element % 4, 0] == position + 1
    torch.testing.assert_close(fold.unfold(folded, time), x)


def test_fold__tokens_have_one_chunk_per_anchor():
    """T tokens have T // c + 1 anchors, and position t reads anchor (t + 1) // c."""
    for time in range(1, 20):
        assert ChunkFold(4, 1).fold(torch.zeros(1, time, 2)).shape[1] == time // 4 + 1


def test_self_attention__is_causal():
    attention, x = SelfAttention(16, 10_000.0), torch.randn(2, 9, 16)
    changed = x.clone()
    changed[:, 5:] += 1
    torch.testing.assert_close(attention(x, 2)[:, :5], attention(changed, 2)[:, :5], rtol=0, atol=0)


def test_plan_attention__is_zero_for_a_zero_plan():
    attention = PlanAttention(16, 24, 10_000.0)
    read = attention(torch.randn(2, 9, 16), torch.zeros(2, 3, 5, 24), ChunkFold(4, 1), 2)
    assert read.shape == (2, 9, 16)
    assert not read.any()


def test_plan_attention__reads_the_plan_of_its_own_chunk_only():
    attention, x, plan = PlanAttention(16, 24, 10_000.0), torch.randn(1, 9, 16), torch.randn(1, 3, 5, 24)
    changed = plan.clone()
    changed[:, 1] += 1
    differs = (attention(x, plan, ChunkFold(4, 1), 2) != attention(x, changed, ChunkFold(4, 1), 2)).any(-1)[0]
    assert differs.tolist() == [(t + 1) // 4 == 1 for t in range(9)]


def test_past_attention__equals_masked_attention():
    """Places folded into heads must give what an explicit mask over anchors gives."""
    attention, x, past, fold = (
        PastAttention(16, 24, 10_000.0),
        torch.randn(2, 10, 16),
        torch.randn(2, 3, 24),
        ChunkFold(4, 1),
    )
    seen = []
    plain = F.scaled_dot_product_attention

    def spy(query, key, value, is_causal):
        seen.append((query, key, value))
        return plain(query, key, value, is_causal=is_causal)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", spy)
        result = attention(x, past, fold, 2)
    query, key, value = seen[0]  # (B, heads * c, anchors, d)
    places = torch.arange(10) + 1
    query = query.unflatten(1, (2, 4)).permute(0, 1, 3, 2, 4).flatten(2, 3)[:, :, places]
    key, value = key.unflatten(1, (2, 4))[:, :, 0], value.unflatten(1, (2, 4))[:, :, 0]
    mask = torch.arange(3)[None] <= (places // 4)[:, None]
    expected = attention.out(plain(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2))
    torch.testing.assert_close(result, expected)
