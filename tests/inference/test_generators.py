"""The cache changes nothing but the time."""

import pytest
import torch

from nextconcept import NextConceptModel
from nextconcept.inference.generators import CachedGenerator, UncachedGenerator
from nextconcept.inference.locations import visible_from
from nextconcept.nn.attention import SelfAttention
from nextconcept.nn.concept_encoder import PADDING
from tests.helpers import GRID, Doubling, open_model, small_config


@torch.no_grad()
def difference(cached: NextConceptModel, plain: NextConceptModel, count: int) -> float:
    """Greatest difference between logits with and without a cache, in standard deviations.

    Three rows of 9, 4 and 1 tokens grow by ``count`` tokens.
    """
    config, hierarchy = plain.config, plain.config.hierarchy
    lengths = torch.tensor([9, 4, 1])
    ids = torch.randint(64, (3, 9 + count + hierarchy.top_span))
    offsets = torch.tensor([config.padding(length) for length in lengths.tolist()])
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
def test_cached_generator__equals_uncached_generator(index: int):
    """Every option, rows of different lengths, beyond the context where that is short."""
    model = open_model(small_config(**GRID[index]))
    assert difference(model, model, min(model.config.context_length + 5, 12)) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("index", range(3, len(GRID), 6))
def test_cached_generator__equals_uncached_generator_for_long(index: int):
    model = open_model(small_config(**GRID[index]))
    assert difference(model, model, 30) < 1e-3


@pytest.mark.parametrize("alignment", ["start", "end"])
def test_cached_generator__with_an_encoder_of_ones_own(alignment: str):
    model = open_model(small_config(levels=3, chunk_size=2, encoder__chunk_alignment=alignment), Doubling)
    assert difference(model, model, 12) < 1e-3
    ordinary = open_model(small_config(levels=3, chunk_size=2, encoder__chunk_alignment=alignment))
    assert difference(model, ordinary, 12) > 1e-2  # it does something


@pytest.mark.parametrize(
    "change", [{"sliding_window": 3}, {"reader__memory": "none"}, {"encoder__position_binding": False}], ids=str
)
def test_cached_generator__the_test_can_fail(change: dict):
    model, other = open_model(small_config()), open_model(small_config(**change))
    other.load_state_dict(model.state_dict(), strict=False)
    assert difference(model, other, 12) > 1e-2


class HeadNorm(SelfAttention):
    """An architecture of one's own: queries and keys are normalised per head."""

    def forward(self, x, context, index=0, prefix=None):
        weights = context.weights
        query, key, value = (weights.split(part) for part in weights.project(x, self.query, self.key, self.value))
        query, key = (context.rotate(torch.nn.functional.rms_norm(part, part.shape[-1:])) for part in (query, key))
        plain, with_plan = context.attend(index, query, key, value, None if prefix is None else prefix.keys)
        mixed = weights.merge(plain)
        if with_plan is not None:
            mixed = mixed + context.plan_gate(index) * (weights.merge(with_plan) - mixed)
        return weights.write(mixed, self.out)


@pytest.mark.parametrize(
    "changes", [{}, {"reader__plan_conditioning": "prefix", "nested__slicing": "head_size"}], ids=str
)
def test_cached_generator__a_change_of_a_block_is_made_once(changes: dict):
    model, plain = (open_model(small_config(levels=3, **changes)) for _ in range(2))
    for module in model.modules():
        if isinstance(module, SelfAttention):
            module.__class__ = HeadNorm
    assert difference(model, model, 12) < 1e-3
    assert difference(model, plain, 12) > 1e-2  # it does something


@pytest.mark.parametrize("index", range(3, len(GRID), 23))
def test_cached_generator__agrees_to_double_precision(index: int):
    model = open_model(small_config(**GRID[index])).double()
    assert difference(model, model, min(model.config.context_length + 5, 12)) < 1e-10


def test_cached_generator__bfloat16():
    model = open_model(small_config(levels=3)).to(torch.bfloat16)
    assert difference(model, model, 20) < 0.1


def test_cached_generator__works_on_a_chunk_only_when_it_is_complete():
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
