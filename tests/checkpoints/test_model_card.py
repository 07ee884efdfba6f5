from nextconcept.checkpoints.model_card import model_card
from nextconcept.core.config import ModelConfig

RECORD = {
    "data": {"dataset": "owner/books", "context_length": 64},
    "spent": {"optimizer steps": 7},
    "step": 7,
    "batches": 4,
    "measured": {"val/loss": 9.0, "val/loss/tokens": 1.23456, "val/loss/tokens_zero": 1.5, "val/bits_per_byte": 1.781},
}


def test_model_card__data_training_and_metrics():
    card = model_card(ModelConfig(width=64), 1_234_567, RECORD)
    assert "- dataset: owner/books\n- context: 64\n- optimizer steps: 7\n" in card.text
    assert "On 4 batches of the validation split, at step 7." in card.text
    assert "| `val/loss/tokens` | 1.2346 |\n| `val/loss/tokens_zero` | 1.5000 |" in card.text
    assert "`val/loss`" not in card.text  # a sum that no other loss can be compared with
    assert "1.23 M parameters" in card.text
    assert "| `width` | 64 |" in card.text
    assert "`depth`" not in card.text  # as by default


def test_model_card__head_for_the_hub():
    head = model_card(ModelConfig(width=64), 1, RECORD).data
    assert head.library_name == "nextconcept"
    found = {(result.dataset_name, result.metric_type, result.metric_value) for result in head.eval_results}
    assert found == {("owner/books", "loss/tokens", 1.2346), ("owner/books", "bits_per_byte", 1.781)}


def test_model_card__of_a_model_of_unknown_past():
    card = model_card(ModelConfig(levels=1), 1, {})
    assert "Nothing yet." in card.text
    assert "tokens alone" in card.text
    assert "added up" not in card.text
    assert card.data.eval_results is None
