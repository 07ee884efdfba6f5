"""Apple's GPUs: a step of training and a text, as on any other device."""

import pytest
import torch

from nextconcept import generate
from nextconcept.training.losses import LossConfig, compute_losses
from tests.helpers import open_model, small_config

pytestmark = [
    pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs a Mac with an Apple GPU"),
    pytest.mark.xfail(reason="positions in chunks are computed in double precision, which Apple's GPUs lack"),
]


@pytest.mark.parametrize("options", [{}, {"chunking": ["words"], "reader__plan_conditioning": "unbind"}], ids=str)
def test_mps__trains_and_writes_as_a_cpu_does(options: dict):
    model = open_model(small_config(levels=2, vocab_size=128, **options))
    tokens = torch.randint(1, 128, (2, 33))
    results = []
    for device in ("cpu", "mps"):
        model, batch = model.to(device), tokens.to(device)
        model.zero_grad()
        losses = compute_losses(
            LossConfig(), model, model(batch[:, :-1]), batch, torch.ones_like(batch, dtype=torch.bool)
        )
        losses.total.backward()
        results.append((losses.total.item(), generate(model, batch[:, :9], 8, temperature=0.0).tolist()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-3)
    assert results[0][1] == results[1][1]
