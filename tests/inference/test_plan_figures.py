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
        assert figure.get_supylabel() in ("plan made just before", "planned chunk")
    assert picture.table.count("\n| ") == 1 + 3 * (model.config.levels - 1)
    assert not any(module._forward_pre_hooks for module in model.modules())


def words(labels: list) -> list[str]:
    return [label.get_text() for label in labels]


def test_look_at_plan__words_on_both_axes_and_dark_where_the_plan_is_right():
    model = open_model(small_config(vocab_size=256))
    axes = look_at_plan(model, ByteTokenizer(), TOKENS).agreement[1].axes[0]
    chunks = ["To␣b", "e,␣o", "r␣no", "t␣to", "␣be:", r"␣\$x\$", "␣tha", "t␣is", r"\nthe", "␣que", "stio"]
    assert words(axes.get_xticklabels()) == words(axes.get_yticklabels()) == chunks
    cells = axes.collections[0].get_array()  # (plans, chunks)
    with torch.no_grad():
        output = model(TOKENS[None])
    for plan in range(11):
        for chunk in range(11):
            if not plan <= chunk < plan + 3:
                assert cells.mask[plan, chunk]
                continue
            pair = output.plans[1][0, plan, chunk - plan], output.concepts[1][0, chunk]
            assert cells[plan, chunk] == pytest.approx(float(torch.cosine_similarity(*pair, dim=0)), abs=1e-5)


@pytest.mark.parametrize("scale", [1.0, 0.001])
def test_look_at_plan__is_pale_where_the_plan_is_barely_read(scale: float):
    model = open_model(small_config(vocab_size=256))
    for name, parameter in model.named_parameters():
        if ".gates.plan" in name:
            parameter.data.mul_(scale)
    picture = look_at_plan(model, ByteTokenizer(), TOKENS)
    for figure in (picture.agreement[1], picture.attention):
        darkest = figure.axes[0].collections[0].get_cmap()(1.0)[0]
        assert ("the plan is barely read" in figure.get_suptitle()) == (scale < 1)
        assert (darkest > 0.5) == (scale < 1)


@pytest.mark.parametrize("alignment", ["start", "end"])
def test_look_at_plan__table_of_a_text_shorter_than_two_chunks_of_the_top_level(alignment: str):
    config = small_config(
        vocab_size=256, levels=3, chunk_size=6, context_length=72, horizon=2, encoder__chunk_alignment=alignment
    )
    table = look_at_plan(open_model(config), ByteTokenizer(), TOKENS).table
    assert table.startswith("after `To␣be,␣or␣not␣to␣b`")
    written = [line.split("|")[4].strip() for line in table.splitlines() if line.startswith("| 1 |")]
    assert written == ["`e:␣$x$`", "`␣that␣`"]


def test_look_at_plan__no_complete_chunk(tmp_path):
    picture = look_at_plan(open_model(small_config(vocab_size=256, levels=3)), ByteTokenizer(), TOKENS[:9])
    picture.agreement[2].savefig(tmp_path / "plan.png")
    assert words(picture.agreement[2].axes[0].get_xticklabels()) == ["(next)"]


def test_look_at_plan__other_scripts(tmp_path):
    text = "中文 и 日本語 \U0010fffd "  # the last one is in no font
    tokenizer = train_bpe([text * 30], 280)
    tokens = torch.tensor(tokenizer.encode(text * 4).astype("int64"))
    tokens[3] = tokenizer.end_of_text
    picture = look_at_plan(open_model(small_config(vocab_size=280)), tokenizer, tokens)
    for figure in (picture.agreement[1], picture.attention):
        figure.savefig(tmp_path / "plan.png")  # a missing glyph would be a warning, and so an error
    labels = words(picture.attention.axes[0].get_xticklabels())
    assert any("中" in label or "\\u4e2d" in label for label in labels)
    assert any("и" in label for label in labels)
    assert any("\\u10fffd" in label for label in labels)
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
