from types import SimpleNamespace

import pytest
import torch

from nextconcept.tasks.star_graph import StarGraph, StarGraphWindows
from nextconcept.training.callbacks import TaskAccuracy
from tests.helpers import open_model, small_config

GRAPH = StarGraph(2, 4, 12)


def logged(model: torch.nn.Module, **trainer: object) -> dict[str, float]:
    batch = StarGraphWindows(GRAPH, model.config.hierarchy, 1, 30).__getitems__(list(range(30)))
    values: dict[str, float] = {}
    module = SimpleNamespace(
        model=model, log_dict=lambda found, **_: values.update({k: float(v) for k, v in found.items()})
    )
    state = {"datamodule": SimpleNamespace(star_graph=GRAPH), "sanity_checking": False} | trainer
    TaskAccuracy().on_test_batch_end(SimpleNamespace(**state), module, None, batch, 0)
    return values


def model_of(levels: int = 2, **changes: object):
    return open_model(small_config(vocab_size=16, chunk_size=3, levels=levels, context_length=54, **changes))


def test_path_accuracy__counts_what_is_written(monkeypatch: pytest.MonkeyPatch):
    """A writer that knows the answer, but for one wrong branch and one wrong goal in thirty."""
    model = model_of()
    window = StarGraphWindows(GRAPH, model.config.hierarchy, 1, 30).__getitems__(list(range(30)))
    front, _ = GRAPH.layout(model.config.hierarchy)
    line = window.tokens[:, : front + GRAPH.question + GRAPH.path_length].clone()
    line[4, -3], line[9, -1] = 12, 12
    monkeypatch.setattr(model, "generate", lambda *_, **__: line)
    values = logged(model)
    assert values["test/path/exact"] == pytest.approx(28 / 30)
    assert values["test/path/first_branch"] == values["test/path/node_2"] == pytest.approx(29 / 30)
    assert [values[f"test/path/node_{k}"] for k in (1, 3, 4)] == pytest.approx([1, 1, 29 / 30])


def test_path_accuracy__exact_paths_are_the_same_written_or_predicted():
    """What the docstring claims: a path is written right if and only if each node is right after the true ones before it."""
    torch.manual_seed(0)
    model = model_of(width=64)
    windows = StarGraphWindows(GRAPH, model.config.hierarchy, 1, 30)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    tokens, mask = windows.__getitems__(list(range(30)))
    for _ in range(30):  # some of the thirty lines are learnt by heart, others not
        losses = torch.nn.functional.cross_entropy(
            model(tokens[:, :-1]).logits.transpose(1, 2), tokens[:, 1:], reduction="none"
        )
        optimizer.zero_grad()
        (losses * mask[:, 1:]).mean().backward()
        optimizer.step()
    begin = GRAPH.layout(model.config.hierarchy)[0] + GRAPH.question
    said = model(tokens[:, :-1]).logits[:, begin - 1 : begin - 1 + GRAPH.path_length].argmax(-1)
    share = (said == tokens[:, begin : begin + GRAPH.path_length]).all(1).double().mean()
    assert 0 < share < 1
    assert logged(model)["test/path/exact"] == pytest.approx(float(share))


def test_path_accuracy__interventions_where_there_is_a_plan():
    assert {"test/path/first_branch_zero", "test/path/exact_shuffled"} <= set(logged(model_of()))
    assert not any("zero" in name for name in logged(model_of(1)))


def test_path_accuracy__other_data():
    assert logged(model_of(), datamodule=SimpleNamespace(star_graph=None)) == {}
    assert logged(model_of(), sanity_checking=True) == {}
