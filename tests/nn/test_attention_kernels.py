import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from nextconcept.nn.attention_kernels import (
    ChunkFold,
    ExtraKeys,
    block_attention,
    causal_attention,
    joint_attention,
    small_attention,
    window_block_mask,
)


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


def band(time: int, window: int | None, shift: int = 0) -> torch.Tensor:
    positions = torch.arange(time)
    distance = positions[:, None] - positions
    return (distance >= 0) & (distance + shift < (window or time + shift))


@pytest.mark.parametrize("window", [None, 1, 3, 4, 7, 16, 99])
@pytest.mark.parametrize("time", [1, 2, 7, 12, 17])
def test_causal_attention__equals_a_band_mask(time: int, window: int | None):
    query, key, value = (torch.randn(2, 3, time, 8) for _ in range(3))
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=band(time, window))
    torch.testing.assert_close(causal_attention(query, key, value, window), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="FlexAttention's backward pass needs a GPU")
@pytest.mark.parametrize("window", [5, 128])
@pytest.mark.parametrize("compiled", [False, True])
def test_causal_attention__is_the_same_on_a_gpu(window: int, compiled: bool):
    parts = [torch.randn(2, 3, 300, 32, device="cuda", requires_grad=True) for _ in range(3)]
    kernel = torch.compile(causal_attention, fullgraph=True) if compiled else causal_attention
    results = [kernel(*parts, window), block_attention(*parts, window)]
    torch.testing.assert_close(*results, atol=1e-4, rtol=1e-4)
    gradients = [torch.autograd.grad(one.square().sum(), parts) for one in results]
    torch.testing.assert_close(*gradients, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("time", [1, 128, 300, 512])
@pytest.mark.parametrize("window", [1, 16, 127, 128, 129, 200, 257, 999])
def test_window_block_mask__is_what_asking_for_each_query_and_key_gives(time: int, window: int):
    def inside(batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return (key <= query) & (key > query - window)

    mask = window_block_mask(time, window, torch.device("cpu"))
    asked = create_block_mask(inside, None, None, time, time, device="cpu")
    for name in ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices", "q_indices"):
        assert torch.equal(getattr(mask, name), getattr(asked, name)), name


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_window_block_mask__flex_attention_is_attention_in_blocks():
    query, key, value = torch.randn(3, 1, 2, 300, 16).unbind()
    mask = window_block_mask(300, 40, query.device)
    mixed = flex_attention(query, key, value, block_mask=mask)
    torch.testing.assert_close(mixed, block_attention(query, key, value, 40))


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("window", [None, 3, 4, 9, 14, 15, 99])
@pytest.mark.parametrize(("chunk", "first"), [(1, 0), (4, 0), (4, 1), (3, 1)])
def test_joint_attention__equals_one_softmax_over_both(chunk: int, first: int, window: int | None, shift: int):
    time, fold = 14, ChunkFold(chunk, first)
    query, key, value = (torch.randn(2, 3, time, 8) for _ in range(3))
    anchors = fold.fold(query).shape[2]
    extra_key, extra_value = (torch.randn(2, 3, anchors, 5, 8) for _ in range(2))
    visible = torch.tensor([True, False, True, True, True])
    result = joint_attention(query, key, value, ExtraKeys(extra_key, extra_value, fold, visible), window, shift)
    chunks = (torch.arange(time) + first) // chunk
    keys = torch.cat((key.unsqueeze(2).expand(-1, -1, time, -1, -1), extra_key[:, :, chunks]), 3)
    values = torch.cat((value.unsqueeze(2).expand(-1, -1, time, -1, -1), extra_value[:, :, chunks]), 3)
    mask = torch.cat((band(time, window, shift), visible.expand(time, -1)), 1)[:, None]
    expected = F.scaled_dot_product_attention(query.unsqueeze(3), keys, values, attn_mask=mask).squeeze(3)
    torch.testing.assert_close(result, expected)


def test_causal_attention__memory_is_linear_with_a_window():
    """At 16,384 positions a mask of all pairs alone would take 256 MiB."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple) else (out,):
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel() * tensor.element_size())
            return out

    query = torch.randn(1, 2, 16384, 16)
    extras = ExtraKeys(
        torch.randn(1, 2, 4097, 4, 16), torch.randn(1, 2, 4097, 4, 16), ChunkFold(4, 1), torch.ones(4).bool()
    )
    with Watch():
        causal_attention(query, query, query, 64)
        joint_attention(query, query, query, extras, 64)
    assert largest < 40 * 2**20


@pytest.mark.parametrize("extra", [1, 4, 8, 9, 40])
def test_small_attention__equals_attention_in_each_group(extra: int):
    query, key, value = torch.randn(2, 5, 3, 4, 8), torch.randn(2, 5, 3, extra, 8), torch.randn(2, 5, 3, extra, 8)
    expected = F.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(small_attention(query, key, value), expected)
