"""Pictures of plans."""

import pytest
import torch

from nextconcept.data.bpe_training import train_bpe
from nextconcept.data.tokenizers import ByteTokenizer
from nextconcept.inference.plan_figures import look_at_plan
from nextconcept.nn.attention import PlanAttention
from tests.helpers import open_model, small_config

TOKENS = torch.tensor(list(b"To be, or not to be: $x$ that is\nthe question"))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"levels": 3, "encoder__chunk_alignment": "end"},
        {"sharing": "shared", "levels": 3},
        {"planner__mode": "rollout", "sharing": "separate"},
    ],
    ids=str,
)
def test_look_at_plan__draws_every_level(changes: dict, tmp_path):
    model = open_model(small_config(vocab_size=256, **changes))
    picture = look_at_plan(model, ByteTokenizer(), TOKENS)
    assert set(picture.agreement) == set(model.config.hierarchy.concept_levels)
    figures = [*picture.agreement.values(), picture.attention]
    for index, figure in enumerate(figures):
        figure.savefig(tmp_path / f"{index}.png")  # warnings about glyphs or text are errors
        assert figure.axes[0].get_ylabel() == "chunks ahead"
    assert picture.table.count("\n| ") == 1 + 3 * (model.config.levels - 1)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_look_at_plan__characters_that_the_font_lacks(tmp_path):
    tokenizer = train_bpe(["中文 and 日本語 " * 30], 270)
    tokens = torch.tensor(tokenizer.encode("中文 and 日本語 " * 4).astype("int64"))
    tokens[3] = tokenizer.end_of_text
    picture = look_at_plan(open_model(small_config(vocab_size=270)), tokenizer, tokens)
    for figure in (picture.agreement[1], picture.attention):
        figure.savefig(tmp_path / "plan.png")  # a missing glyph would be a warning, and so an error
    labels = [label.get_text() for label in picture.attention.axes[0].get_xticklabels()]
    assert any("\\u4e2d" in label for label in labels)
    assert "| <|endoftext|>" in labels


def test_look_at_plan__attention_is_that_of_the_model():
    model = open_model(small_config(vocab_size=256, depth=1))
    seen = {}

    def keep(module: PlanAttention, args: tuple, output: torch.Tensor) -> None:
        x, context, index = args
        _, value = context.plan_keys(module.keys)  # (B, A, h, H, d)
        mixed = context.fold(module.attention_weights(x, context)).transpose(1, 2) @ value
        read = context.unfold(context.weights.merge(mixed))
        expected = context.weights.write(read, module.out, context.plan_gate(index))
        seen["same"] = torch.allclose(expected, output, atol=1e-5)

    model.transformer(0).blocks[0].plan_attention.register_forward_hook(keep)
    with torch.no_grad():
        model(TOKENS[None])
    assert seen["same"]


def test_look_at_plan__no_picture_of_attention_where_there_is_none():
    picture = look_at_plan(
        open_model(small_config(vocab_size=256, reader__plan_conditioning="unbind")), ByteTokenizer(), TOKENS
    )
    assert picture.attention is None


def test_look_at_plan__compositions_that_cannot_be_decoded_have_no_table():
    assert (
        look_at_plan(
            open_model(small_config(vocab_size=256, encoder__composition="max")), ByteTokenizer(), TOKENS
        ).table
        == ""
    )
