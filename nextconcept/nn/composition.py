"""Elements of a chunk -> one concept.

Shapes: N chunks, c chunk size, D width, S tokens under a concept.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextconcept.core.config import ModelConfig
from nextconcept.core.config_groups import REDUCTIONS
from nextconcept.nn.chunks import Chunks
from nextconcept.nn.feed_forward import GeGlu
from nextconcept.nn.initial_weights import draw
from nextconcept.nn.layers import Linear, binding_angles, compute_dtype, normalise, rotate

__all__ = ["Composition"]


class _Mlp(nn.Module):
    def __init__(self, width: int, readers: Sequence[int]) -> None:
        super().__init__()
        self.up, self.down = Linear(width, width), Linear(width, width)
        draw(self.up.weight, readers)
        draw(self.down.weight, readers)

    def forward(self, x: Tensor) -> Tensor:
        """Map elements (..., D) to (..., D)."""
        mapped: Tensor = self.down(F.gelu(self.up(x, x.shape[-1])), x.shape[-1])
        return mapped


class _GeGlu(nn.Module):
    def __init__(self, width: int, readers: Sequence[int], config: ModelConfig) -> None:
        super().__init__()
        self.hidden = GeGlu(width, config.block, readers)
        self.down = Linear(config.block.hidden_width(width), width, config.block.feed_forward_bias)
        draw(self.down.weight, [config.block.hidden_width(reader) for reader in readers])

    def forward(self, x: Tensor) -> Tensor:
        """Map elements (..., D) to (..., D)."""
        mapped: Tensor = self.down(self.hidden(x), x.shape[-1])
        return mapped


class _Join(nn.Module):
    """A linear map of all elements of a chunk together: one matrix per position, summed.

    ``lengths`` are the elements of a chunk, at most and on average.
    """

    def __init__(self, width: int, readers: Sequence[int], lengths: tuple[int, float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(lengths[0], width, width))
        draw(self.weight, readers, factor=lengths[1] ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map the elements of a chunk (..., c, D) to one vector (..., D)."""
        places, width = x.shape[-2:]
        return torch.einsum("...cd,ced->...e", x, self.weight[:places, :width, :width])


class _JoinMlp(nn.Module):
    def __init__(self, width: int, readers: Sequence[int], lengths: tuple[int, float]) -> None:
        super().__init__()
        self.join, self.down = _Join(width, readers, lengths), Linear(width, width)
        draw(self.down.weight, readers)

    def forward(self, x: Tensor) -> Tensor:
        """Map the elements of a chunk (..., c, D) to one vector (..., D)."""
        joined: Tensor = self.down(F.gelu(self.join(x)), x.shape[-1])
        return joined


class Composition(nn.Module):
    """Composes chunks of one level into concepts of the next, by the configured chain.

    With position binding, each element is rotated by its position first. ``sum``, ``mean`` and
    ``max`` reduce the chunk; ``linear``, ``mlp`` and ``geglu`` map elements or concepts; without a
    reduction the last ``linear`` or ``mlp`` maps the whole chunk to one vector. The norm has no
    gain: with a learned gain, targets could shrink to reduce the loss.

    Args:
        config: the model's configuration.
        width: full width of learned maps; narrower elements use their top-left blocks.
        levels: the levels whose concepts are composed; by default all.
    """

    def __init__(self, config: ModelConfig, width: int, levels: Sequence[int] = ()) -> None:
        super().__init__()
        levels = levels or config.hierarchy.concept_levels
        self.config, readers = config, [config.widths[level] for level in levels]
        lengths = [config.hierarchy.chunk_lengths(level) for level in levels]
        # A map of all elements has a matrix for each place of the longest chunk.
        self.lengths = max(most for most, _ in lengths), lengths[0][1]
        chain = config.encoder.chain
        self.chain = chain if "norm" in chain else [*chain, "norm"]
        learned = [index for index, name in enumerate(self.chain) if name in ("linear", "mlp", "geglu")]
        joining = [index for index in learned if self.chain[index] != "geglu"]
        self.joins = None if set(chain) & set(REDUCTIONS) else joining[-1]
        self.maps = nn.ModuleDict({str(index): self._map(index, width, readers) for index in learned})

    def _map(self, index: int, width: int, readers: Sequence[int]) -> nn.Module:
        if index == self.joins:
            join = _Join if self.chain[index] == "linear" else _JoinMlp
            return join(width, readers, self.lengths)
        if self.chain[index] == "geglu":
            return _GeGlu(width, readers, self.config)
        if self.chain[index] == "mlp":
            return _Mlp(width, readers)
        linear = Linear(width, width)
        draw(linear.weight, readers)
        return linear

    def norm(self, x: Tensor) -> Tensor:
        """Normalise (..., D) concepts, composed or predicted, as a composition does."""
        return normalise(x, self.config.block.norm)

    def forward(self, chunks: Tensor, stride: int) -> Tensor:
        """Compose.

        Args:
            chunks: (..., c, D), or with ``encoder.flat`` all tokens of a chunk, (..., S, D).
            stride: tokens under one element; positions are counted in tokens, so that every token
                below a concept has a rotation of its own.

        Returns:
            (..., D).
        """

        def reduce(name: str, x: Tensor) -> Tensor:
            """Reduce (..., c, D) over the elements of chunks of one length."""
            reduced: Tensor = x.amax(-2) if name == "max" else getattr(x, name)(-2)
            return reduced

        return self._run(self.bind(chunks, stride), reduce)

    def of_chunks(self, elements: Tensor, chunks: Chunks, most: int) -> Tensor:
        """Compose the elements of chunks of unequal lengths: (B, n, D) to (B, N, D).

        Each element is rotated by its distance in tokens from the first one of its chunk. A map of
        all elements of a chunk takes those that are not there for zeros. Chunks that are not
        complete are arbitrary.

        Args:
            elements: (B, n, D).
            chunks: the chunks.
            most: elements of the longest chunk, for a composition without a reduction.
        """

        def reduce(name: str, x: Tensor) -> Tensor:
            """Reduce (B, N, D) elements over the chunks that rules cut."""
            if name == "max":
                return chunks.max(x)
            total = chunks.sum(x)
            return total / chunks.lengths.clamp(min=1)[..., None].to(x.dtype) if name == "mean" else total

        bound = self.bind_at(elements, chunks.turns(elements)[:, :-1])
        return self._run(bound, reduce, lambda x: chunks.elements(x, most))

    def _run(
        self,
        x: Tensor,
        reduce: Callable[[str, Tensor], Tensor],
        gather: Callable[[Tensor], Tensor] = lambda x: x,
    ) -> Tensor:
        """Apply the chain to bound elements.

        ``reduce`` applies an operation of REDUCTIONS, and ``gather`` brings the elements of a chunk
        together for a map of all of them.
        """
        for index, name in enumerate(self.chain):
            if index == self.joins:
                x = gather(x)
            if name == "norm":
                x = self.norm(x)
            elif name in REDUCTIONS:
                x = reduce(name, x)
            else:
                mapped = self.maps[str(index)]
                x = mapped(x, x.shape[-1]) if isinstance(mapped, Linear) else mapped(x)
        return x

    def before_sum(self, bound: Tensor) -> Tensor:
        """Apply what an additive composition does with bound elements before it adds them up."""
        norms = next(index for index, name in enumerate(self.chain) if name in REDUCTIONS)
        for _ in range(norms):
            bound = self.norm(bound)
        return bound

    def after_sum(self, total: Tensor, count: Tensor) -> Tensor:
        """Turn sums (..., D) of ``count`` (...) elements into concepts of a sum or mean."""
        reduction = next(name for name in self.chain if name in REDUCTIONS)
        if reduction == "mean":
            total = total / count[..., None].to(total.dtype)
        for _ in self.chain[self.chain.index(reduction) + 1 :]:
            total = self.norm(total)
        return total

    def bind(self, elements: Tensor, stride: int, undo: bool = False) -> Tensor:
        """Rotate element i of (..., n, D) by ``i * stride``; with ``undo``, in reverse."""
        return self.bind_at(elements, torch.arange(elements.shape[-2], device=elements.device) * stride, undo)

    def bind_at(self, elements: Tensor, positions: Tensor, undo: bool = False) -> Tensor:
        """Rotate (..., n, D) by positions; with ``undo``, in reverse.

        Args:
            elements: (..., n, D).
            positions: (..., n) in tokens, or (..., n, D / 2), what :meth:`.Chunks.turns` made of
                them.
            undo: whether to rotate in reverse.
        """
        if not self.config.encoder.position_binding:
            return elements
        turns = positions
        if not (turns.is_complex() or turns.is_floating_point()):
            turns = binding_angles(positions, elements.shape[-1], compute_dtype(elements.dtype))
        if undo:
            turns = turns.conj() if turns.is_complex() else -turns
        return rotate(elements, turns)
