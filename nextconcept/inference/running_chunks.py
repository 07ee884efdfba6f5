"""Where texts that grow stand in the chunks that rules cut, kept from token to token.

Of what has been read, each row keeps the state of every rule's automaton and a few numbers, so that
a token takes the same time in a long text as in a short one. Whole texts are cut by
:mod:`nextconcept.core.chunk_ends`, which finds the same ends.

All of it is on the CPU, as lengths are: how many chunks are complete decides which levels advance.

Shapes: B rows of the batch, R rows that are read, T visible tokens, K concept levels, W tokens of
the longest chunk.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from nextconcept.core.chunk_ends import chunk_room, rule_ends, rule_states
from nextconcept.nn.chunks import Chunker, Chunks, lay_out

__all__ = ["OpenChunk", "RunningChunks"]


@dataclass
class OpenChunk:
    """The chunk of a level that the next token belongs to, in each of R rows.

    Attributes:
        number: (R,) complete chunks before it.
        first: (R,) first element of it.
        start: (R,) first token of it.
        previous: (R,) first token of the chunk before it, or 0.
    """

    number: Tensor
    first: Tensor
    start: Tensor
    previous: Tensor

    def select(self, index: Tensor) -> "OpenChunk":
        """Return the chunks of some of the rows, by their indices."""
        return OpenChunk(*(getattr(self, one.name)[index] for one in fields(self)))


class RunningChunks:
    """Cuts rows that grow, and reads each token once.

    Args:
        chunker: the rules.
        rows: B.
    """

    def __init__(self, chunker: Chunker, rows: int) -> None:
        self.chunker, self.rules, context = chunker, chunker.hierarchy.rules, chunker.context
        self.tables = {level: (states.cpu(), ends.cpu()) for level, (states, ends) in chunker.tables.items()}
        self.room = chunk_room(chunker.hierarchy, context, context)
        self.lengths = torch.zeros(rows, dtype=torch.long)
        # Per level, (6, B): state of the rule, tokens up to the last one after which it would end a
        # chunk, and the fields of an OpenChunk.
        self.numbers = {level: torch.zeros(6, rows, dtype=torch.long) for level in chunker.hierarchy.concept_levels}
        # Whether a chunk of each level ends after each token; the last place is that of no token.
        self.ends = torch.zeros(rows, context + 1, len(self.rules), dtype=torch.bool)

    def load(self, tokens: Tensor, lengths: Tensor, rows: Tensor) -> dict[int, OpenChunk]:
        """Read whole rows, in parallel.

        Args:
            tokens: (R, T) visible tokens; what stands after the end of a row is arbitrary.
            lengths: (R,) how many they are.
            rows: (R,) indices of the rows.

        Returns:
            Per level, the chunks that the rows end in.
        """
        place, found = torch.arange(1, tokens.shape[1] + 1, device=tokens.device), self.chunker.ends(tokens)
        length = lengths.to(tokens.device)[:, None]
        below = there = place <= length
        for level, every_end in found.items():
            ends, zero = every_end & there, length.new_zeros(len(tokens))
            state = fired = zero
            if level in self.tables:
                following, table = self.chunker.tables[level]
                states = rule_states(tokens, following)
                state = states.gather(1, length)[:, 0]
                fired = _last(place, table[states[:, :-1], tokens] & there)
            start = _last(place, ends)
            previous = _last(place, ends & (place < start[:, None]))
            first = (below & (place <= start[:, None])).sum(1)
            self.numbers[level][:, rows] = torch.stack((state, fired, ends.sum(1), first, start, previous)).cpu()
            below = ends
        self.lengths[rows] = lengths
        self.ends[rows, : tokens.shape[1]] = torch.stack(list(found.values()), 2).cpu()
        return self._open(rows)

    def read(self, ids: Tensor, starts: Tensor, lengths: Tensor, rows: Tensor | None) -> dict[int, OpenChunk]:
        """Read the tokens that have been added to rows since they were read last.

        Args:
            ids: (R, L) texts; what stands after the end of a row is arbitrary.
            starts: (R,) first visible token, as when the row was read last.
            lengths: (R,) tokens of each row.
            rows: (R,) indices of the rows, or None for all.

        Returns:
            Per level, the chunks that the rows end in.
        """
        every = torch.arange(len(self.lengths)) if rows is None else rows
        known, lengths = self.lengths[every], lengths - starts
        index = (starts + known)[:, None] + torch.arange(int((lengths - known).max()))
        tokens = ids.gather(1, index.clamp(max=ids.shape[1] - 1).to(ids.device)).cpu()
        numbers = {level: one[:, every] for level, one in self.numbers.items()}
        for token in tokens.unbind(1):
            there = known < lengths
            numbers, ends = self._advance(numbers, token, there, known)
            self.ends[every, torch.where(there, known, self.ends.shape[1] - 1)] = ends
            known = known + there
        for level, one in numbers.items():
            self.numbers[level][:, every] = one
        self.lengths[every] = known
        return self._open(rows)

    def _advance(
        self, numbers: dict[int, Tensor], token: Tensor, there: Tensor, known: Tensor
    ) -> tuple[dict[int, Tensor], Tensor]:
        """Read a token of each row.

        Args:
            numbers: per level, (6, R) as in :attr:`numbers`.
            token: (R,) token ids.
            there: (R,) bool, whether the row has a token.
            known: (R,) tokens before it.

        Returns:
            The numbers after it, and (R, K) bool, whether a chunk of each level ends with it.
        """
        time, found, every_end = known + 1, dict[int, Tensor](), list[Tensor]()
        # Whether the token ends an element of the level below, which that is, and its first token.
        ends, element, begin = there, time, known
        for level, rule in enumerate(self.rules, 1):
            state, fired, number, first, start, previous = numbers[level]
            cut = element - first == rule.max_length
            if level in self.tables:
                following, table = self.tables[level]
                fired = torch.where(there & table[state, token], time, fired)
                state = torch.where(there, following[state, token], state)
                # A chunk of elements ends with the element in whose tokens the rule ends one.
                cut = cut | (fired > begin)
            ends = ends & cut & (number < self.room[level])
            previous, start = torch.where(ends, start, previous), torch.where(ends, time, start)
            first, number = torch.where(ends, element, first), number + ends
            found[level] = torch.stack((state, fired, number, first, start, previous))
            every_end.append(ends)
            element, begin = number, previous
        return found, torch.stack(every_end, 1)

    def _open(self, rows: Tensor | None) -> dict[int, OpenChunk]:
        every = slice(None) if rows is None else rows
        return {level: OpenChunk(*one[2:, every].clone()) for level, one in self.numbers.items()}

    def ends_after(self, tokens: Tensor, rows: Tensor | None) -> Tensor:
        """Return whether the rule of level 1 ends a chunk after each of (R, n) further tokens.

        Nothing is kept of them. It is not asked how long chunks may be, and what follows the first
        end is arbitrary.
        """
        if 1 not in self.tables:
            return torch.zeros_like(tokens, dtype=torch.bool)
        state, _, number, *_ = self.numbers[1][:, slice(None) if rows is None else rows]
        ends: Tensor = rule_ends(tokens.cpu(), *self.tables[1], state) & (number < self.room[1])[:, None]
        return ends.to(tokens.device)

    def previous(self, chunk: OpenChunk, rows: Tensor | None, device: torch.device) -> tuple[Tensor, dict[int, Chunks]]:
        """Lay out by itself the chunk before an open one.

        Args:
            chunk: the open chunk of a level, where there is one before it.
            rows: (R,) indices of the rows, or None for all.
            device: device of the result.

        Returns:
            (R, W) its tokens, counted from the first visible one, and the chunks of all levels in
            these; it is the first one of its level. Those of levels above lack their beginning.
        """
        every = torch.arange(len(self.lengths)) if rows is None else rows
        index = chunk.previous[:, None] + torch.arange(int((chunk.start - chunk.previous).max()))
        inside = index < chunk.start[:, None]
        ends = self.ends[every[:, None], torch.where(inside, index, self.ends.shape[1] - 1)] & inside[..., None]
        room = dict(enumerate(ends.sum(1).amax(0).clamp(min=1).tolist(), 1))
        return index.to(device), lay_out(dict(enumerate(ends.to(device).unbind(2), 1)), room)


def _last(place: Tensor, there: Tensor) -> Tensor:
    """Return the greatest of (T,) places at which (R, T) is true, or 0: (R,)."""
    return torch.where(there, place, 0).amax(1)
