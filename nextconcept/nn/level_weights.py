"""The part of a transformer's matrices that a level uses.

Shapes: D width of the level, h heads of queries, g heads of keys and values, d head size, T
positions.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from nextconcept.core.config import ModelConfig
from nextconcept.nn.layers import KeyLinear, Linear

__all__ = ["LevelShape", "LevelWeights", "SlicedWeights"]


@dataclass(frozen=True)
class LevelShape:
    """The part of a transformer's matrices that a level uses, and how the level uses it.

    Attributes:
        width: D.
        num_heads: h, heads of queries.
        num_kv_heads: g, heads of keys and values.
        head_size: d.
        hidden: hidden width of the feed-forward layer.
        sliding_windows: positions that self-attention reaches back in each block, or None for all.
        interleaved: whether the features of a head lie ``h`` apart, so that a leading block holds a
            part of every head (slicing by head size) instead of whole heads.
        num_loops: passes through the blocks.
        rope_base: base of the rotary frequencies.
        reads_rotated: whether attention to plan and memory uses rotary positions.
        input_scale: factor on the inputs.
    """

    width: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    hidden: int
    sliding_windows: tuple[int | None, ...]
    interleaved: bool
    num_loops: int = 1
    rope_base: float = 10_000.0
    reads_rotated: bool = True
    input_scale: float = 1.0

    @classmethod
    def of(cls, config: ModelConfig, level: int) -> "LevelShape":
        """Return the shape of ``level``."""
        width = config.widths[level]
        return cls(
            width,
            config.level_heads[level],
            config.level_kv_heads[level],
            config.level_head_sizes[level],
            config.block.hidden_width(width),
            # Those of the token encoder come first.
            tuple(config.block_windows(level)[-config.depths[level] :]),
            interleaved=config.sharing == "nested" and config.nested.slicing == "head_size",
            num_loops=config.level_loops[level],
            rope_base=config.block.rope_base,
            reads_rotated=config.reader.rotated,
            input_scale=width**0.5 if config.scale_inputs else 1.0,
        )

    @property
    def query_width(self) -> int:
        """Features of all heads of queries, h d."""
        return self.num_heads * self.head_size

    @property
    def key_width(self) -> int:
        """Features of all heads of keys or values, g d."""
        return self.num_kv_heads * self.head_size

    def window(self, index: int) -> int | None:
        """Return the sliding window of a pass through a block."""
        return self.sliding_windows[index % len(self.sliding_windows)]

    def rows(self, projection: Linear) -> int:
        """Return the rows that the level uses of a map to queries, keys or values."""
        return self.key_width if isinstance(projection, KeyLinear) else self.query_width

    def split(self, x: Tensor) -> Tensor:
        """Split (..., T, h d) or (..., T, g d) into heads, (..., h or g, T, d)."""
        # A single head has one layout; this one can be viewed as complex numbers.
        interleaved = self.interleaved and x.shape[-1] > self.head_size
        pattern = "... t (d h) -> ... h t d" if interleaved else "... t (h d) -> ... h t d"
        return rearrange(x, pattern, d=self.head_size)

    def merge(self, x: Tensor) -> Tensor:
        """Undo :meth:`split`: (..., h, T, d) to (..., T, h d)."""
        return rearrange(x, "... h t d -> ... t (d h)" if self.interleaved else "... h t d -> ... t (h d)")

    def feature_order(self, features: int) -> Tensor:
        """Return indices that put the features of each head next to each other, (features,)."""
        return self.split(torch.arange(features)[None]).flatten()


class LevelWeights(ABC):
    """Applies the matrices of a block, as far as a level uses them.

    Features between :meth:`project` and :meth:`write` may be in any order in which :meth:`split`
    and :meth:`merge` find the heads.

    Args:
        shape: the shape of the level.
    """

    def __init__(self, shape: LevelShape) -> None:
        self.shape = shape

    @abstractmethod
    def project(self, x: Tensor, *maps: Linear) -> tuple[Tensor, ...]:
        """Map (..., T, D_in) to the features of all heads, by each of ``maps``.

        Returns:
            (..., T, g d) of a :class:`~nextconcept.nn.layers.KeyLinear`, (..., T, h d) of others.
        """

    def split(self, x: Tensor) -> Tensor:
        """Split projected features into heads: (..., T, h d) to (..., h, T, d)."""
        return self.shape.split(x)

    def merge(self, x: Tensor) -> Tensor:
        """Return the heads side by side: the inverse of :meth:`split`."""
        return self.shape.merge(x)

    @abstractmethod
    def write(self, x: Tensor, out: Linear, gate: Tensor | None = None) -> Tensor:
        """Map merged heads (..., T, h d) to the residual stream, times a gate (D,)."""

    @abstractmethod
    def project_hidden(self, x: Tensor, *maps: Linear) -> tuple[Tensor, ...]:
        """Map (..., T, D) to the hidden features of the feed-forward layer, by each of ``maps``."""

    @abstractmethod
    def write_hidden(self, x: Tensor, out: Linear, gate: Tensor | None = None) -> Tensor:
        """Map features without heads (..., T, n) to the residual stream, times a gate (D,)."""


class SlicedWeights(LevelWeights):
    """Applies top-left blocks of the full matrices, through which gradients flow."""

    def project(self, x: Tensor, *maps: Linear) -> tuple[Tensor, ...]:
        """Apply one map after another."""
        return tuple(one(x, self.shape.rows(one)) for one in maps)

    def write(self, x: Tensor, out: Linear, gate: Tensor | None = None) -> Tensor:
        """Multiply the matrix by the gate, and apply the product."""
        written: Tensor = out(x, self.shape.width, gate)
        return written

    def project_hidden(self, x: Tensor, *maps: Linear) -> tuple[Tensor, ...]:
        """Apply one map after another."""
        return tuple(one(x, self.shape.hidden) for one in maps)

    write_hidden = write
