"""The matrices of a level, laid out for the few positions of a step.

The work on a single position is a few small products, so their number decides the speed: matrices
that are applied to one input are packed into one.

Shapes: R rows that take a step, n positions of a row, h heads of queries, g heads of keys and
values, d head size.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from nextconcept.nn.layers import Linear
from nextconcept.nn.level_weights import LevelShape, LevelWeights

__all__ = ["PackedWeights"]


class PackedWeights(LevelWeights):
    """Copies of the matrices that a level uses, each laid out for products with a single vector.

    Maps of one input are packed into one matrix when they are first used. Projected features are
    ordered by head. Changes of the model's weights after that have no effect.

    Args:
        shape: the shape of the level.
    """

    def __init__(self, shape: LevelShape) -> None:
        super().__init__(shape)
        self._packed: dict[tuple[object, ...], Tensor] = {}
        self._biases: dict[tuple[Linear, ...], Tensor] = {}

    def _matrix(self, maps: tuple[Linear, ...], pack: Callable[[Linear], Tensor], gate: Tensor | None = None) -> Tensor:
        """Return the matrix (in, out) of maps side by side, multiplied by a gate (out,)."""
        key = maps if gate is None else (*maps, gate)  # a tensor's hash is its identity
        matrix = self._packed.get(key)
        if matrix is None:
            packed = torch.cat([pack(one) for one in maps])
            matrix = self._packed[key] = _laid_out(packed if gate is None else gate[:, None] * packed)
        return matrix

    def _order(self, features: int) -> Tensor | slice:
        return self.shape.feature_order(features) if self.shape.interleaved else slice(None)

    def project(self, x: Tensor, *maps: Linear) -> tuple[Tensor, ...]:
        """Apply all maps in one product."""
        columns, rows = x.shape[-1], self.shape.rows

        def pack(one: Linear) -> Tensor:
            return one.weight[: rows(one), :columns][self._order(rows(one))]

        projected = x @ self._matrix(maps, pack)
        return projected.split([rows(one) for one in maps], -1) if len(maps) > 1 else (projected,)

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
        columns = x.shape[-1]

        def pack(one: Linear) -> Tensor:
            return one.weight[: self.shape.width, :columns][:, self._order(columns)]

        return x @ self._matrix((out,), pack, gate)

    def project_hidden(self, x: Tensor, *maps: Linear) -> tuple[Tensor, ...]:
        """Apply all maps in one product."""
        matrix = self._matrix(maps, lambda one: one.weight[: self.shape.hidden, : x.shape[-1]])
        return self._add_bias(x @ matrix, maps, self.shape.hidden).chunk(len(maps), -1)

    def write_hidden(self, x: Tensor, out: Linear, gate: Tensor | None = None) -> Tensor:
        """Apply the map, multiplied by the gate."""
        product = x @ self._matrix((out,), lambda one: one.weight[: self.shape.width, : x.shape[-1]], gate)
        return self._add_bias(product, (out,), self.shape.width)

    def _add_bias(self, x: Tensor, maps: tuple[Linear, ...], rows: int) -> Tensor:
        if maps[0].bias is None:
            return x
        if maps not in self._biases:
            self._biases[maps] = torch.cat([one.bias[:rows] for one in maps])
        return x + self._biases[maps]


def _laid_out(weight: Tensor) -> Tensor:
    """Return (out, in) as a matrix (in, out) to multiply from the right, longer side contiguous.

    A product with a single vector is bound by reading the matrix, which is faster along the longer
    side.
    """
    rows, columns = weight.shape
    return weight.t().contiguous() if rows > columns else weight.contiguous().t()
