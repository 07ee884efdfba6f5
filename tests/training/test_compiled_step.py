"""The forward pass and the loss of a training step are one graph for the compiler."""

import pytest
import torch
from torch.fx import GraphModule

from nextconcept.training.losses import LossConfig, compute_losses
from tests.helpers import open_model, small_config

WORDS = [{"ends": " ", "max_length": 8, "mean_length": 4}]
MODELS = {
    "GPT": {"levels": 1},
    "two levels": {"levels": 2, "chunk_size": 4},
    "three levels": {"levels": 3, "chunk_size": 2, "sharing": "separate", "encoder__depth": 1},
    "rules": {
        "levels": 2,
        "vocab_size": 256,
        "chunking": WORDS,
        "sharing": "separate",
        "reader__plan_conditioning": "unbind",
    },
}


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("name", MODELS)
def test_training_step__has_no_graph_break(name: str):
    model = open_model(small_config(**{"depth": 1, "horizon": 2} | MODELS[name])).train()
    if model.encoder.token_prior is not None:
        model.encoder.token_prior.requires_grad_()  # as in a module whose loss has `decode`
    config = LossConfig(terms={"cosine": 1.0, "decode": 0.5})
    tokens = torch.randint(64, (2, 33))
    graphs: list[GraphModule] = []

    def count(graph: GraphModule, inputs: list[torch.Tensor]) -> GraphModule:
        graphs.append(graph)
        return graph

    def loss(tokens: torch.Tensor) -> torch.Tensor:
        output, mask = model(tokens[:, :-1]), torch.ones_like(tokens, dtype=torch.bool)
        return compute_losses(config, model, output, tokens, mask).total

    found = torch.compile(loss, backend=count)(tokens)
    assert len(graphs) == 1
    torch.testing.assert_close(found, loss(tokens), rtol=1e-5, atol=1e-6)
    found.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
