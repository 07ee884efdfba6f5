"""Causal attention over all positions or a sliding window, with or without extra keys per chunk.

With a sliding window the kernels work on blocks of the window's size, so that their cost and memory
are linear in the length.

Heads of keys and values may be fewer than heads of queries, which then share them in groups.

Shapes: B batch, h heads of queries, g heads of keys and values, T positions, d head size, W window,
A chunks, E extra keys of a chunk.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from nextconcept.nn.layers import compute_dtype

__all__ = [
    "ChunkFold",
    "ExtraKeys",
    "block_attention",
    "causal_attention",
    "joint_attention",
    "repeat_heads",
    "small_attention",
    "window_block_mask",
]

LARGEST_ELEMENTWISE = 32
"""Queries times keys of a group up to which :func:`small_attention` avoids matrix products."""

SMALLEST_FLEX_HEAD = 16
"""Features of a head from which FlexAttention has a kernel."""

FLEX_BLOCK = 128
"""Positions of a block of FlexAttention's masks."""


@dataclass(frozen=True)
class ChunkFold:
    """Folds the positions of a level by the chunk of the element that each predicts.

    Args:
        chunk_size: c.
        first: the element that position 0 predicts: 1 for tokens (position t reads token t), 0 for
            a level that starts with a BOS.
    """

    chunk_size: int
    first: int

    def fold(self, x: Tensor) -> Tensor:
        """Fold (..., T, D) to (..., A, c, D), with zeros where a chunk has no position."""
        time = x.shape[-2]
        anchors = (time + self.first - 1) // self.chunk_size + 1
        back = anchors * self.chunk_size - self.first - time
        folded: Tensor = F.pad(x, (0, 0, self.first, back)).unflatten(-2, (anchors, self.chunk_size))
        return folded

    def unfold(self, x: Tensor, time: int) -> Tensor:
        """Undo :meth:`fold`: (..., A, c, D) to (..., T, D)."""
        return x.flatten(-3, -2)[..., self.first : self.first + time, :]


@dataclass
class ExtraKeys:
    """Keys and values that only the positions of one chunk attend to.

    Attributes:
        key: (B, g, A, E, d).
        value: (B, g, A, E, d).
        fold: assigns positions to chunks.
        visible: (E,) bool, the keys inside the sliding window.
    """

    key: Tensor
    value: Tensor
    fold: ChunkFold
    visible: Tensor


def repeat_heads(x: Tensor, heads: int, axis: int = -3) -> Tensor:
    """Repeat the heads of keys or values, an axis of (..., g, n, d), for ``heads`` of queries."""
    return x if x.shape[axis] == heads else x.repeat_interleave(heads // x.shape[axis], axis)


def _blocks(x: Tensor, window: int, previous: bool) -> Tensor:
    """Cut (..., T, d) into (..., n, W, d), or (..., n, 2 W, d) with each block's predecessor."""
    pad = -x.shape[-2] % window
    own: Tensor = F.pad(x, (0, 0, 0, pad)).unflatten(-2, (-1, window))
    if not previous:
        return own
    return torch.cat((F.pad(own, (0, 0, 0, 0, 1, 0))[..., :-1, :, :], own), -2)


def _band(time: int, window: int, shift: int, device: torch.device) -> Tensor:
    """Return (n, W, 2 W) bool: whether a key is among the last ``window`` positions of a query.

    In a rollout a query stands ``shift`` positions after its anchor.
    """
    block = torch.arange(-(-time // window), device=device)[:, None, None] * window
    query = torch.arange(window, device=device)[:, None]
    key = torch.arange(2 * window, device=device)[None] - window
    inside = (key <= query) & (key > query + shift - window)
    return inside & (block + key >= 0)


def window_block_mask(time: int, window: int, device: torch.device) -> BlockMask:
    """Return FlexAttention's mask of T positions that see the last W, themselves included.

    Which blocks it sees follows from their first and last positions. ``create_block_mask`` asks for
    each query and key instead: 10 bytes per T^2.
    """

    def inside(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        """Whether a query sees a key, as FlexAttention asks."""
        return (key <= query) & (key > query - window)

    block = torch.arange(-(-time // FLEX_BLOCK), device=device)
    query, key = block[:, None], block
    first, last = query * FLEX_BLOCK, query * FLEX_BLOCK + FLEX_BLOCK - 1
    some = (key <= query) & (key * FLEX_BLOCK + FLEX_BLOCK - 1 > first - window)
    # The kernel applies no mask in these, so that a last block that is not full is none of them.
    whole = (key < query) & (key * FLEX_BLOCK > last - window) & (last < time)
    masked, plain = _ordered(some & ~whole), _ordered(whole)
    return BlockMask.from_kv_blocks(*masked, *plain, FLEX_BLOCK, mask_mod=inside, seq_lengths=(time, time))


def _ordered(seen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the number of blocks that each block of queries sees, and all blocks, those first."""
    order = seen.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    return seen.sum(1, dtype=torch.int32)[None, None], order.to(torch.int32)[None, None]


_kept_block_mask = functools.lru_cache(maxsize=16)(window_block_mask)


@functools.cache
def _compiled_flex_attention() -> Callable[..., Tensor]:
    """Return FlexAttention as one kernel, which it is only when it is compiled."""
    return cast(Callable[..., Tensor], torch.compile(flex_attention, dynamic=False))


def causal_attention(query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
    """Attend to the own and earlier positions, at most ``window`` in all.

    A sliding window is FlexAttention in training on a GPU (Dong et al., 2024), where results/gpu.md
    has its speed, and blocks of the window's size elsewhere: FlexAttention is compiled for each
    length, and prompts have many.

    Args:
        query: (B, h, T, d).
        key: (B, g, T, d).
        value: (B, g, T, d).
        window: W, or None for all.

    Returns:
        (B, h, T, d).
    """
    heads, time = query.shape[1:3]
    key, value = repeat_heads(key, heads, 1), repeat_heads(value, heads, 1)
    if window is None or window >= time:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)
    if query.is_cuda and query.shape[-1] >= SMALLEST_FLEX_HEAD and torch.is_grad_enabled():
        if torch.compiler.is_compiling():  # kernel and mask are compiled with the model
            kernel, mask = cast(Callable[..., Tensor], flex_attention), window_block_mask(time, window, query.device)
        else:
            kernel, mask = _compiled_flex_attention(), _kept_block_mask(time, window, query.device)
        return kernel(query, key, value, block_mask=mask)
    return block_attention(query, key, value, window)


def block_attention(query: Tensor, key: Tensor, value: Tensor, window: int) -> Tensor:
    """Attend within a sliding window, blocks of ``window`` positions to themselves and the last.

    Args:
        query: (B, h, T, d).
        key: (B, h, T, d).
        value: (B, h, T, d).
        window: W.

    Returns:
        (B, h, T, d).
    """
    batch, heads, time, _ = query.shape
    # Blocks go into the axis of the heads, so that one mask serves the whole batch.
    queries = _blocks(query.flatten(0, 1), window, previous=False)
    keys, values = (_blocks(part.flatten(0, 1), window, previous=True) for part in (key, value))
    # A mask of four axes is what the fused kernels take; three would mean the plain products.
    band = _band(time, window, 0, query.device)[None]
    mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=band)
    joined: Tensor = mixed.flatten(1, 2)[:, :time].unflatten(0, (batch, heads))
    return joined


def joint_attention(
    query: Tensor, key: Tensor, value: Tensor, extras: ExtraKeys, window: int | None, shift: int = 0
) -> Tensor:
    """Attend to the own and earlier positions and to the own chunk's extra keys, in one softmax.

    Args:
        query: (B, h, T, d).
        key: (B, g, T, d).
        value: (B, g, T, d).
        extras: keys and values that each chunk adds.
        window: W, or None for all positions.
        shift: positions that a query stands after its anchor, by which its window moves.

    Returns:
        (B, h, T, d). Without a sliding window the memory is quadratic in T.
    """
    heads, time = query.shape[1:3]
    key, value, extra_key, extra_value = (
        repeat_heads(part, heads, 1) for part in (key, value, extras.key, extras.value)
    )
    whole = window is None or window >= time + shift
    span = time if window is None or whole else window
    scale = 1 / math.sqrt(query.shape[-1])
    folded = extras.fold.fold(query)  # (B, h, A, c, d)
    extra = extras.fold.unfold(folded @ extra_key.transpose(-1, -2), time) * scale  # (B, h, T, E)
    extra = extra.masked_fill(~extras.visible, -torch.inf)
    if whole:
        positions = torch.arange(time, device=query.device)
        near = (positions <= positions[:, None])[None]
    else:
        near = _band(time, span, shift, query.device)
    parts = [_blocks(query, span, False)] + [_blocks(part, span, not whole) for part in (key, value)]
    scores = (parts[0] @ parts[1].transpose(-1, -2) * scale).masked_fill(~near, -torch.inf)  # (B, h, n, W, 2 W)
    both = torch.cat((scores.flatten(2, 3)[:, :, :time], extra), -1)
    both = both.softmax(-1, dtype=compute_dtype(both.dtype)).to(query.dtype)
    own, added = both.split((scores.shape[-1], extra.shape[-1]), -1)
    mixed = (_blocks(own, span, False) @ parts[2]).flatten(2, 3)[:, :, :time]
    return mixed + extras.fold.unfold(extras.fold.fold(added) @ extra_value, time)


def small_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend within many small groups.

    Args:
        query: (B, A, h, c, d).
        key: (B, A, g, E, d).
        value: (B, A, g, E, d).

    Returns:
        (B, A, h, c, d).
    """
    if query.shape[2] != key.shape[2]:  # heads that share keys are further queries of one group
        rows = query.shape[3]
        grouped = query.unflatten(2, (key.shape[2], -1)).flatten(3, 4)
        mixed = small_attention(grouped, key, value)
        ungrouped: Tensor = mixed.unflatten(3, (-1, rows)).flatten(2, 3)
        return ungrouped
    if query.shape[-2] * key.shape[-2] > LARGEST_ELEMENTWISE:
        # The groups go into the batch: the attention kernels take four axes.
        mixed = F.scaled_dot_product_attention(query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1))
        parted: Tensor = mixed.unflatten(0, query.shape[:2])
        return parted
    if query.is_meta:  # operations are counted, and the counter knows products alone
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        return scores.softmax(-1) @ value
    # Batched products of four rows by four columns spend most of their time on being called.
    # Therefore each key in turn meets all groups at once.
    scores = torch.stack([(query * one.unsqueeze(-2)).sum(-1) for one in key.unbind(-2)], -1)
    shares = (scores / math.sqrt(query.shape[-1])).softmax(-1, dtype=compute_dtype(scores.dtype))
    parts = zip(shares.to(value.dtype).unbind(-1), value.unbind(-2), strict=True)
    weighted = [share.unsqueeze(-1) * one.unsqueeze(-2) for share, one in parts]
    return functools.reduce(torch.add, weighted)
