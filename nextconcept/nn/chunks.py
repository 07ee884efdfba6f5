"""Where the chunks of every level lie, if rules cut them.

Everything here is a function of the tokens: whether a chunk ends after a token depends on the
tokens up to it alone.

Shapes: B batch, T tokens, n elements of the level below, N chunks that a window may hold, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from nextconcept.core.chunk_ends import Tables, chunk_ends, chunk_room, own_automata, rule_tables
from nextconcept.core.config import ModelConfig
from nextconcept.core.errors import InputError
from nextconcept.nn.layers import binding_angles, compute_dtype, rotations
from nextconcept.nn.rows import add_rows, take_rows

__all__ = ["Chunker", "Chunks", "chunk_of_tokens", "in_tokens", "lay_out"]


def _first_of_chunk(ends: Tensor) -> Tensor:
    """Return the first element of the chunk of each of (B, n) elements, and of the one after."""
    index = torch.arange(1, ends.shape[1] + 1, device=ends.device)
    starts = torch.where(ends, index, 0)
    return torch.cat((torch.zeros_like(starts[:, :1]), starts), 1).cummax(1).values


@dataclass
class Chunks:
    """The chunks that the elements of a level form, and so the elements of the next level.

    What stands after the last element that is there is arbitrary.

    Attributes:
        counts: (B,) complete chunks.
        index: (B, n + 1) chunk of each element, and of the one after the last.
        slot: (B, n) chunk of each element that belongs to a complete chunk, otherwise N.
        place: (B, n + 1) elements between the element and the first of its chunk.
        offset: (B, n + 1) tokens between the two.
        first: (B, N + 1) first element of each chunk, and of the one after the last.
        start: (B, N + 1) first token of each chunk, and of the one after the last.
    """

    counts: Tensor
    index: Tensor
    slot: Tensor
    place: Tensor
    offset: Tensor
    first: Tensor
    start: Tensor
    _turns: dict[tuple[int, torch.dtype], Tensor] = field(default_factory=dict, init=False, repr=False)

    @property
    def most(self) -> int:
        """N, the number of chunks that there is room for."""
        return self.first.shape[1] - 1

    @property
    def lengths(self) -> Tensor:
        """(B, N) elements of each complete chunk, 0 where there is none."""
        complete = torch.arange(self.most, device=self.counts.device) < self.counts[:, None]
        return (self.first[:, 1:] - self.first[:, :-1]) * complete

    def turns(self, like: Tensor) -> Tensor:
        """Return the rotations by :attr:`offset` that bind elements like (..., D), computed once.

        Returns:
            (B, n + 1, D / 2) complex rotations, or angles where a compiler fuses them.
        """
        key = like.shape[-1], compute_dtype(like.dtype)
        if key not in self._turns:
            self._turns[key] = self._find_turns(*key)
        return self._turns[key]

    def _find_turns(self, width: int, dtype: torch.dtype) -> Tensor:
        offset = self.offset
        if torch.compiler.is_compiling() or not offset.numel():
            return binding_angles(offset, width, dtype)
        if offset.device.type != "cpu":
            return rotations(binding_angles(offset, width, dtype))
        # Offsets are few and small, and a look-up takes a tenth of the time of sines.
        low, high = (int(value) for value in offset.aminmax())
        table = rotations(binding_angles(torch.arange(low, high + 1), width, dtype))
        return table.index_select(0, (offset - low).flatten()).view(*offset.shape, -1)

    def sum(self, x: Tensor) -> Tensor:
        """Add up (B, n, D) elements by chunk: (B, N, D), zero where there is no complete chunk."""
        return add_rows(x, self.slot, self.most + 1)[:, :-1]

    def max(self, x: Tensor) -> Tensor:
        """Take the greatest of (B, n, D) elements by chunk: (B, N, D), zero where there is none."""
        slot = self.slot[..., None].expand(-1, -1, x.shape[2])
        most = x.new_zeros(x.shape[0], self.most + 1, x.shape[2])
        return most.scatter_reduce(1, slot, x, "amax", include_self=False)[:, :-1]

    def elements(self, x: Tensor, most: int) -> Tensor:
        """Bring the elements of each chunk together.

        Args:
            x: (B, n, D).
            most: elements of the longest chunk, c.

        Returns:
            (B, N, c, D), zero where there is no element.
        """
        place = torch.arange(most, device=x.device)
        index = (self.first[:, :-1, None] + place).clamp(max=x.shape[1] - 1).flatten(1)
        gathered: Tensor = take_rows(x, index).unflatten(1, (self.most, most))
        return gathered.masked_fill((place >= self.lengths[..., None])[..., None], 0)

    def all(self, x: Tensor) -> Tensor:
        """Return whether all of (B, n) truth values of each complete chunk are true, (B, N)."""
        return (self.sum(x.long()[..., None])[..., 0] == self.lengths) & (self.lengths > 0)


def chunk_of_tokens(chunks: dict[int, Chunks], level: int) -> Tensor:
    """Return the complete chunk of ``level`` that each token belongs to, N if to none: (B, T)."""
    slot = chunks[1].slot
    for upper in range(2, level + 1):
        above = chunks[upper]
        slot = torch.nn.functional.pad(above.slot, (0, 1), value=above.most).gather(1, slot)
    return slot


def in_tokens(chunks: dict[int, Chunks], level: int) -> Chunks:
    """Return the chunks of ``level`` as chunks of tokens, whatever levels lie between."""
    if level == 1:
        return chunks[1]
    own, slot = chunks[level], chunk_of_tokens(chunks, level)
    index = torch.minimum(torch.nn.functional.pad(slot, (0, 1), value=own.most), own.counts[:, None])
    offset = torch.arange(index.shape[1], device=index.device) - own.start.gather(1, index)
    return Chunks(own.counts, index, slot, offset, offset, own.start, own.start)


def _lay_out(ends: Tensor, starts: Tensor, most: int) -> Chunks:
    """Number the chunks of elements.

    Args:
        ends: (B, n) bool, after which elements a chunk ends.
        starts: (B, n + 1) first token of each element, and of the one after the last.
        most: N, at least as many as there are ends.
    """
    index = torch.arange(ends.shape[1] + 1, device=ends.device)
    counted = ends.cumsum(1)
    counts = counted[:, -1]
    chunk = torch.nn.functional.pad(counted, (1, 0))
    head = _first_of_chunk(ends)
    # The element after an end is the first of the chunk with the number of ends so far; slot N + 1
    # takes what is no end.
    slot = torch.where(ends, counted, most + 1)
    first = head.new_zeros(len(ends), most + 2).scatter(1, slot, index[1:].expand(len(ends), -1))[:, :-1]
    own = torch.where(chunk[:, :-1] < counts[:, None], chunk[:, :-1], most)
    offset = starts - starts.gather(1, head)
    return Chunks(counts, chunk, own, index - head, offset, first, starts.gather(1, first))


def lay_out(ends: Mapping[int, Tensor], room: Mapping[int, int] | None = None) -> dict[int, Chunks]:
    """Number the chunks of every level.

    Args:
        ends: per concept level, (B, T) bool, whether a chunk of the level ends after each token.
        room: per level, N, at least as many as there are ends; by default the elements below.
    """
    like = ends[1]
    starts = torch.arange(like.shape[1] + 1, device=like.device).expand(len(like), -1)
    counts = torch.full((len(like),), like.shape[1], device=like.device)
    found: dict[int, Chunks] = {}
    for level, of_tokens in ends.items():
        there = torch.arange(starts.shape[1] - 1, device=like.device) < counts[:, None]
        # An element ends a chunk if one ends with its last token.
        of_elements = of_tokens.gather(1, (starts[:, 1:] - 1).clamp(min=0)) & there
        found[level] = _lay_out(of_elements, starts, of_elements.shape[1] if room is None else room[level])
        starts, counts = found[level].start, found[level].counts
    return found


class Chunker(nn.Module):
    """Finds the chunks of every concept level.

    A rule is kept as tables over the vocabulary, which are part of the state dict, so that a stored
    model knows where its chunks end without its tokenizer.

    A user's own rule is imported when its configuration is new, and never when it is stored with
    the number of its states: then the tables come from the state dict.

    Args:
        config: the model's configuration, with rules.

    Attributes:
        hierarchy: the hierarchy of ``config``, with the number of states of each rule.

    Raises:
        InputError: if a rule can't be imported.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.context, self._automata = config.window_length, own_automata(config.hierarchy)
        rules = []
        for level, rule in enumerate(config.hierarchy.rules, 1):
            if level in self._automata:
                rule = replace(rule, num_states=len(self._automata[level].next))
            if rule.of_text:
                size = (rule.num_states, config.vocab_size)
                # A table has no state until it is filled or loaded.
                self.register_buffer(f"following_{level}", torch.full(size, -1))
                self.register_buffer(f"ends_{level}", torch.zeros(size, dtype=torch.bool))
            rules.append(rule)
        self.hierarchy, self.vocab_size = replace(config.hierarchy, rules=tuple(rules)), config.vocab_size
        self._filled = not self._tables
        if config.vocab_size == 256:
            self.read_as([b"", *(bytes([byte]) for byte in range(1, 256))])  # id 0 ends documents

    def read_as(self, texts: Sequence[bytes]) -> None:
        """Fill the tables.

        Args:
            texts: per token id, its bytes, as of ``tokenizer.token_bytes()``; special tokens have
                none. Ids after them have none.

        Raises:
            InputError: if they are no bytes, or more than the tokens of the model.
        """
        if not isinstance(texts, Sequence) or not all(isinstance(text, bytes) for text in texts):
            raise InputError("texts must be the bytes of each token, such as tokenizer.token_bytes() returns.")
        if len(texts) > self.vocab_size:
            raise InputError(
                f"there are {len(texts)} texts for the {self.vocab_size} tokens of the model: give those of its own "
                "tokenizer."
            )
        for level, values in rule_tables(self._automata, texts, self.vocab_size).items():
            for table, value in zip(self._tables[level], values, strict=True):
                table.copy_(value)
        self._filled = self._automata.keys() >= self._tables.keys()

    def check_tables(self) -> None:
        """Check that the tables of all rules are filled; later calls cost nothing.

        Raises:
            InputError: if a rule does not know the texts of the tokens, which :meth:`read_as` gives
                where tokens are not bytes; or if it is neither made nor loaded, because the
                settings of a new model give a rule of the user's own with ``num_states``.
        """
        if self._filled or any(following.is_meta for following, _ in self._tables.values()):
            return
        for level, (following, _) in self._tables.items():
            if following.min() < 0:
                rule = self.hierarchy.rules[level - 1].rule
                if level in self._automata:
                    raise InputError(
                        f"the chunking rule {rule!r} of level {level} does not know the texts of the model's "
                        f"{self.vocab_size} tokens: call model.chunker.read_as(tokenizer.token_bytes()) once."
                    )
                raise InputError(
                    f"the chunking rule {rule!r} of level {level} was never made, because its settings give "
                    "num_states, as those of a trained model do: leave num_states out."
                )
        self._filled = True

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        known = [following for following, _ in self._tables.values() if not following.is_meta]
        self._filled = len(known) == len(self._tables) and all(bool(following.min() >= 0) for following in known)

    @property
    def tables(self) -> dict[int, Tables]:
        """The rules that read the text, on tokens, by level.

        Raises:
            InputError: if the texts of the tokens are not known; see :meth:`check_tables`.
        """
        self.check_tables()
        return self._tables

    @property
    def _tables(self) -> dict[int, Tables]:
        levels = [level for level, rule in enumerate(self.hierarchy.rules, 1) if rule.of_text]
        return {
            level: (cast(Tensor, getattr(self, f"following_{level}")), cast(Tensor, getattr(self, f"ends_{level}")))
            for level in levels
        }

    def ends(self, tokens: Tensor, whole: int | None = None) -> dict[int, Tensor]:
        """Find where chunks end; see :func:`~nextconcept.core.chunk_ends.chunk_ends`.

        Raises:
            InputError: if the texts of the tokens are not known; see :meth:`check_tables`.
        """
        return chunk_ends(tokens, self.hierarchy, self.tables, self.context, whole)

    def forward(self, tokens: Tensor, whole: int | None = None) -> dict[int, Chunks]:
        """Cut (B, T) token ids into the chunks of every level.

        With ``whole``, the tokens are those of one chunk of that level, wherever rules would cut,
        and of one of each level above; lower levels end their last chunk with it.

        Raises:
            InputError: if the texts of the tokens are not known; see :meth:`check_tables`.
        """
        room = chunk_room(self.hierarchy, tokens.shape[1], self.context)
        return lay_out(self.ends(tokens, whole), room if whole is None else None)
