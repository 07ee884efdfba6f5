from nextconcept.checkpoints.model_card import model_card
from nextconcept.core.config import ModelConfig
from nextconcept.core.config_groups import EncoderConfig, PlannerConfig

RECORD = {
    "data": {"dataset": "owner/books", "context_length": 64, "split": {"by": "hash", "val": 0.1}},
    "spent": {"optimizer steps": 7},
    "step": 7,
    "batches": 4,
    "measured": {"val/loss": 9.0, "val/loss/tokens": 1.23456, "val/loss/tokens_zero": 1.5, "val/bits_per_byte": 1.781},
}


def test_model_card__data_training_and_metrics():
    config = ModelConfig(width=64, encoder=EncoderConfig(depth=1), planner=PlannerConfig("rollout", matching={}))
    card = model_card(config, 1_234_567, RECORD)
    assert (
        "- dataset: owner/books\n- context_length: 64\n- split.by: hash\n- split.val: 0.1\n- optimizer steps: 7\n"
        in card.text
    )
    assert "On 4 batches of the validation split, at step 7." in card.text
    assert "| `val/loss/tokens` | 1.2346 |\n| `val/loss/tokens_zero` | 1.5000 |" in card.text
    assert "`val/loss`" not in card.text  # a sum of terms, which no other loss compares with
    assert "1.23 M parameters" in card.text
    assert "Chunks of 4 tokens are composed" in card.text
    assert "Chunks of 4 tokens (and of concepts) are composed" in model_card(ModelConfig(levels=3), 1, RECORD).text
    assert "| `width` | 64 |" in card.text
    assert "| `encoder.depth` | 1 |\n| `planner.mode` | rollout |\n| `planner.matching.top_k` | 8 |" in card.text
    assert "`depth`" not in card.text  # the default


def test_model_card__head_for_the_hub():
    head = model_card(ModelConfig(width=64), 1, RECORD).data
    assert head.library_name == "nextconcept"
    found = {(result.dataset_name, result.metric_type, result.metric_value) for result in head.eval_results}
    assert found == {("owner/books", "loss/tokens", 1.2346), ("owner/books", "bits_per_byte", 1.781)}


def test_model_card__answers_of_a_task():
    measured = {"val/answer/exact": 0.97, "val/answer/first_branch_zero": 0.5, "val/concepts_l1/cosine": 0.3}
    card = model_card(ModelConfig(), 1, {"data": {"dataset": "maze", "task": {"size": 3}}, "measured": measured})
    assert "- dataset: maze\n- task.size: 3\n" in card.text
    assert "| `val/answer/exact` | 0.9700 |\n| `val/answer/first_branch_zero` | 0.5000 |" in card.text
    assert "cosine" not in card.text
    assert 'write("PROMPT")' in card.text  # ordinary words are no prompt of a task
    assert [result.metric_type for result in card.data.eval_results] == ["answer/exact"]


def test_model_card__without_a_record():
    card = model_card(ModelConfig(levels=1), 1, {})
    assert "Nothing yet." in card.text
    assert "tokens alone" in card.text
    assert "composed" not in card.text
    assert "plan(" not in card.text
    assert card.data.eval_results is None
