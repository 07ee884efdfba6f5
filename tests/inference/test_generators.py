"""The cache changes nothing but the time."""

import pytest
import torch

from nextconcept import NextConceptModel
from nextconcept.inference.generators import CachedGenerator, UncachedGenerator
from nextconcept.inference.locations import visible_from
from nextconcept.nn.attention import SelfAttention
from nextconcept.nn.concept_encoder import PADDING
from tests.helpers import GRID, RULE_TEXT, Doubling, open_model, small_config


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


@pytest.mark.parametrize(
    "index", [pytest.param(index, marks=[pytest.mark.slow] * (index % 12 > 0)) for index in range(0, len(GRID), 6)]
)
def test_cached_generator__equals_uncached_generator(index: int):
    """Every option, rows of different lengths, beyond the context where that is short."""
    model = open_model(small_config(**GRID[index]))
    assert difference(model, model, min(model.config.context_length + 5, 12)) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("index", range(3, len(GRID), 12))
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


CUT = [["words"], ["words", 2], ["words", "sentences"], [{"ends": " ", "max_length": 5, "mean_length": 3}]]


@pytest.mark.parametrize("rules", CUT, ids=str)
@pytest.mark.parametrize("cached", [True, False])
def test_generators__anchors_keep_their_numbers_when_a_text_slides(rules: list, cached: bool):
    """A number belongs to a place in the text, whatever part of the text is visible."""
    changes = {"levels": len(rules) + 1, "chunking": rules, "sharing": "shared", "width": 24}
    model = open_model(small_config(vocab_size=256, depth=1, context_length=24, **changes))
    ids = torch.tensor(list(RULE_TEXT))[None]
    whole = {level: chunks.start[0, 1 : int(chunks.counts[0]) + 1] for level, chunks in model.chunker(ids).items()}
    read: list[tuple[int, torch.Tensor]] = []

    def note(level: int, plan: torch.Tensor, anchors: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        read.append((level, anchors[0]))
        return plan

    generator = CachedGenerator(model, 1, 24, note) if cached else UncachedGenerator(model, note)
    slid = 0
    for length in range(20, 64):
        lengths = torch.tensor([length])
        starts = visible_from(lengths, 24, model.config.hierarchy)
        visible = model.chunker(ids[:, int(starts) : length])
        generator(ids, starts, lengths)
        for level, numbers in read:
            places = (starts + visible[level].start[0, : int(visible[level].counts[0]) + 1]).tolist()
            places = places[-1:] if len(numbers) == 1 else places  # the newest alone
            assert numbers[: len(places)].tolist() == [int((whole[level] <= place).sum()) for place in places]
            slid += int(starts) > 0
        read.clear()
    assert slid > 5
