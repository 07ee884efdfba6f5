"""Lengths and tokens of planned concepts, against sums over all chunks."""

import itertools

import pytest
import torch

from nextconcept.core.chunk_rules import RULES
from nextconcept.nn.chunk_lengths import length_odds, likeliest_lengths, likeliest_tokens
from nextconcept.nn.chunks import Chunker
from nextconcept.nn.concept_encoder import ConceptEncoder
from tests.helpers import small_config

ALPHABET = [b"a", b" ", b".", b"\n"]
LONGEST = 5


def encoder_of(rule: str | dict) -> tuple[ConceptEncoder, Chunker]:
    torch.manual_seed(0)
    rule = {"max_length": LONGEST, "mean_length": 2} | (rule if isinstance(rule, dict) else {"rule": rule})
    config = small_config(chunking=[rule], levels=2, vocab_size=len(ALPHABET), sharing="separate", context_length=16)
    chunker = Chunker(config)
    chunker.read_as(ALPHABET)
    return ConceptEncoder(config), chunker


@pytest.mark.parametrize("rule", [*RULES, {"ends": ".\n"}], ids=str)
def test_length_odds_and_likeliest_tokens__equal_a_sum_over_all_chunks(rule: str | dict):
    encoder, chunker = encoder_of(rule)
    concepts = torch.randn(6, 32)
    odds = (8 * encoder.read_back(concepts, 1)).softmax(-1).detach()
    expected, best = torch.zeros(6, LONGEST), [[(0.0, ()) for _ in range(LONGEST)] for _ in range(6)]
    for tokens in itertools.product(range(4), repeat=LONGEST):
        chunks = chunker(torch.tensor([tokens]))[1]
        length = int(chunks.start[0, 1])
        likely = odds[:, range(LONGEST), tokens]
        expected[:, length - 1] += likely.prod(1)
        for row in range(6):
            best[row][length - 1] = max(best[row][length - 1], (float(likely[row, :length].prod()), tokens[:length]))
    found = length_odds(encoder, chunker, concepts, 8.0)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    possible = found[0].nonzero().flatten() + 1
    assert len(possible) > 1
    for row, length in itertools.product(range(6), possible.tolist()):
        # The likeliest tokens do not depend on the scale where places are independent.
        tokens = likeliest_tokens(encoder, chunker, concepts[row], length)
        assert tuple(tokens.tolist()) == best[row][length - 1][1]


def test_likeliest_lengths__the_longest_only_if_nothing_ends_before():
    odds = torch.tensor([[0.1, 0.2, 0.7], [0.3, 0.2, 0.5], [0.0, 0.0, 1.0]])
    assert likeliest_lengths(odds).tolist() == [2, 1, 3]
    assert likeliest_lengths(odds[:, :1]).tolist() == [1, 1, 1]
