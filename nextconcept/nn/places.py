"""Where the positions of a level stand in the chunks whose plans they read.

Position t of a level predicts element ``t + element`` and reads the plan of the anchor of that
element's chunk. :class:`EvenPlaces` knows chunks of one length, where reshapes bring the positions
of a chunk together; :class:`UnevenPlaces` chunks of any lengths, where each position is on its own
and what belongs to an anchor is spread over its positions.

Shapes: B batch, T positions, A anchors, c chunk size, G groups of positions that read one plan, n
positions in a group, h heads, d head size, H horizon, D width of the level above.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from nextconcept.nn.attention_kernels import ChunkFold, causal_attention
from nextconcept.nn.chunks import Chunks
from nextconcept.nn.rows import take_rows

__all__ = ["EvenPlaces", "Places", "Unbind", "UnevenPlaces", "step_starts", "unbind_at"]

Unbind = Callable[[Tensor, Tensor], Tensor]
"""Maps (..., n, D) planned concepts and (..., n) places in tokens, or their rotations, to what the
concepts say about the elements at those places: ``R(-i) p``."""


def unbind_at(plan: Tensor, places: Tensor, chunk_size: int, stride: int, unbind: Unbind) -> Tensor:
    """Read a plan at places after its anchor.

    Args:
        plan: (..., H, D) planned concepts of consecutive chunks.
        places: (..., n) elements after the first of the first chunk.
        chunk_size: c.
        stride: tokens of an element.
        unbind: see :data:`Unbind`.

    Returns:
        (..., n, D): ``R(-(i mod c)) p[i div c]``, zero after the end of the plan.
    """
    step, place = places // chunk_size, places % chunk_size
    index = step.clamp(max=plan.shape[-2] - 1).expand(*plan.shape[:-2], -1)
    picked = take_rows(plan.flatten(0, -3), index.flatten(0, -2)).unflatten(0, plan.shape[:-2])
    return unbind(picked, place * stride) * (step < plan.shape[-2]).unsqueeze(-1)


def step_starts(horizon: int, length: float, device: torch.device) -> Tensor:
    """Return where H chunks of a length, which may be a mean, begin one after the other, (H,)."""
    return (torch.arange(horizon, device=device) * length).round().long()


class Places(ABC):
    """Where the positions of a level stand.

    Args:
        element: the element that position 0 predicts: 1 for tokens, 0 for a level with a BOS.
        fold: puts positions that read one plan into a group.
        chunk_length: elements by which later chunks of a plan are taken to follow.
    """

    def __init__(self, element: int, fold: ChunkFold, chunk_length: float) -> None:
        self.element, self.fold, self.chunk_length = element, fold, chunk_length

    def step_starts(self, horizon: int, device: torch.device) -> Tensor:
        """Return elements between the first chunk of a plan and each of its chunks, (H,)."""
        return step_starts(horizon, self.chunk_length, device)

    @abstractmethod
    def spread(self, x: Tensor) -> Tensor:
        """Give each group what belongs to its anchor: (B, A, ...) to (B, G, ...)."""

    @abstractmethod
    def in_chunk(self, device: torch.device) -> Tensor:
        """Return the place of each position in its chunk, in elements: (n,), or (B, G, 1, n)."""

    @abstractmethod
    def standing(self, time: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the anchor that each position reads, and its place: (T,), or (B, T) each."""

    @abstractmethod
    def chunk_starts(self, anchors: int, device: torch.device) -> Tensor:
        """Return the first element of each chunk: (A,), or (B, A)."""

    @abstractmethod
    def unbound(self, plan: Tensor, step: int, unbind: Unbind) -> Tensor:
        """Return what the plans (B, A, H, D) say about the elements ``step`` after.

        Returns:
            (B, A, c, D), positions in the order of :attr:`fold`; (B, T, 1, D) where each position
            finds its own chunk.
        """

    @abstractmethod
    def attend_memory(self, query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
        """Attend from (B, h, T, d) to those of the anchors (B, h, A, d) up to the own one.

        Args:
            query: (B, h, T, d).
            key: (B, h, A, d).
            value: (B, h, A, d).
            window: anchors that it reaches back, or None for all.

        Returns:
            (B, h, T, d).
        """


class EvenPlaces(Places):
    """Places in chunks of one length.

    Args:
        chunk_size: c.
        element: see :class:`Places`.
        stride: tokens of an element.
    """

    def __init__(self, chunk_size: int, element: int, stride: int = 1) -> None:
        super().__init__(element, ChunkFold(chunk_size, element), chunk_size)
        self.chunk_size, self.stride = chunk_size, stride

    def spread(self, x: Tensor) -> Tensor:
        """Return ``x``: each anchor has a group."""
        return x

    def in_chunk(self, device: torch.device) -> Tensor:
        """Return 0 to c - 1."""
        return torch.arange(self.chunk_size, device=device)

    def standing(self, time: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Divide the number of the predicted element by c, (T,) and (T,)."""
        known = torch.arange(time, device=device) + self.element
        return known // self.chunk_size, known % self.chunk_size

    def chunk_starts(self, anchors: int, device: torch.device) -> Tensor:
        """Return multiples of c, (A,)."""
        return torch.arange(anchors, device=device) * self.chunk_size

    def unbound(self, plan: Tensor, step: int, unbind: Unbind) -> Tensor:
        """Unbind each plan at the places of a chunk, (B, A, c, D)."""
        places = (self.in_chunk(plan.device) + step).expand(*plan.shape[:2], -1)
        return unbind_at(plan, places, self.chunk_size, self.stride, unbind)

    def attend_memory(self, query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
        """Attend with the positions of a chunk as heads of their own.

        So one causal attention over anchors serves all of them.
        """
        heads, time = query.shape[1:3]
        query = rearrange(self.fold.fold(query), "b h a c d -> b (h c) a d")
        key, value = (part.repeat_interleave(self.chunk_size, 1) for part in (key, value))
        mixed = causal_attention(query, key, value, window)
        return self.fold.unfold(rearrange(mixed, "b (h c) a d -> b h a c d", h=heads), time)


class UnevenPlaces(Places):
    """Places in chunks of any lengths.

    Args:
        chunks: the chunks.
        element: see :class:`Places`.
        mean_length: elements of a chunk on average.
    """

    def __init__(self, chunks: Chunks, element: int, mean_length: float) -> None:
        super().__init__(element, ChunkFold(1, 0), mean_length)
        self.chunks = chunks
        self.anchor, self.place = chunks.index[:, element:], chunks.place[:, element:]

    def spread(self, x: Tensor) -> Tensor:
        """Give each position what belongs to its anchor: (B, A, ...) to (B, T, ...)."""
        return take_rows(x, self.anchor)

    def in_chunk(self, device: torch.device) -> Tensor:
        """Return the place of each position, (B, T, 1, 1)."""
        return self.place[..., None, None]

    def standing(self, time: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return what the chunks say, (B, T) and (B, T)."""
        return self.anchor, self.place

    def chunk_starts(self, anchors: int, device: torch.device) -> Tensor:
        """Return the first element of each chunk, (B, A)."""
        return self.chunks.first

    def unbound(self, plan: Tensor, step: int, unbind: Unbind) -> Tensor:
        """Unbind the first step of each position's plan, (B, T, 1, D).

        It is zero after the first element of a rollout, which does not know where chunks will end.
        """
        own = self.spread(plan[:, :, 0]) * (step == 0)
        return unbind(own, self.chunks.turns(own)[:, self.element :]).unsqueeze(2)

    def attend_memory(self, query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
        """Attend with a mask."""
        age = self.anchor[..., None] - torch.arange(key.shape[2], device=key.device)
        visible = age >= 0 if window is None else (age >= 0) & (age < window)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=visible[:, None])
