import io

import torch

from nextconcept.nn.trace_shapes import describe, trace_shapes
from tests.helpers import open_model, small_config


def test_trace_shapes__prints_a_tree_and_leaves_no_hooks():
    model, file = open_model(small_config(levels=2, depth=1)), io.StringIO()
    with trace_shapes(model, file=file):
        model(torch.zeros(2, 9, dtype=torch.long))
    lines = file.getvalue().splitlines()
    assert lines[0].startswith(
        "model NextConceptModel((2, 9)) -> ModelOutput(logits=(2, 9, 64), predictions={1: Prediction(plan=(2, 3, 3, 32)"
    )
    assert "  encoder ConceptEncoder((2, 9)) -> {1: (2, 2, 32)}" in lines
    assert any("transformers.0.blocks.0 Block(" in line for line in lines)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_trace_shapes__filters_by_name():
    model, file = open_model(small_config()), io.StringIO()
    with trace_shapes(model, "predictors.*", file):
        model(torch.zeros(1, 8, dtype=torch.long))
    assert {line.split()[0].split(".")[0] for line in file.getvalue().splitlines()} == {"predictors"}


def test_describe__nested_values():
    x = torch.zeros(2, 3)
    assert (
        describe([x, (x, None), {"a": x}, 3, "s", object()]) == "[(2, 3), ((2, 3), None), {a: (2, 3)}, 3, 's', object]"
    )
