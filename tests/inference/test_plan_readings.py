"""What pieces of a text read of the plan."""

import pytest
import torch

from nextconcept.data.bpe_training import train_bpe
from nextconcept.data.tokenizers import ByteTokenizer
from nextconcept.inference.plan_attention import PlanAttentionRecorder
from nextconcept.inference.plan_readings import token_texts
from nextconcept.inference.plan_steps import END_MARK
from nextconcept.inference.text_plans import text_plans
from tests.helpers import open_model, small_config

TEXT = torch.tensor(list(b"the quick brown fox. jumps over"))
WAYS = [
    {"levels": 3, "chunk_size": 2},
    {"levels": 3, "chunk_size": 2, "encoder__chunk_alignment": "end", "planner__mode": "rollout"},
    {"levels": 3, "chunking": ["words", 2], "sharing": "shared", "num_loops": 2},
]


@pytest.mark.parametrize("changes", WAYS, ids=str)
@pytest.mark.parametrize("conditioning", ["cross", "prefix", "unbind"])
def test_text_plans__weights_are_those_of_the_position_that_predicts(changes: dict, conditioning: str):
    changes = changes | {"reader__plan_conditioning": conditioning}
    model = open_model(small_config(vocab_size=256, context_length=64, depth=1, **changes))
    with torch.no_grad(), PlanAttentionRecorder(model) as recorder:
        output = model(TEXT[None], offset=model.config.padding(9))
    assert not any(module._forward_pre_hooks for module in model.modules())
    plain = text_plans(model, ByteTokenizer(), TEXT)
    read = text_plans(model, ByteTokenizer(), TEXT, known=9, attention=True)
    assert not any(anchor.readings for plans in plain for anchor in plans.anchors)
    for plans in read:
        assert plans.conditioning == conditioning
        found = [one for anchor in plans.anchors for one in anchor.readings]
        assert "".join(one.text for one in found) == bytes(TEXT.tolist()).decode()
        assert all(one.new == (one.start >= 9) for one in found)
        if conditioning == "unbind":
            assert all(one.weights == [1.0, 0.0, 0.0] for one in found)
            steps = [(one.place, anchor.readings[0].place) for anchor in plans.anchors for one in anchor.readings]
            assert all(first <= place for place, first in steps)
            continue
        passes = recorder.passes[plans.level - 1]
        assert len(passes) == model.config.level_loops[plans.level - 1]
        assert all(weights.shape[1] == model.config.level_heads[plans.level - 1] for weights in passes)
        mean = sum(weights[0].mean(0) for weights in passes) / len(passes)
        for one in found:
            if plans.level == 1:
                place = one.start + output.offset - 1  # the position before predicts a token
            elif output.chunks is None:
                place = (one.start + output.offset) // model.config.hierarchy.span(plans.level - 1)
            else:
                place = int(output.chunks[1].index[0, one.start])
            expected = mean[place].tolist() if place >= 0 else []
            assert one.weights == pytest.approx(expected, abs=1e-5)
            if conditioning == "cross" and expected:
                assert sum(one.weights) == pytest.approx(1, abs=1e-5)
            elif expected:
                assert 0 < sum(one.weights) < 1


def test_token_texts__make_up_the_text():
    tokenizer = train_bpe(["日本語 and 中文 " * 30], 262)
    ids = tokenizer.encode("日本 and").tolist()
    assert "".join(token_texts(tokenizer, ids, "日本 and")) == "日本 and"
    assert len(token_texts(tokenizer, ids, "日本 and")) == len(ids)
    end = tokenizer.end_of_text
    assert token_texts(tokenizer, [*ids[-1:], end, *ids[-1:]], f"d{END_MARK}d")[1:2] == [END_MARK]
    assert token_texts(ByteTokenizer(), [0x61, 0xE6, 0x97], "a�") == ["a", "", "�"]
    assert token_texts(ByteTokenizer(), [0x61], "other") == []
    assert token_texts(ByteTokenizer(), [], "") == []
