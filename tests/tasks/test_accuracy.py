from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from nextconcept.core.errors import InputError
from nextconcept.data.windows import ConceptBatch
from nextconcept.inference.generate import generate
from nextconcept.tasks.accuracy import TaskAccuracy
from nextconcept.tasks.datamodule import TaskDataModule
from nextconcept.tasks.star_graph import StarGraph
from nextconcept.tasks.task import Task
from nextconcept.training.objectives import Objective
from tests.helpers import Reverse, open_model, small_config

GRAPH = StarGraph(2, 4, 12)


def model_of(levels: int = 2, chunk_size: int = 3, context_length: int = 54) -> torch.nn.Module:
    sizes = {"vocab_size": 16, "levels": levels, "chunk_size": chunk_size, "context_length": context_length}
    return open_model(small_config(width=64, **sizes))


def data_of(task: Task, model: torch.nn.Module) -> TaskDataModule:
    hierarchy = model.config.hierarchy
    return TaskDataModule(task, hierarchy.levels, hierarchy.chunk_size)


def batch_of(data: TaskDataModule, count: int = 30) -> ConceptBatch:
    return data.held_out_windows("val").__getitems__(list(range(count)))


def logged(
    model: torch.nn.Module,
    data: object,
    *batches: ConceptBatch,
    objective: Objective | None = None,
    **trainer: object,
) -> list[dict[str, float]]:
    """What the callback logs of an evaluation of the batches."""
    found: list[dict[str, float]] = []
    module = SimpleNamespace(model=model, objective=objective or Objective(model), log_dict=found.append)
    state = SimpleNamespace(**({"datamodule": data, "sanity_checking": False} | trainer))
    callback = TaskAccuracy()
    callback.on_test_epoch_start(state, module)
    for batch in batches:
        callback.on_test_batch_end(state, module, None, batch, 0)
    callback.on_test_epoch_end(state, module)
    return found


class Writer(torch.nn.Module):
    """A model without a plan, as the callback sees one."""

    def __init__(self, lines: torch.Tensor) -> None:
        super().__init__()
        self.lines, self.config = lines, small_config(vocab_size=16, levels=1, context_length=lines.shape[1])


class Written(Objective):
    """Writes what it is given."""

    def __init__(self, answers: torch.Tensor) -> None:
        super().__init__(SimpleNamespace())
        self.answers = answers

    def write(self, model: torch.nn.Module, prompts: torch.Tensor, length: int) -> torch.Tensor:
        return self.answers


def test_accuracy__counts_what_is_written():
    """A writer that knows the answer, but for one wrong branch and one wrong goal in thirty."""
    data = TaskDataModule(GRAPH, 2, 3)
    batch = batch_of(data)
    start = data.layout.answer
    lines = batch.tokens[:, : start + GRAPH.path_length].clone()
    lines[4, -3], lines[9, -1] = 12, 12
    (values,) = logged(Writer(lines), data, batch, objective=Written(lines[:, start:]))
    assert values.pop("test/answer/exact") == pytest.approx(28 / 30)
    assert values.pop("test/answer/first_branch") == pytest.approx(29 / 30)
    assert [values.pop(f"test/answer/token_{k}") for k in (1, 2, 3, 4)] == pytest.approx([1, 29 / 30, 1, 29 / 30])
    assert not values


def trained(task: Task, model: torch.nn.Module, steps: int) -> torch.nn.Module:
    """The model after it has learnt some of thirty lines by heart."""
    tokens, mask, _ = batch_of(data_of(task, model))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(steps):
        logits = model(tokens[:, :-1]).logits[mask[:, 1:]]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, tokens[:, 1:][mask[:, 1:]]).backward()
        optimizer.step()
    return model


def test_accuracy__exact_answers_are_the_same_written_or_predicted():
    """An answer is written right if and only if each token is right after the true tokens."""
    torch.manual_seed(0)
    model = trained(GRAPH, model_of(), 12)
    data = data_of(GRAPH, model)
    tokens, start = batch_of(data).tokens, data.layout.answer
    truths = tokens[:, start : start + GRAPH.path_length]
    predicted = model(tokens[:, :-1]).logits[:, start - 1 : start - 1 + GRAPH.path_length].argmax(-1)
    share = (predicted == truths).all(1).double().mean()
    assert 0 < share < 1
    (values,) = logged(model, data, batch_of(data))
    assert values["test/answer/exact"] == pytest.approx(float(share))


def test_accuracy__answers_of_tasks_with_several_are_written_without_their_plan(monkeypatch: pytest.MonkeyPatch):
    """After as many passes as tokens, what is judged is what greedy writing gives."""
    monkeypatch.setattr(Reverse, "single_answers", False)
    task, model = Reverse(), model_of(chunk_size=2, context_length=10)
    seen = []

    def judge(
        task: Task, prompts: torch.Tensor, answers: torch.Tensor, truths: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        seen.append(answers)
        return {"exact": answers[:, 0] == truths[:, 0]}

    monkeypatch.setattr(Reverse, "judge", judge)
    data = data_of(task, model)
    batch = batch_of(data)
    logged(model, data, batch)
    start = data.layout.answer
    for answers, source in zip(seen, ("predicted", "zero", "shuffled"), strict=True):
        line = batch.tokens[:, :start]
        for _ in range(task.answer_length):
            line = torch.cat((line, model(line, source).logits[:, -1:].argmax(-1)), 1)
        assert torch.equal(answers, line[:, start:]), source
    assert torch.equal(
        seen[0], generate(model, batch.tokens[:, :start], task.answer_length, temperature=0.0)[:, start:]
    )


def test_accuracy__interventions_where_there_is_a_plan():
    changed = {f"test/answer/{name}_{source}" for name in ("exact", "first_branch") for source in ("zero", "shuffled")}
    for levels in (1, 2):
        data = data_of(GRAPH, model_of(levels))
        (values,) = logged(model_of(levels), data, batch_of(data))
        assert (changed & set(values)) == (changed if levels == 2 else set())


def test_accuracy__a_single_row_takes_the_plan_of_the_batch_before():
    """The means of all metrics are over the same lines, although the last batch has one row."""
    model = model_of()
    data = data_of(GRAPH, model)
    tokens, mask, _ = batch_of(data, 3)
    first, last = ConceptBatch(tokens[:2], mask[:2]), ConceptBatch(tokens[2:], mask[2:])
    assert "test/answer/exact_shuffled" not in logged(model, data, last)[0]
    assert "test/answer/exact_shuffled" not in logged(model, data, last, first)[0]  # it would miss a line
    (values,) = logged(model, data, first, last)
    (of_first,) = logged(model, data, first)
    start, length = data.layout.answer, GRAPH.path_length
    pair = tokens[[2, 1]]
    answer = model(pair[:, :-1], "shuffled").logits[0, start - 1 : start - 1 + length].argmax(-1)
    right = 2 * of_first["test/answer/exact_shuffled"] + float((answer == tokens[2, start : start + length]).all())
    assert values["test/answer/exact_shuffled"] == pytest.approx(right / 3)


def test_accuracy__a_single_row_is_shuffled_with_a_row_of_this_evaluation():
    accuracy, model, rows = TaskAccuracy(), model_of(), torch.arange(3)[:, None].expand(3, 55)
    accuracy._other_row = rows[1:2]
    found = accuracy._interventions(model, rows[2:])
    assert torch.equal(found["zero"], rows[2:])
    assert torch.equal(found["shuffled"], rows[[2, 1]])
    accuracy.on_test_epoch_start(None, None)  # type: ignore[arg-type]
    assert set(accuracy._interventions(model, rows[2:])) == {"zero"}


def test_accuracy__other_data():
    model = model_of()
    data = data_of(GRAPH, model)
    assert logged(model, SimpleNamespace(), batch_of(data)) == []
    assert logged(model, None, batch_of(data)) == []
    assert logged(model, data, batch_of(data), sanity_checking=True) == []


@pytest.mark.parametrize(
    ("verdicts", "message"),
    [
        (lambda answers: {"exact": answers == answers}, "'exact' is none"),
        (lambda answers: {"exact": (answers == answers).all(1).numpy()}, "'exact' is none"),
        (lambda answers: {"exact": (answers == answers).all(1).float()}, "'exact' is none"),
        (lambda answers: {"right": (answers == answers).all(1)}, "it has 'right'"),
    ],
)
def test_judge__verdicts_that_are_not_one_per_line_are_refused(verdicts: Callable, message: str):
    class Lenient(Reverse):
        def judge(self, prompts: torch.Tensor, answers: torch.Tensor, truths: torch.Tensor) -> dict:
            return verdicts(answers)

    model = model_of()
    data = data_of(Lenient(), model)
    with pytest.raises(InputError, match=message):
        logged(model, data, batch_of(data))
