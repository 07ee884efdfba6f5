import math

import pytest
import torch

from nextconcept.core.errors import InputError
from nextconcept.inference.generators import CachedGenerator, UncachedGenerator
from nextconcept.nn.chunk_pointers import ChunkPointers
from nextconcept.nn.chunks import Chunker
from nextconcept.nn.layers import normalise
from nextconcept.nn.model import NextConceptModel
from nextconcept.nn.places import EvenPlaces, Places, UnevenPlaces
from tests.helpers import open_model, small_config

TIME = 14


def pointers_of(count: int) -> ChunkPointers:
    """Pointers of tokens of width 8 at concepts of width 16, none of whose weights is special."""
    pointers = ChunkPointers(small_config(width=16, num_heads=2, reader__pointers=count))
    for parameter in pointers.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return pointers.double()


def places_of(chunking: str) -> tuple[Places, list[list[int]]]:
    """Places of two rows of tokens, and where the chunks of each begin."""
    if chunking == "even":
        return EvenPlaces(4, 1), [[0, 4, 8, 12]] * 2
    rule = {"ends": "|", "max_length": 6, "mean_length": 2}
    config = small_config(chunking=[rule], vocab_size=256, context_length=16)
    text = torch.tensor([list(b"ab|c|defgh|ij|"), list(b"|||abcdefghijk")])
    return UnevenPlaces(Chunker(config)(text)[1], 1, 2.0), [[0, 3, 5, 11, 14], [0, 1, 2, 3, 9]]


def slowly(pointers: ChunkPointers, states: torch.Tensor, anchors: torch.Tensor, starts: list[int]) -> torch.Tensor:
    """What the formula of the class says for one row, position by position."""
    found = torch.zeros_like(states)
    normed, search = pointers.norm(states), normalise(pointers.search(anchors), "cosine")
    for position in range(len(states)):
        own = max(index for index, start in enumerate(starts) if start <= position + 1)
        place = position + 1 - starts[own]
        similar = [float(pointers.sharpness * (search[own] @ search[earlier] - 1)) for earlier in range(own)]
        best = sorted(range(own), key=lambda earlier: -similar[earlier])[: pointers.count]
        scores, values = [float(pointers.nothing)], [torch.zeros_like(states[0])]
        for earlier in best:
            at = starts[earlier] + place
            if at > position:
                continue
            query, key = pointers.query(normed[position]), pointers.key(normed[max(at - 1, 0)])
            scores.append(similar[earlier] + float(query @ key) / math.sqrt(len(key)))
            values.append(pointers.value(normed[at]))
        shares = torch.tensor(scores, dtype=states.dtype).softmax(0)
        found[position] = sum(share * value for share, value in zip(shares, values, strict=True))
    return found


@pytest.mark.parametrize("count", [1, 2, 99])
@pytest.mark.parametrize("chunking", ["even", "rules"])
def test_forward__is_the_formula(chunking: str, count: int):
    torch.manual_seed(0)
    pointers = pointers_of(count)
    places, starts = places_of(chunking)
    anchors = max(map(len, starts)) if chunking == "even" else places.chunk_starts(0, torch.device("cpu")).shape[1]
    states, above = torch.randn(2, TIME, 8).double(), torch.randn(2, anchors, 16).double()
    with torch.no_grad():
        read, _ = pointers(states, above, places)
        for row in range(2):
            torch.testing.assert_close(read[row], slowly(pointers, states[row], above[row], starts[row]))


def test_forward__finds_the_token_that_came_next_last_time():
    """The same bars again: with sharp scores, a position reads the token that it predicts."""
    torch.manual_seed(0)
    pointers = pointers_of(1)
    pattern, concepts = torch.randn(8, 8).double(), torch.randn(2, 16).double()
    states, anchors = pattern.repeat(3, 1)[None], concepts.repeat(4, 1)[None, :7]
    with torch.no_grad():
        torch.nn.init.constant_(pointers.sharpness, 1000.0)
        torch.nn.init.constant_(pointers.nothing, -1000.0)
        torch.nn.init.zeros_(pointers.query.weight)
        read, memory = pointers(states, anchors, EvenPlaces(4, 1))
    # Anchor 2 is the first that has been there before.
    torch.testing.assert_close(read[0, 7:-1], memory.values[0, 8:])


@pytest.mark.parametrize("chunking", [None, ["words"]])
def test_model__closed_gates_change_nothing(chunking: list | None):
    options = {"chunking": chunking, "vocab_size": 256}
    tokens = torch.randint(32, 127, (2, 20))
    torch.manual_seed(3)
    plain = NextConceptModel(small_config(**options)).eval()
    torch.manual_seed(3)
    pointing = NextConceptModel(small_config(**options, reader__pointers=4)).eval()
    assert torch.equal(pointing(tokens).logits, plain(tokens).logits)
    opened = open_model(small_config(**options, reader__pointers=4))
    before = opened(tokens).logits
    opened.set_gate_scale(1, 0.0)
    assert not torch.equal(opened(tokens).logits, before)
    with_gates = opened(tokens).logits
    torch.nn.init.zeros_(opened.decoder.gates.pointers)
    assert torch.equal(opened(tokens).logits, with_gates)


def test_model__all_weights_learn():
    model = open_model(small_config(reader__pointers=2))
    model(torch.randint(64, (2, 30))).logits.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.pointers.parameters())


def test_model__a_single_level_has_none():
    assert NextConceptModel(small_config(levels=1, reader__pointers=2)).pointers is None


def test_flops__what_pointers_read_is_counted():
    models = {count: NextConceptModel(small_config(reader__pointers=count)) for count in (2, 4)}
    assert models[4].flops_per_token(64) - models[2].flops_per_token(64) == 2 * 2 * (8 + 16)


def test_flops__of_no_more_pointers_than_anchors():
    counts = 17, 1000  # a window of 64 tokens has 16 chunks
    first, second = (NextConceptModel(small_config(reader__pointers=count)).flops_per_token(64) for count in counts)
    assert first == second


def test_choose__the_latest_of_equal_anchors():
    pointers = pointers_of(2)
    first = torch.arange(9)[None]
    search = normalise(torch.tensor([0, 1, 0, 1, 1, 0, 0, 1, 0]).eq(0)[None, :, None] + torch.eye(2)[0], "cosine")
    scores, starts = pointers.choose(search, first, search, first)
    assert starts[0, 8].tolist() == [6, 5]
    assert starts[0, 7].tolist() == [4, 3]
    assert scores[0, 0].isinf().all()
    assert scores[0, 2].isfinite().tolist() == [True, True]


# Half precision: of anchors that are not equal but nearly so, rounding decides which are chosen.
@pytest.mark.parametrize(("window", "dtype"), [(1, torch.float32), (None, torch.float32), (1, torch.bfloat16)])
def test_generate__equal_anchors_are_chosen_alike_with_and_without_caches(window: int | None, dtype: torch.dtype):
    """Phrases that come again and go on differently; with a window of 1 their states are equal."""
    changes = {"vocab_size": 16, "chunk_size": 2, "sliding_window": window, "reader__memory": "none"}
    model = open_model(small_config(reader__pointers=2, context_length=48, **changes)).to(dtype)
    ids = torch.randint(16, (3, 48))
    ids[:, 0::4], ids[:, 1::4] = 5, 6
    cached, uncached, starts = CachedGenerator(model, 3, 48), UncachedGenerator(model), torch.zeros(3).long()
    with torch.no_grad():
        for count in range(8, 48):
            logits = (one(ids, starts, torch.full((3,), count)) for one in (cached, uncached))
            torch.testing.assert_close(*logits, rtol=0, atol=1e-4 if dtype == torch.float32 else 0.1)


def test_config__a_negative_number():
    with pytest.raises(InputError, match=r"reader\.pointers must be 0 or more, not -1"):
        small_config(reader__pointers=-1)
