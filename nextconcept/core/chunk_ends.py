"""Where the chunks of every level end in a text, as model and data find it.

Everything here is a function of the tokens: whether a chunk ends after a token depends on the
tokens up to it alone. Loops are over levels and over the logarithm of the length.

Shapes: B batch, T tokens, S states of a rule, V vocabulary.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nextconcept.core.chunk_rules import ChunkRule
from nextconcept.core.hierarchy import Hierarchy

__all__ = ["Tables", "chunk_ends", "chunk_room", "own_automata", "rule_ends", "rule_states", "rule_tables"]

Tables = tuple[Tensor, Tensor]
"""A rule on tokens: (S, V) int64, the state after a token, and (S, V) bool, whether a chunk ends
after it."""


def own_automata(hierarchy: Hierarchy) -> dict[int, ChunkRule]:
    """Return the automata, by concept level, of the rules that read the text.

    A user's own rule is imported when its configuration is new. Stored with the number of its
    states it is left out: loading imports nothing by name.

    Raises:
        InputError: if a rule can't be imported.
    """
    rules = enumerate(hierarchy.rules, 1)
    return {level: rule.automaton() for level, rule in rules if rule.of_text and (rule.known or not rule.num_states)}


def rule_tables(automata: Mapping[int, ChunkRule], texts: Sequence[bytes], vocab_size: int) -> dict[int, Tables]:
    """Lift automata, by concept level, to tokens.

    Args:
        automata: the rules.
        texts: per token id, its bytes; special tokens have none.
        vocab_size: V; ids beyond ``texts`` have no bytes.
    """
    padded = [*texts, *[b""] * (vocab_size - len(texts))]
    tables = {level: automaton.on_tokens(padded) for level, automaton in automata.items()}
    return {level: (torch.from_numpy(states), torch.from_numpy(ends)) for level, (states, ends) in tables.items()}


def rule_states(tokens: Tensor, following: Tensor, state: Tensor | None = None) -> Tensor:
    """Find the states of a rule before and after tokens.

    The states after all prefixes are found by an associative scan (Ladner & Fischer, 1980): a
    token is a map from states to states, and maps compose.

    Args:
        tokens: (B, T) token ids.
        following: (S, V) int64, the state after a token.
        state: (B,) the state before the tokens; by default the first one.

    Returns:
        (B, T + 1) int64, the state before each token, and after the last.
    """
    maps = following.t()[tokens]  # (B, T, S)
    shift = 1
    while shift < tokens.shape[1] and following.shape[0] > 1:
        # The later map is applied to the result of the earlier one.
        joined = maps[:, shift:].gather(2, maps[:, :-shift])
        maps, shift = torch.cat((maps[:, :shift], joined), 1), 2 * shift
    if state is None:
        return torch.nn.functional.pad(maps[..., 0], (1, 0))
    after = maps.gather(2, state[:, None, None].expand(-1, maps.shape[1], 1))[..., 0]
    return torch.cat((state[:, None], after), 1)


def rule_ends(tokens: Tensor, following: Tensor, ends: Tensor, state: Tensor | None = None) -> Tensor:
    """Run a rule over tokens.

    Args:
        tokens: (B, T) token ids.
        following: (S, V) int64, the state after a token.
        ends: (S, V) bool, whether a chunk ends after a token.
        state: (B,) the state before the tokens; by default the first one.

    Returns:
        (B, T) bool, whether a chunk ends after each token.
    """
    return ends[rule_states(tokens, following, state)[:, :-1], tokens]


def chunk_room(hierarchy: Hierarchy, time: int, context: int) -> dict[int, int]:
    """Return how many chunks of each level there is room for in ``time`` tokens.

    A text shorter than a window of ``context`` tokens has as much room as a window.
    """
    room, size = {}, time
    for level in hierarchy.concept_levels:
        size = room[level] = min(hierarchy.length(max(time, context), level), size)
    return room


def chunk_ends(
    tokens: Tensor, hierarchy: Hierarchy, tables: Mapping[int, Tables], context: int, whole: int | None = None
) -> dict[int, Tensor]:
    """Find where the chunks of every level end.

    Args:
        tokens: (B, T) token ids.
        hierarchy: levels and rules.
        tables: the rules that read the text, by level.
        context: tokens of a window.
        whole: the tokens are those of one chunk of this level, wherever rules would cut, and of one
            of each level above; lower levels end their last chunk with it.

    Returns:
        Per concept level, (B, T) bool, whether a chunk of the level ends after each token.
    """
    last = torch.arange(tokens.shape[1], device=tokens.device) == tokens.shape[1] - 1
    below = torch.ones_like(tokens, dtype=torch.bool)
    room, found = chunk_room(hierarchy, tokens.shape[1], context), {}
    for level, rule in enumerate(hierarchy.rules, 1):
        if whole is not None and level >= whole:
            found[level] = below = last.expand_as(tokens)
            continue
        ends = torch.zeros_like(below)
        if rule.of_text:
            # A chunk of elements ends with the element in whose tokens the rule ends one.
            count = rule_ends(tokens, *tables[level]).cumsum(1)
            ends = below & (count > _before(torch.where(below, count, 0)))
        if whole is not None:
            ends = ends | last
        number = below.cumsum(1)
        ends = below & (ends | ((number - _before(torch.where(ends, number, 0))) % rule.max_length == 0))
        if whole is None:
            ends = ends & (ends.cumsum(1) <= room[level])
        found[level] = below = ends
    return found


def _before(values: Tensor) -> Tensor:
    """Return the greatest of the (B, T) values in front of each, or 0."""
    return torch.nn.functional.pad(values.cummax(1).values[:, :-1], (1, 0))
