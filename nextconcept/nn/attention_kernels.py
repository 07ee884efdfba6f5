"""Causal attention over all positions or a sliding window, with or without extra keys per chunk.

Everything runs on blocks of the window's size, so that cost and memory are linear in the length where there is a window.

Shapes: B batch, h heads, T positions, d head size, W window, A chunks, E extra keys of a chunk.
"""

import functools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ChunkFold", "ExtraKeys", "causal_attention", "joint_attention", "tiny_attention"]


@dataclass(frozen=True)
class ChunkFold:
    """Folds the positions of a level by the chunk of the element that each predicts.

    Args:
        chunk_size: c.
        first: the element that position 0 predicts: 1 for tokens (position t reads token t), 0 for a level that starts
            with a BOS.
    """

    chunk_size: int
    first: int

    def fold(self, x: Tensor) -> Tensor:
        """(..., T, D) to (..., A, c, D), padded with zeros where a chunk has no position."""
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
        key: (B, h, A, E, d).
        value: (B, h, A, E, d).
        fold: assigns positions to chunks.
        visible: (E,) bool, keys inside the window.
    """

    key: Tensor
    value: Tensor
    fold: ChunkFold
    visible: Tensor


def _blocks(x: Tensor, window: int, previous: bool) -> Tensor:
    """(..., T, d) to (..., n, W, d), or (..., n, 2 W, d) with each block's predecessor in front."""
    pad = -x.shape[-2] % window
    own: Tensor = F.pad(x, (0, 0, 0, pad)).unflatten(-2, (-1, window))
    if not previous:
        return own
    return torch.cat((F.pad(own, (0, 0, 0, 0, 1, 0))[..., :-1, :, :], own), -2)


def _band(time: int, window: int, shift: int, device: torch.device) -> Tensor:
    """(n, W, 2 W) bool: key within the last ``window`` positions of a query that stands ``shift`` after its place."""
    block = torch.arange(-(-time // window), device=device)[:, None, None] * window
    query = torch.arange(window, device=device)[:, None]
    key = torch.arange(2 * window, device=device)[None] - window
    inside = (key <= query) & (key > query + shift - window)
    return inside & (block + key >= 0)


def causal_attention(query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
    """Attend to the own and earlier positions, at most ``window`` of them.

    Args:
        query: (B, h, T, d).
        key: (B, h, T, d).
        value: (B, h, T, d).
        window: W, or None for all.

    Returns:
        (B, h, T, d).
    """
    batch, heads, time, _ = query.shape
    if window is None or window >= time:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)
    # Blocks take the place of heads, so that one mask serves the whole batch.
    queries = _blocks(query.flatten(0, 1), window, previous=False)
    keys, values = (_blocks(part.flatten(0, 1), window, previous=True) for part in (key, value))
    mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=_band(time, window, 0, query.device))
    joined: Tensor = mixed.flatten(1, 2)[:, :time].unflatten(0, (batch, heads))
    return joined


def joint_attention(
    query: Tensor, key: Tensor, value: Tensor, extras: ExtraKeys, window: int | None, shift: int = 0
) -> Tensor:
    """Attend to earlier positions and to the extra keys of one's own chunk, in one softmax.

    Args:
        query: (B, h, T, d).
        key: (B, h, T, d).
        value: (B, h, T, d).
        extras: what each chunk adds.
        window: W, or None for all positions.
        shift: how far behind its place a query stands, which moves the window.

    Returns:
        (B, h, T, d). Without a window the memory is quadratic in T.
    """
    time = query.shape[2]
    whole = window is None or window >= time + shift
    span = time if window is None or whole else window
    scale = 1 / math.sqrt(query.shape[-1])
    folded = extras.fold.fold(query)  # (B, h, A, c, d)
    extra = extras.fold.unfold(folded @ extras.key.transpose(-1, -2), time) * scale  # (B, h, T, E)
    extra = extra.masked_fill(~extras.visible, -torch.inf)
    if whole:
        places = torch.arange(time, device=query.device)
        near = (places <= places[:, None])[None]
    else:
        near = _band(time, span, shift, query.device)
    parts = [_blocks(query, span, False)] + [_blocks(part, span, not whole) for part in (key, value)]
    scores = (parts[0] @ parts[1].transpose(-1, -2) * scale).masked_fill(~near, -torch.inf)  # (B, h, n, W, 2 W)
    both = torch.cat((scores.flatten(2, 3)[:, :, :time], extra), -1).float().softmax(-1).to(query.dtype)
    own, added = both.split((scores.shape[-1], extra.shape[-1]), -1)
    mixed = (_blocks(own, span, False) @ parts[2]).flatten(2, 3)[:, :, :time]
    return mixed + extras.fold.unfold(extras.fold.fold(added) @ extras.value, time)


def tiny_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend within very many small groups.

    Args:
        query: (B, A, h, c, d).
        key: (B, A, h, E, d).
        value: (B, A, h, E, d).

    Returns:
        (B, A, h, c, d).
    """
    if query.shape[-2] * key.shape[-2] > 32:
        # The groups go into the batch: the attention kernels take four axes.
        mixed = F.scaled_dot_product_attention(query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1))
        parted: Tensor = mixed.unflatten(0, query.shape[:2])
        return parted
    # Matrix products of four rows by four columns spend most of their time on being called. So each key in turn meets all
    # groups at once.
    scores = torch.stack([(query * one.unsqueeze(-2)).sum(-1) for one in key.unbind(-2)], -1)
    shares = (scores / math.sqrt(query.shape[-1])).float().softmax(-1).to(value.dtype).unbind(-1)
    weighted = [share.unsqueeze(-1) * one.unsqueeze(-2) for share, one in zip(shares, value.unbind(-2), strict=True)]
    return functools.reduce(torch.add, weighted)
