import pytest
import torch

from nextconcept.data.windows import ConceptBatch
from nextconcept.training.evaluator import Evaluator, bytes_per_token
from nextconcept.training.losses import LossConfig
from tests.helpers import open_model, small_config


def metrics(*sizes: int, levels: int = 3, brief: bool = False, lengths: tuple[int, ...] = ()) -> dict[str, float]:
    """Evaluate a model on the same rows in batches of these sizes."""
    model = open_model(small_config(levels=levels))
    evaluator, rows = Evaluator(model.config, LossConfig()), torch.randint(64, (sum(sizes), 33))
    for index, tokens in enumerate(rows.split(sizes)):
        cut = tokens[:, : lengths[index] + 1] if lengths else tokens
        batch = ConceptBatch(cut, torch.ones_like(cut, dtype=torch.bool))
        with torch.no_grad():
            evaluator.update(model, batch, torch.arange(64), brief)
    return evaluator.finish()


def test_shuffled__is_reported_for_all_rows_of_uneven_batches():
    whole, split = metrics(4, levels=2), metrics(3, 1, levels=2)
    assert set(split) == set(whole)
    assert split["loss/tokens"] == pytest.approx(whole["loss/tokens"])
    assert split["bits_per_byte"] == pytest.approx(whole["bits_per_byte"])


def test_update__compiles_nothing():
    """Each choice of plans would be compiled on its own, up to a minute each."""
    model, graphs = open_model(small_config(levels=2)), []
    model.compile(backend=lambda graph, inputs: graphs.append(graph) or graph.forward)
    tokens = torch.randint(64, (2, 33))
    with torch.no_grad():
        evaluator = Evaluator(model.config, LossConfig())
        evaluator.update(model, ConceptBatch(tokens, torch.ones_like(tokens, dtype=torch.bool)))
    assert graphs == []


def test_update__is_left_out_where_a_caller_is_compiled():
    """As where ``torch.compile`` is applied to a whole LightningModule."""
    model, tokens = open_model(small_config(levels=2)), torch.randint(64, (2, 33))
    evaluator = Evaluator(model.config, LossConfig())
    batch = ConceptBatch(tokens, torch.ones_like(tokens, dtype=torch.bool))

    def validate() -> None:
        evaluator.update(model, batch)

    with torch.no_grad():
        torch.compile(validate, backend="eager")()
    assert evaluator.finish()["loss/tokens"] > 0


@pytest.mark.parametrize("rules", [None, ["words", 2]], ids=str)
@pytest.mark.parametrize("suffix", ["_shuffled", "_shuffled_l1", "_shuffled_l2"])
def test_shuffled__a_single_row_reads_the_last_row_before(suffix: str, rules: list | None):
    model = open_model(small_config(levels=3, vocab_size=256, **({"chunking": rules} if rules else {})))
    rows = torch.randint(30, 128, (3, 33))
    evaluator = Evaluator(model.config, LossConfig())
    source = evaluator.sources[suffix]
    with torch.no_grad():
        for tokens in (rows[:2], rows[2:]):
            evaluator.update(model, ConceptBatch(tokens, torch.ones_like(tokens, dtype=torch.bool)))
        first = model(rows[:2, :-1], source)
        last = model(rows[1:, :-1], source)  # its second row reads the plans of rows[1], as the single row did
        nats = [
            torch.nn.functional.cross_entropy(out.logits.transpose(1, 2), tokens[:, 1:], reduction="none").mean(1)
            for out, tokens in ((first, rows[:2]), (last, rows[1:]))
        ]
    expected = torch.cat((nats[0], nats[1][1:])).mean().item()
    assert evaluator.finish()[f"loss/tokens{suffix}"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("sizes", "lengths"), [((1, 2), ()), ((1,), ()), ((2, 1), (32, 16))])
def test_shuffled__is_not_reported_where_a_row_has_no_other(sizes: tuple[int, ...], lengths: tuple[int, ...]):
    found = metrics(*sizes, lengths=lengths)
    assert not any("shuffled" in name for name in found)
    assert {"loss/tokens", "loss/tokens_zero", "bits_per_byte"} <= set(found)


def test_shuffled__no_row_reads_the_plan_of_an_earlier_evaluation():
    model = open_model(small_config(levels=2))
    evaluator, rows = Evaluator(model.config, LossConfig()), torch.randint(64, (3, 33))
    for tokens in (rows[:2], rows[2:]):
        with torch.no_grad():
            evaluator.update(model, ConceptBatch(tokens, torch.ones_like(tokens, dtype=torch.bool)))
        assert ("loss/tokens_shuffled" in evaluator.finish()) == (len(tokens) == 2)


def test_update__inside_a_fit_fewer_sources():
    suffixes = {name.removeprefix("loss/tokens") for name in metrics(2, brief=True) if name.startswith("loss/tokens")}
    assert suffixes == {"", "_zero", "_shuffled"}


def test_update__a_batch_without_text_changes_nothing():
    model, rows = open_model(small_config(levels=2)), torch.randint(64, (4, 33))
    mask = torch.ones_like(rows, dtype=torch.bool)
    batches = [ConceptBatch(rows[:2], mask[:2]), ConceptBatch(rows[2:], ~mask[2:])]
    found = []
    for shown in (batches[:1], batches):
        evaluator = Evaluator(model.config, LossConfig())
        with torch.no_grad():
            for batch in shown:
                evaluator.update(model, batch, torch.ones(64, dtype=torch.long), True)
        found.append(evaluator.finish())
    names = ("loss/tokens", "loss/tokens_zero", "bits_per_byte", "bits_per_byte_zero")
    assert all(found[0][name] == pytest.approx(found[1][name]) for name in names)


@pytest.mark.parametrize("horizon", [None, 2])
def test_loss__does_not_depend_on_how_many_rows_a_batch_has(horizon: int | None):
    """Short texts have no concept at the far steps of the horizon."""
    model, rows = open_model(small_config(levels=3, horizon=4)), torch.randint(64, (3, 33))
    config = LossConfig({"cosine": 1.0, "mse": 0.5}, level_weight=[0.3, 0.2], discount=0.9, horizon=horizon)
    mask = torch.arange(33) < torch.tensor([33, 9, 14])[:, None]
    found = []
    for size in (3, 1):
        evaluator = Evaluator(model.config, config)
        with torch.no_grad():
            for batch in zip(rows.split(size), mask.split(size), strict=True):
                evaluator.update(model, ConceptBatch(*batch))
        found.append({name: value for name, value in evaluator.finish().items() if "shuffled" not in name})
    assert found[0] == pytest.approx({name: found[1][name] for name in found[0]}, rel=1e-5, nan_ok=True)
    whole = found[0]
    parts = whole["loss/tokens"] + 0.3 * whole["loss/concepts_l1"] + 0.2 * whole["loss/concepts_l2"]
    assert whole["loss"] == pytest.approx(parts)


def test_collapse__is_that_of_learnt_concepts_at_unit_scale():
    model, rows = open_model(small_config(levels=2)), torch.randint(64, (3, 33))
    mask = (torch.arange(33) < 17).expand(3, 33)
    found = []
    for tokens, scale in ((rows, 1.0), (rows * mask, 1.0), (rows, 3.0)):
        evaluator = Evaluator(model.config, LossConfig())
        with torch.no_grad():
            model.predictor(1).head.maps.mul_(scale)
            evaluator.update(model, ConceptBatch(tokens, mask), None, True)
        found.append({name: value for name, value in evaluator.finish().items() if name.startswith("collapse")})
    assert found[1] == pytest.approx(found[0])
    assert found[2] == pytest.approx(found[0], rel=1e-3)


def test_bytes_per_token__of_ends_of_documents_alone():
    batch = ConceptBatch(torch.zeros(2, 5, dtype=torch.long), torch.ones(2, 5, dtype=torch.bool))
    assert bytes_per_token(batch, torch.zeros(64, dtype=torch.long)) > 0


def test_reset__forgets_batches_of_an_evaluation_that_was_broken_off():
    model = open_model(small_config(levels=2))
    evaluator, rows = Evaluator(model.config, LossConfig()), torch.randint(64, (2, 2, 33))
    batches = [ConceptBatch(tokens, torch.ones_like(tokens, dtype=torch.bool)) for tokens in rows]
    with torch.no_grad():
        evaluator.update(model, batches[0])
        alone = evaluator.finish()
        evaluator.update(model, batches[1])
        evaluator.reset()
        evaluator.update(model, batches[0])
    assert evaluator.finish() == alone
