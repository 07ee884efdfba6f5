"""A level that advances by one position, with the keys and values of earlier positions kept.

The work on a single position is a few small products, so their number decides the speed: the matrices that a level uses are packed
once into as few as possible, and everything about positions is computed once per step for all blocks.

Shapes: B rows of the batch, R rows that take a step, S slots, h heads, d head size, D width, b blocks, H horizon, A anchors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nextconcept.nn.attention import LevelShape, MemoryAttention, PlanAttention, PlanPrefix, RolloutCache
from nextconcept.nn.layers import Norm, rotary_angles, rotate
from nextconcept.nn.transformer import Block, PlanGates, Transformer

__all__ = ["LevelStepper", "RowPositions", "RingCache"]


class RowPositions:
    """Where rows stand.

    Args:
        last: (R,) position of each row, on the CPU.
        rows: (R,) their indices in the batch, or None for all of it.
        device: where the model is.

    Attributes:
        last: (R,) on the device.
        newest: the greatest position.
        oldest: the smallest one.
    """

    def __init__(self, last: Tensor, rows: Tensor | None, device: torch.device) -> None:
        self.oldest, self.newest = (int(bound) for bound in last.aminmax())
        self.last = last.to(device)
        self.rows = None if rows is None else rows.to(device)
        self._cpu = last

    def coarser(self, chunk_size: int, first: int) -> "RowPositions":
        """The anchors of the chunks of the elements that the positions predict."""
        return RowPositions((self._cpu + first) // chunk_size, self.rows, self.last.device)

    def of(self, stored: Tensor) -> Tensor:
        """The part of (B, ...) that belongs to the rows."""
        return stored if self.rows is None else stored[self.rows]

    def angles(self, positions: Tensor, shape: LevelShape, base: float) -> Tensor:
        """Rotations by (...) positions, (..., 1, d / 2): complex where :func:`~nextconcept.nn.layers.rotate` is fastest."""
        angles = rotary_angles(positions, shape.head_size, base).unsqueeze(-2)
        return torch.polar(torch.ones_like(angles), angles)


class RingCache:
    """A ring of the latest keys and values of each row.

    Args:
        rows: B.
        shape: (E, h, d): entries per position (a key and a value for each block), heads and head size.
        size: S, positions kept.
        window: positions that are seen, or None for all.
        like: a tensor of the right dtype and device.
    """

    def __init__(self, rows: int, shape: tuple[int, int, int], size: int, window: int | None, like: Tensor) -> None:
        entries, heads, features = shape
        self.window, self.size = window, size if window is None else min(size, window)
        self.data = like.new_zeros(rows, entries, heads, self.size, features)

    def load(self, place: RowPositions, entries: Tensor) -> None:
        """Keep the end of (R, E, h, T, d), row r being at position ``place.last[r]``."""
        slots = torch.arange(self.size, device=entries.device)
        last = place.last[:, None]
        position = (last - (last - slots) % self.size).clamp(0, entries.shape[3] - 1)
        index = position[:, None, None, :, None].expand(-1, *entries.shape[1:3], -1, entries.shape[4])
        loaded = entries.gather(3, index)
        self.data[slice(None) if place.rows is None else place.rows] = loaded.to(self.data.dtype)

    def write(self, place: RowPositions, entries: Tensor) -> None:
        """Put (R, E, h, d) into the slots of the positions of ``place``."""
        if place.rows is None and place.oldest == place.newest:
            self.data[:, :, :, place.newest % self.size] = entries
        else:
            rows = torch.arange(len(self.data), device=place.last.device) if place.rows is None else place.rows
            self.data[rows, :, :, place.last % self.size] = entries

    def read(self, place: RowPositions, shift: int = 0) -> tuple[Tensor, Tensor | None]:
        """What a query sees that stands ``shift`` behind ``place``: (R, E, h, n, d), and (R, 1, 1, n) bool or None for all."""
        count = min(self.size, place.newest + 1)
        kept = place.of(self.data)[..., :count, :]
        if place.oldest + 1 >= count and (shift == 0 or self.window is None):
            return kept, None
        age = (place.last[:, None] - torch.arange(count, device=place.last.device)) % self.size
        visible = age <= place.last[:, None]
        if self.window is not None:
            visible &= age + shift < self.window
        return kept, visible[:, None, None]


def _attend(query: Tensor, seen: list[tuple[Tensor, Tensor | None]]) -> Tensor:
    """(R, h, 1, d) over several (R, 2, h, n, d) keys and values with their visibility, in one softmax: (R, D)."""
    if len(seen) == 1:
        (entries, mask), *_ = seen
    else:
        entries = torch.cat([part for part, _ in seen], 3)
        masks = [
            torch.ones(part.shape[0], 1, 1, part.shape[3], dtype=torch.bool, device=part.device)
            if seen_ is None
            else seen_
            for part, seen_ in seen
        ]
        mask = torch.cat([part.expand(query.shape[0], -1, -1, -1) for part in masks], 3)
    return F.scaled_dot_product_attention(query, entries[:, 0], entries[:, 1], attn_mask=mask).flatten(1)


def _laid_out(weight: Tensor) -> Tensor:
    """(out, in) to the matrix (in, out) that is applied from the right, its longer side contiguous.

    A product with a single vector is bound by reading the matrix, and that goes faster along the longer side.
    """
    rows, columns = weight.shape
    return weight.t().contiguous() if rows > columns else weight.contiguous().t()


@dataclass
class _Reader:
    """What reads plan and past in one block: their matrices side by side, the gates multiplied in."""

    norm: Norm
    query: Tensor
    out: Tensor

    @classmethod
    def of(cls, block: Block, shape: LevelShape, gates: PlanGates, index: int) -> "_Reader | None":
        if block.reading_norm is None:
            return None
        width, order = shape.width, shape.feature_order()
        readers = [(block.plan_attention, gates.plan), (block.memory_attention, gates.past)]
        parts = [(part, gates.opening * gate[index]) for part, gate in readers if part is not None and gate is not None]
        queries = [part.query.weight[:width, :width][order] for part, _ in parts]
        outs = [gate[:, None] * part.out.weight[:width, :width][:, order] for part, gate in parts]
        return cls(block.reading_norm, _laid_out(torch.cat(queries)), _laid_out(torch.cat(outs, 1)))


@dataclass
class _Packed:
    """The matrices of one block that a level uses, each (in, out), the features of each head together; the same in all passes."""

    block: Block
    qkv: Tensor
    out: Tensor
    up: Tensor
    down: Tensor

    @classmethod
    def of(cls, block: Block, shape: LevelShape) -> "_Packed":
        width, order = shape.width, shape.feature_order()
        attention, forward = block.attention, block.feed_forward
        qkv = torch.cat(
            [part.weight[:width, :width][order] for part in (attention.query, attention.key, attention.value)]
        )
        up = [part.weight[: shape.hidden, :width] for part in (forward.gate, forward.up) if part is not None]
        out = _laid_out(attention.out.weight[:width, :width][:, order])
        down = _laid_out(forward.down.weight[:width, : shape.hidden])
        return cls(block, _laid_out(qkv), out, _laid_out(torch.cat(up)), down)


@dataclass
class _Pass:
    """A pass through a block, which may have several: what its gates are multiplied into is its own."""

    packed: _Packed
    reader: _Reader | None
    gate: Tensor | None

    @classmethod
    def of(cls, packed: _Packed, shape: LevelShape, gates: PlanGates | None, index: int) -> "_Pass":
        if gates is None:
            return cls(packed, None, None)
        gate = gates.opening * gates.plan[index]
        reader = _Reader.of(packed.block, shape, gates, index)
        return cls(packed, reader, gate[shape.feature_order()] if packed.block.plan_prefix else None)


class LevelStepper:
    """Runs a transformer at one level, position by position.

    Args:
        transformer: the weights.
        shape: the part of them to use.
        rows: B.
        size: positions that are ever kept.
        gates: of a level that reads a plan.
        chunk_size: c.
        first: element that position 0 predicts; see :class:`~nextconcept.nn.attention_kernels.ChunkFold`.
        memory_window: anchors that the past reaches back, or None for all.
    """

    def __init__(
        self,
        transformer: Transformer,
        shape: LevelShape,
        rows: int,
        size: int,
        gates: PlanGates | None = None,
        chunk_size: int = 1,
        first: int = 0,
        memory_window: int | None = None,
    ) -> None:
        blocks = transformer.passes(shape.num_loops)
        self.shape, self.norm, self.base = shape, transformer.norm, blocks[0].attention.rope_base
        self.chunk_size, self.first = chunk_size, first
        packed = {block: _Packed.of(block, shape) for block in dict.fromkeys(blocks)}
        self.passes = [_Pass.of(packed[block], shape, gates, index) for index, block in enumerate(blocks)]
        like, heads = self.passes[0].packed.qkv, (shape.num_heads, shape.head_size)
        self.slots = [RingCache(rows, (2, *heads), size, shape.sliding_window, like) for _ in blocks]
        self.past: RingCache | None = None
        self.plan = self.plan_weight = self.memory_weight = like.new_zeros(0)
        self._rows = rows
        self.reads, self.prefix = gates is not None, blocks[0].plan_prefix is not None
        if not self.reads:
            return
        self.plan_weight = self._stack([block.plan_prefix or block.plan_attention for block in blocks])
        if blocks[0].memory_attention is not None:
            self.memory_weight = self._stack([block.memory_attention for block in blocks])
            entries = (2 * len(blocks), *heads)
            self.past = RingCache(rows, entries, size // chunk_size + 2, memory_window, like)

    def _stack(self, parts: Sequence[PlanPrefix | PlanAttention | MemoryAttention | None]) -> Tensor:
        """Keys and values of all passes through blocks, side by side: (D_above, b 2 D)."""
        order = self.shape.feature_order()
        maps = [linear.weight[: self.shape.width][order] for part in parts if part for linear in (part.key, part.value)]
        return _laid_out(torch.cat(maps))

    def load(self, place: RowPositions, cache: RolloutCache) -> None:
        """Take over the keys and values of a pass over whole prefixes."""
        for slots, (key, value) in zip(self.slots, cache.prefix, strict=True):
            slots.load(place, torch.stack((key, value), 1))

    def load_memory(self, place: RowPositions, past: Tensor | None) -> None:
        """Take over the past (R, A, D_above) of whole prefixes, if the level reads it; ``place`` is that of the anchors."""
        if self.past is None or past is None:
            return
        positions = torch.arange(past.shape[1], device=past.device) * self.chunk_size
        self.past.load(place, self._keys(past, self.memory_weight, positions))

    def read_memory(self, place: RowPositions, past: Tensor) -> None:
        """Go on with the past (R, D_above) of the next anchor, if the level reads it."""
        if self.past is None:
            return
        entries = self._keys(past[:, None], self.memory_weight, place.last[:, None] * self.chunk_size)
        self.past.write(place, entries.squeeze(3))

    def read_plan(self, place: RowPositions, plan: Tensor) -> None:
        """Read the plan (R, H, D_above) of the anchors at ``place`` from now on."""
        steps = torch.arange(plan.shape[1], device=plan.device) * self.chunk_size
        if self.prefix:
            steps = place.last[:, None] * self.chunk_size + steps - self.first
        keys = self._keys(plan, self.plan_weight, steps)
        if place.rows is None:
            self.plan = keys
        else:
            if not self.plan.numel():
                self.plan = keys.new_zeros(self._rows, *keys.shape[1:])
            self.plan[place.rows] = keys

    def _keys(self, memory: Tensor, weight: Tensor, positions: Tensor) -> Tensor:
        """(R, n, D_above) to the keys, turned to (n,) or (R, n) positions, and values of all passes: (R, 2 b, h, n, d)."""
        entries = (memory @ weight[: memory.shape[-1]]).unflatten(
            -1, (-1, 2, self.shape.num_heads, self.shape.head_size)
        )
        entries = entries.permute(0, 2, 3, 4, 1, 5)  # (R, b, 2, h, n, d)
        angles = rotary_angles(positions, self.shape.head_size, self.base)
        angles = angles if positions.dim() == 1 else angles[:, None, None]
        return torch.stack((rotate(entries[:, :, 0], angles), entries[:, :, 1]), 2).flatten(1, 2)

    def step(self, x: Tensor, place: RowPositions, shift: int = 0, own: Sequence[list[Tensor]] = ()) -> Tensor:
        """Run one position of each row.

        Args:
            x: (R, D) inputs.
            place: their positions.
            shift: of a rollout: steps behind ``place``; 0 is a true position, which is kept.
            own: per pass through a block, keys and values of the rollout so far; this step's are added.

        Returns:
            (R, D) normalised hidden states.
        """
        turn = place.angles(place.last + shift, self.shape, self.base)[:, None]  # (R, 1, 1, d / 2)
        if self.reads:
            anchors, read = place.coarser(self.chunk_size, self.first), self._read_turn(place, shift)
            past = self.past.read(anchors) if self.past else None
            plan = place.of(self.plan)
        for index, one in enumerate(self.passes):
            packed, reader, gate = one.packed, one.reader, one.gate
            block, at = packed.block, slice(2 * index, 2 * index + 2)
            qkv = (block.attention_norm(x) @ packed.qkv).view(-1, 3, self.shape.num_heads, self.shape.head_size)
            turned, value = rotate(qkv[:, :2], turn), qkv[:, 2]
            entry, query = torch.stack((turned[:, 1], value), 1), turned[:, 0].unsqueeze(-2)
            seen = [self._remember(index, place, shift, entry, own)]
            if shift:
                seen += self._own(own[index])
            mixed = _attend(query, seen)
            if gate is not None:
                mixed = mixed + gate * (_attend(query, [*seen, (plan[:, at], None)]) - mixed)
            x = x + block.after_attention(mixed @ packed.out)
            if reader is not None:
                queries = reader.norm(x) @ reader.query
                queries = queries.unflatten(-1, (-1, self.shape.num_heads, self.shape.head_size))
                queries = rotate(queries, read).unsqueeze(-2)
                parts = [] if self.prefix else [_attend(queries[:, 0], [(plan[:, at], None)])]
                if past is not None:
                    parts.append(_attend(queries[:, -1], [(past[0][:, at], past[1])]))
                x = x + torch.cat(parts, -1) @ reader.out
            inner = block.feed_forward_norm(x) @ packed.up
            if block.feed_forward.gate is None:
                inner = F.gelu(inner)
            else:
                gated, up = inner.chunk(2, -1)
                inner = F.silu(gated) * up
            x = x + block.after_feed_forward(inner @ packed.down)
        states: Tensor = self.norm(x)
        return states

    def _remember(
        self, index: int, place: RowPositions, shift: int, entry: Tensor, own: Sequence[list[Tensor]]
    ) -> tuple[Tensor, Tensor | None]:
        if shift == 0:
            self.slots[index].write(place, entry)
        else:
            own[index].append(entry)
        return self.slots[index].read(place, shift)

    def _own(self, entries: list[Tensor]) -> list[tuple[Tensor, Tensor | None]]:
        """The rollout's own positions that are inside the window."""
        window = len(entries) if self.shape.sliding_window is None else self.shape.sliding_window
        return [(torch.stack(entries[-window:], 3), None)]

    def _read_turn(self, place: RowPositions, shift: int) -> Tensor:
        """Rotations of the queries that read plan and past: (R, 0 to 2, 1, d / 2)."""
        element = place.last + self.first
        positions = [] if self.prefix else [element % self.chunk_size + shift]
        if self.past is not None:
            positions.append(element + shift)
        stacked = torch.stack(positions, 1) if positions else element.new_zeros(len(element), 0)
        return place.angles(stacked, self.shape, self.base)
