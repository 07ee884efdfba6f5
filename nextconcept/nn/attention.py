"""Attention of a level to itself, to its plan, and to the past of the level above.

Shapes: B batch, T positions of this level, D width, h heads, d head size, c chunk size, A anchors of the level above,
H horizon.

Position i of a level is the one that *predicts* element i of it, so it has seen elements < i; it lies in chunk ``i // c`` and may
read what the anchor of that chunk knows. Folding positions by chunk turns that rule into
plain batched attention, without a mask.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from nextconcept.nn.layers import Linear, RMSNorm, rotary_angles, rotate

__all__ = ["ChunkFold", "PastAttention", "PlanAttention", "SelfAttention"]


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
        """(B, T, D) to (B, A, c, D), padded with zeros where a chunk has no position."""
        anchors = (x.shape[1] + self.first - 1) // self.chunk_size + 1
        back = anchors * self.chunk_size - self.first - x.shape[1]
        return F.pad(x, (0, 0, self.first, back)).unflatten(1, (anchors, self.chunk_size))

    def unfold(self, x: Tensor, time: int) -> Tensor:
        """The inverse of :meth:`fold`: (B, A, c, D) to (B, T, D)."""
        return x.flatten(1, 2)[:, self.first : self.first + time]


def _split(x: Tensor, heads: int) -> Tensor:
    return rearrange(x, "... t (h d) -> ... h t d", h=heads)


def _merge(x: Tensor) -> Tensor:
    return rearrange(x, "... h t d -> ... t (h d)")


class SelfAttention(nn.Module):
    """Causal multi-head self-attention with rotary positions.

    Args:
        width: full width of input and output.
        rope_base: base of the rotary frequencies.
    """

    def __init__(self, width: int, rope_base: float) -> None:
        super().__init__()
        self.query = Linear(width, width)
        self.key = Linear(width, width)
        self.value = Linear(width, width)
        self.out = Linear(width, width)
        self.rope_base = rope_base

    def forward(self, x: Tensor, heads: int) -> Tensor:
        """(B, T, D) to (B, T, D); position t attends to positions <= t."""
        time, width = x.shape[-2:]
        query, key, value = (_split(part(x, width), heads) for part in (self.query, self.key, self.value))
        angles = rotary_angles(torch.arange(time, device=x.device), width // heads, self.rope_base)
        mixed = F.scaled_dot_product_attention(rotate(query, angles), rotate(key, angles), value, is_causal=True)
        return self.out(_merge(mixed), width)


class _CrossAttention(nn.Module):
    def __init__(self, width: int, memory_width: int, rope_base: float) -> None:
        super().__init__()
        self.norm = RMSNorm(width)
        self.memory_norm = RMSNorm(memory_width)
        self.query = Linear(width, width)
        self.key = Linear(memory_width, width)
        self.value = Linear(memory_width, width)
        self.out = Linear(width, width)
        self.rope_base = rope_base

    def _angles(self, positions: Tensor, head_size: int) -> Tensor:
        return rotary_angles(positions, head_size, self.rope_base)


class PlanAttention(_CrossAttention):
    """Each position attends to the plan issued at the anchor of its chunk.

    Args:
        width: full width of the reading level.
        memory_width: full width of the level above.
        rope_base: base of the rotary frequencies; a plan step counts ``c`` positions.
    """

    def forward(self, x: Tensor, plan: Tensor, fold: ChunkFold, heads: int) -> Tensor:
        """Read the plan.

        Args:
            x: (B, T, D) positions of the reading level.
            plan: (B, A, H, D_above).

        Returns:
            (B, T, D); zero where the plan is zero.
        """
        time, width = x.shape[-2:]
        memory = self.memory_norm(plan)
        query = _split(fold.fold(self.query(self.norm(x), width)), heads)
        key, value = _split(self.key(memory, width), heads), _split(self.value(memory, width), heads)
        places = torch.arange(fold.chunk_size, device=x.device)
        steps = torch.arange(plan.shape[2], device=x.device) * fold.chunk_size
        query = rotate(query, self._angles(places, width // heads))
        key = rotate(key, self._angles(steps, width // heads))
        # The anchors go into the batch: the attention kernels take four axes.
        mixed = F.scaled_dot_product_attention(query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1))
        mixed = _merge(mixed).unflatten(0, (x.shape[0], -1))
        return self.out(fold.unfold(mixed, time), width)


class PastAttention(_CrossAttention):
    """Each position attends to what the level above knew at the anchors up to its chunk's.

    The places of a chunk become heads of their own, so that one causal attention over anchors serves all of them.

    Args:
        width: full width of the reading level.
        memory_width: full width of the level above.
        rope_base: base of the rotary frequencies; an anchor counts ``c`` positions.
    """

    def forward(self, x: Tensor, past: Tensor, fold: ChunkFold, heads: int) -> Tensor:
        """Read the past.

        Args:
            x: (B, T, D) positions of the reading level.
            past: (B, A, D_above); entry a is a function of the elements before chunk a.

        Returns:
            (B, T, D).
        """
        time, width = x.shape[-2:]
        memory = self.memory_norm(past)
        places = torch.arange(time, device=x.device) + fold.first
        anchors = torch.arange(past.shape[1], device=x.device) * fold.chunk_size
        query = _split(self.query(self.norm(x), width), heads)
        query = _merge(rotate(query, self._angles(places, width // heads)))
        query = rearrange(fold.fold(query), "b a c (h d) -> b (h c) a d", h=heads)
        key, value = _split(self.key(memory, width), heads), _split(self.value(memory, width), heads)
        key = rotate(key, self._angles(anchors, width // heads))
        key, value = (part.repeat_interleave(fold.chunk_size, 1) for part in (key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        mixed = rearrange(mixed, "b (h c) a d -> b a c (h d)", h=heads)
        return self.out(fold.unfold(mixed, time), width)
