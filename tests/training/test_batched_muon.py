import copy

import pytest
import torch
from torch.optim import Muon
from torch.profiler import ProfilerActivity, profile

from nextconcept.training import batched_muon
from nextconcept.training.batched_muon import BatchedMuon

SETTINGS = {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1}
SHAPES = [(8, 8), (16, 8), (8, 8), (8, 24), (16, 8), (8, 8), (1, 8)]


def matrices(shapes: list[tuple[int, int]] = SHAPES) -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]


def draw_gradients(parameters: list[torch.nn.Parameter], seed: int) -> None:
    torch.manual_seed(seed)
    for parameter in parameters:
        parameter.grad = 1e-2 * torch.randn_like(parameter)


@pytest.mark.parametrize("settings", [{}, {"nesterov": False}, {"adjust_lr_fn": "match_rms_adamw"}], ids=str)
@pytest.mark.parametrize("most", [1, 100, batched_muon.MOST_ENTRIES])
def test_batched_muon__makes_the_steps_of_torchs_own(settings: dict, most: int, monkeypatch: pytest.MonkeyPatch):
    """Whatever is stacked; and either goes on from a state of the other."""
    # torch's own iterates in bfloat16 everywhere, ours on a CPU in float32.
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda matrix: matrix.to(torch.float32, copy=True))
    monkeypatch.setattr(batched_muon, "MOST_ENTRIES", most)
    pairs = [(matrices(), kind) for kind in (Muon, BatchedMuon)]
    made = [kind([{"params": own[:3]}, {"params": own[3:]}], **SETTINGS | settings) for own, kind in pairs]
    parts = [own for own, _ in pairs]
    for step in range(4):
        for own in parts:
            draw_gradients(own, step)
            own[2].grad = None  # of a part that a step does not reach
        if step == 2:
            states = [copy.deepcopy(optimizer.state_dict()) for optimizer in made]
            for optimizer, state in zip(made, reversed(states), strict=True):
                optimizer.load_state_dict(state)
        for optimizer in made:
            optimizer.step()
    for theirs, ours, first in zip(*parts, matrices(), strict=True):
        torch.testing.assert_close(ours, theirs)
        assert torch.equal(ours, first) == (ours is parts[1][2])


def test_newton_schulz__is_in_float32_on_a_cpu():
    whole = torch.randn(2, 6, 3)
    assert batched_muon.newton_schulz(whole, (3.4445, -4.775, 2.0315), 5, 1e-7).dtype == torch.float32


def test_batched_muon__equal_shapes_share_their_operations():
    counts = []
    for number in (1, 8):
        parameters = matrices([(8, 8)] * number)
        draw_gradients(parameters, 0)
        optimizer = BatchedMuon(parameters, **SETTINGS)
        optimizer.step()
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            optimizer.step()
        counts.append(sum(event.name in ("aten::bmm", "aten::baddbmm", "aten::addmm") for event in seen.events()))
    assert counts[0] == counts[1] > 0


def test_batched_muon__returns_the_loss_of_a_closure():
    parameters = matrices()

    def closure() -> torch.Tensor:
        loss = sum(parameter.square().sum() for parameter in parameters)
        loss.backward()
        return loss

    loss = BatchedMuon(parameters, **SETTINGS).step(closure)
    assert loss.item() > sum(parameter.detach().square().sum() for parameter in parameters)
