"""The matrices of a level, laid out for the few positions of a step.

The work on a single position is a few small products, so their number decides the speed: matrices
that are applied to one input are packed into one.

Shapes: R rows that take a step, n positions of a row, h heads of queries, g heads of keys and
values, d head size.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nextconcept.nn.layers import Linear
from nextconcept.nn.level_weights import LevelShape, LevelWeights

__all__ = ["PackedWeights"]

PACKED_AFTER = 32
"""Products with a matrix after which packing it has taken as long as it saves."""


class PackedWeights(LevelWeights):
    """The matrices that a level uses, each laid out for products with a single vector.

    Maps of one input are packed into one matrix when they have been used for a while: copying them
    takes as long as a few dozen products, and a short answer has fewer. Projected features are
    ordered by head. The model's weights must not change while they are used here.

    Args:
        shape: the shape of the level.
    """

    def __init__(self, shape: LevelShape) -> None:
        super().__init__(shape)
        self._matrices: dict[tuple[object, ...], list[Tensor]] = {}
        self._sizes: dict[tuple[object, ...], list[int]] = {}
        self._uses: dict[tuple[object, ...], int] = {}

    def _products(
        self, x: Tensor, maps: tuple[Linear, ...], part_of: Callable[[Linear], Tensor], gate: Tensor | None = None
    ) -> Sequence[Tensor]:
        """Apply maps to (..., in) features, of each the (out, in) part, times a gate (out,)."""
        key = maps if gate is None else (*maps, gate)  # a tensor's hash is its identity
        uses = self._uses[key] = self._uses.get(key, 0) + 1
        if uses == 1:
            parts = [part_of(one) for one in maps]
            self._matrices[key] = [(part if gate is None else gate[:, None] * part).t() for part in parts]
            self._sizes[key] = [len(part) for part in parts]
        elif uses == PACKED_AFTER:
            self._matrices[key] = [_laid_out(torch.cat(self._matrices[key], 1))]
        products = [x @ matrix for matrix in self._matrices[key]]
        if len(products) == len(maps):
            return products
        separate: Sequence[Tensor] = products[0].split(self._sizes[key], -1)
        return separate

    def _ordered(self, part: Tensor, axis: int) -> Tensor:
        """Put the features of each head next to each other along an axis of (out, in)."""
        if not self.shape.interleaved:
            return part
        return part.index_select(axis, self.shape.feature_order(part.shape[axis]).to(part.device))

    def project(self, x: Tensor, *maps: Linear) -> tuple[Tensor, ...]:
        """Apply all maps."""
        columns, rows = x.shape[-1], self.shape.rows
        return tuple(self._products(x, maps, lambda one: self._ordered(_part(one, rows(one), columns), 0)))

    def split(self, x: Tensor) -> Tensor:
        """Split (R, h d) into (R, h, 1, d), or (R, n, h d) into (R, h, n, d); also g for h."""
        heads, size = x.shape[-1] // self.shape.head_size, self.shape.head_size
        if x.dim() == 2:
            return x.reshape(-1, heads, 1, size)
        split: Tensor = x.unflatten(-1, (heads, size)).transpose(1, 2)
        return split

    def merge(self, x: Tensor) -> Tensor:
        """Merge (R, h, 1, d) into (R, h d), or (R, h, n, d) into (R, n, h d)."""
        return x.flatten(1) if x.shape[2] == 1 else x.transpose(1, 2).flatten(2)

    def write(self, x: Tensor, out: Linear, gate: Tensor | None = None) -> Tensor:
        """Apply the map, multiplied by the gate."""
        columns, rows = x.shape[-1], self.shape.width
        return self._products(x, (out,), lambda one: self._ordered(_part(one, rows, columns), 1), gate)[0]

    def project_hidden(self, x: Tensor, *maps: Linear) -> tuple[Tensor, ...]:
        """Apply all maps."""
        columns, rows = x.shape[-1], self.shape.hidden
        products = self._products(x, maps, lambda one: _part(one, rows, columns))
        return tuple(_add_bias(*pair, rows) for pair in zip(products, maps, strict=True))

    def write_hidden(self, x: Tensor, out: Linear, gate: Tensor | None = None) -> Tensor:
        """Apply the map, multiplied by the gate."""
        columns, rows = x.shape[-1], self.shape.width
        return _add_bias(self._products(x, (out,), lambda one: _part(one, rows, columns), gate)[0], out, rows)


def _part(one: Linear, rows: int, columns: int) -> Tensor:
    """Return the top-left block (rows, columns) of a map's matrix."""
    return one.weight if one.weight.shape == (rows, columns) else one.weight[:rows, :columns]


def _add_bias(x: Tensor, one: Linear, rows: int) -> Tensor:
    return x if one.bias is None else x + one.bias[:rows]


def _laid_out(matrix: Tensor) -> Tensor:
    """Return (in, out) with its longer side contiguous.

    A product with a single vector is bound by reading the matrix, which is faster along the longer
    side.
    """
    rows, columns = matrix.shape
    return matrix.contiguous() if rows < columns else matrix.t().contiguous().t()
