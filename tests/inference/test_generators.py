"""The cache changes nothing but the time."""

import pytest
import torch

from nextconcept import NextConceptModel
from nextconcept.inference.generate import visible_from
from nextconcept.inference.generators import CachedGenerator, UncachedGenerator
from nextconcept.nn.concept_encoder import PADDING
from tests.helpers import GRID, Doubling, open_model, small_config


@torch.no_grad()
def difference(cached: NextConceptModel, plain: NextConceptModel, count: int) -> float:
    """The greatest difference between logits with and without a cache, in deviations, while three rows of 9, 4 and 1 tokens grow."""
    config, hierarchy = plain.config, plain.config.hierarchy
    lengths = torch.tensor([9, 4, 1])
    ids = torch.randint(64, (3, 9 + count + hierarchy.top_span))
    if config.encoder.chunk_alignment == "end":
        offsets = -lengths % hierarchy.top_span
        ids, lengths = torch.where(torch.arange(ids.shape[1]) < offsets[:, None], PADDING, ids), lengths + offsets
    size = min(config.context_length, int(lengths.max()) + count)
    first, second = CachedGenerator(cached, 3, size), UncachedGenerator(plain)
    worst = 0.0
    for _ in range(count):
        starts = visible_from(lengths, config.context_length, hierarchy)
        logits, expected = first(ids, starts, lengths), second(ids, starts, lengths)
        worst = max(worst, float((logits - expected).abs().max() / expected.std()))
        lengths = lengths + 1
    return worst


@pytest.mark.parametrize("index", range(0, len(GRID), 6))
def test_cached_decoder__equals_plain_decoder(index: int):
    """Every option, rows of different lengths, beyond the context where that is short."""
    model = open_model(small_config(**GRID[index]))
    assert difference(model, model, min(model.config.context_length + 5, 12)) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("index", range(3, len(GRID), 6))
def test_cached_decoder__equals_plain_decoder_for_long(index: int):
    model = open_model(small_config(**GRID[index]))
    assert difference(model, model, 30) < 1e-3


@pytest.mark.parametrize("grid", ["start", "end"])
def test_cached_decoder__with_an_encoder_of_ones_own(grid: str):
    model = open_model(small_config(levels=3, chunk_size=2, encoder__chunk_alignment=grid), Doubling)
    assert difference(model, model, 12) < 1e-3
    ordinary = open_model(small_config(levels=3, chunk_size=2, encoder__chunk_alignment=grid))
    assert difference(model, ordinary, 12) > 1e-2  # it does something


@pytest.mark.parametrize(
    "change", [{"sliding_window": 3}, {"reader__memory": "none"}, {"encoder__position_binding": False}], ids=str
)
def test_cached_decoder__the_test_can_fail(change: dict):
    model, other = open_model(small_config()), open_model(small_config(**change))
    other.load_state_dict(model.state_dict(), strict=False)
    assert difference(model, other, 12) > 1e-2


def test_cached_decoder__bfloat16():
    model = open_model(small_config(levels=3)).to(torch.bfloat16)
    assert difference(model, model, 20) < 0.1


def test_cached_decoder__works_on_a_chunk_only_when_it_is_complete():
    time = 40
    model = open_model(small_config(levels=3, context_length=64))
    decoder, counts = CachedGenerator(model, 1, 64), dict.fromkeys(range(3), 0)
    for level, stepper in decoder.steppers.items():

        def counted(*args: object, level: int = level, step: object = stepper.step) -> torch.Tensor:
            counts[level] += 1
            return step(*args)

        stepper.step = counted
    with torch.no_grad():
        for length in range(1, time + 1):
            decoder(torch.randint(64, (1, time)), torch.tensor([0]), torch.tensor([length]))
    assert counts == {0: time - 1, 1: time // 4, 2: time // 16}
