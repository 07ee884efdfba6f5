import dataclasses

import pytest
import torch
import torch.nn.functional as F

from nextconcept.nn.attention import (
    AnchorReading,
    AttentionWidths,
    MemoryAttention,
    PlanAttention,
    PlanPrefix,
    PlanUnbinding,
    SelfAttention,
)
from nextconcept.nn.composition import Composition
from nextconcept.nn.layers import rotary_angles
from nextconcept.nn.level_context import ParallelContext
from nextconcept.nn.level_weights import LevelShape
from nextconcept.nn.places import EvenPlaces, unbind_at
from nextconcept.nn.plan_input import PlanGates, PlanInput
from tests.helpers import small_config

CONFIG = small_config()
OWN, READ = AttentionWidths(16, 16, 16, 16), AttentionWidths(16, 24, 16, 16)
SHAPE = LevelShape(16, num_heads=2, num_kv_heads=2, head_size=8, hidden=48, sliding_windows=(None,), interleaved=False)

COMPOSITION = Composition(CONFIG, 24)


def unbind(plan: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    return COMPOSITION.bind_at(plan, places, undo=True)


def reading(x: torch.Tensor, plan: torch.Tensor, memory: torch.Tensor | None = None) -> ParallelContext:
    """A context whose gates are one."""
    gates = PlanGates(CONFIG, 0)
    for gate in gates.parameters():
        torch.nn.init.ones_(gate)
    return ParallelContext(x, SHAPE, PlanInput(plan, memory, None, gates, EvenPlaces(4, 1), unbind))


def test_self_attention__is_causal():
    attention, x = SelfAttention(OWN), torch.randn(2, 9, 16)
    changed = x.clone()
    changed[:, 5:] += 1
    before, after = (attention(each, ParallelContext(each, SHAPE)) for each in (x, changed))
    torch.testing.assert_close(before[:, :5], after[:, :5], rtol=0, atol=0)


def test_plan_attention__is_zero_for_a_zero_plan():
    attention, x = PlanAttention(READ), torch.randn(2, 9, 16)
    read = attention(x, reading(x, torch.zeros(2, 3, 5, 24)))
    assert read.shape == (2, 9, 16)
    assert not read.any()


def test_plan_attention__reads_the_plan_of_its_own_chunk_only():
    attention, x, plan = PlanAttention(READ), torch.randn(1, 9, 16), torch.randn(1, 3, 5, 24)
    changed = plan.clone()
    changed[:, 1] += 1
    differs = (attention(x, reading(x, plan)) != attention(x, reading(x, changed))).any(-1)[0]
    assert differs.tolist() == [(t + 1) // 4 == 1 for t in range(9)]


def test_plan_unbinding__reads_what_the_plan_says_about_the_element_that_a_position_predicts():
    reader, x, plan = PlanUnbinding(READ), torch.randn(1, 9, 16), torch.randn(1, 3, 2, 24)
    read = reader(x, reading(x, plan))
    for position in range(9):
        anchor, place = divmod(position + 1, 4)
        expected = F.linear(
            COMPOSITION.bind_at(plan[:, anchor, :1], torch.tensor([place]), undo=True), reader.value.weight
        )
        torch.testing.assert_close(read[:, position], expected[:, 0])


def test_anchor_reading__reads_the_state_of_the_own_anchor_alone():
    reader, x, states = AnchorReading(READ), torch.randn(1, 9, 16), torch.randn(1, 3, 24)
    read = reader(x, reading(x, torch.randn(1, 3, 2, 24), states))
    for position in range(9):
        expected = F.linear(states[:, (position + 1) // 4], reader.value.weight)
        torch.testing.assert_close(read[:, position], expected)


def test_unbind_at__goes_on_in_the_next_step_and_ends_with_the_plan():
    """Two steps of chunks of four: places 0 to 7 read them, later ones zero."""
    plan = torch.randn(2, 2, 24)
    read = unbind_at(plan, torch.arange(10).expand(2, -1), 4, 1, unbind)
    for place in range(8):
        torch.testing.assert_close(read[:, place], unbind(plan[:, place // 4], torch.tensor(place % 4)))
    assert not read[:, 8:].any()


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("window", [None, 3])
def test_grouped_queries__equal_attention_whose_heads_have_copies_of_the_keys(interleaved: bool, window: int | None):
    x, plan, memory = torch.randn(2, 10, 16), torch.randn(2, 3, 9, 24), torch.randn(2, 3, 24)
    grouped = LevelShape(16, 4, 2, 4, 48, (window,), interleaved)
    whole = dataclasses.replace(grouped, num_kv_heads=4)
    copies = torch.tensor([0, 0, 1, 1])
    by_head = torch.arange(8).view(4, 2).T if interleaved else torch.arange(8).view(2, 4)  # (g, d)
    rows = (by_head[copies].T if interleaved else by_head[copies]).flatten()
    for kind, source in ((SelfAttention, 16), (PlanAttention, 24), (MemoryAttention, 24)):
        few, many = (kind(AttentionWidths(16, source, 16, keys)) for keys in (8, 16))
        with torch.no_grad():
            for name in ("query", "out"):
                getattr(many, name).weight.copy_(getattr(few, name).weight)
            for name in ("key", "value"):
                getattr(many, name).weight.copy_(getattr(few, name).weight[rows])
        context = reading(x, plan, memory)
        read = dataclasses.replace(context.plan_input, memory_window=window)
        results = [one(x, ParallelContext(x, shape, read)) for one, shape in ((few, grouped), (many, whole))]
        torch.testing.assert_close(results[0], results[1])


def test_memory_attention__equals_masked_attention():
    """Positions folded into heads must give what an explicit mask over anchors gives."""
    attention, x, memory = MemoryAttention(READ), torch.randn(2, 10, 16), torch.randn(2, 3, 24)
    seen = []
    plain = F.scaled_dot_product_attention

    def spy(query, key, value, is_causal):
        seen.append((query, key, value))
        return plain(query, key, value, is_causal=is_causal)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", spy)
        result = attention(x, reading(x, torch.zeros(2, 3, 5, 24), memory))
    query, key, value = seen[0]  # (B, heads * c, anchors, d)
    positions = torch.arange(10) + 1
    query = query.unflatten(1, (2, 4)).permute(0, 1, 3, 2, 4).flatten(2, 3)[:, :, positions]
    key, value = key.unflatten(1, (2, 4))[:, :, 0], value.unflatten(1, (2, 4))[:, :, 0]
    mask = torch.arange(3)[None] <= (positions // 4)[:, None]
    expected = attention.out(plain(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2))
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("window", [None, 3])
def test_attention_weights__of_a_prefix_are_one_softmax_with_the_text(window: int | None):
    """What a plain softmax over text and plan gives, so that both together have the weight one."""
    attention, prefix = SelfAttention(OWN), PlanPrefix(READ)
    x, plan = torch.randn(2, 9, 16), torch.randn(2, 3, 5, 24)
    shape, filled = dataclasses.replace(SHAPE, sliding_windows=(window,)), reading(x, plan).plan_input
    context = ParallelContext(x, shape, filled)
    weights = attention.attention_weights(x, context, 0, prefix)
    query, key = (
        context.rotate(context.weights.split(part))
        for part in context.weights.project(x, attention.query, attention.key)
    )
    # Steps stand where their chunks begin; position t is that of token t + 1.
    starts = 4 * torch.arange(3)[:, None] + 4 * torch.arange(5) - 1
    angles = rotary_angles(starts, SHAPE.head_size, SHAPE.rope_base, torch.float32)
    planned, _ = prefix.keys(plan, context.weights, angles.unsqueeze(-3))  # (B, A, h, H, d)
    age = torch.arange(9)[:, None] - torch.arange(9)
    seen = (age >= 0) & (age < (window or 9))
    own = (query @ key.transpose(-1, -2)).masked_fill(~seen, -torch.inf)
    chunks = (torch.arange(9) + 1) // 4
    extra = torch.einsum("bhtd,bthjd->bhtj", query, planned[:, chunks])
    expected = (torch.cat((own, extra), -1) / SHAPE.head_size**0.5).softmax(-1)
    torch.testing.assert_close(expected.sum(-1), torch.ones(2, 2, 9))
    torch.testing.assert_close(weights, expected[..., 9:])
