"""The norm of the gradient is that of the step at hand."""

from pathlib import Path

import lightning as L
import torch
from torch.utils.data import DataLoader, TensorDataset

from nextconcept.training.module import ConceptModule
from tests.helpers import small_config, trainer_of


class Norms(L.Callback):
    """Notes the norms of the clipped gradients."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_before_zero_grad(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: object) -> None:
        gradients = [one.grad.norm() for one in pl_module.parameters() if one.grad is not None]
        if gradients:
            self.found.append(torch.stack(gradients).norm().item())


def test_gradient_norm__of_the_first_step_of_a_second_fit(tmp_path: Path):
    """A norm that was kept from the first fit would clip the first step of the second."""
    module = ConceptModule(small_config(context_length=16))
    loader = DataLoader(TensorDataset(torch.randint(64, (8, 17))), batch_size=2)
    for options in ({"fast_dev_run": True}, {"limit_val_batches": 0}):
        norms = Norms()
        trainer_of(tmp_path, 3, gradient_clip_val=0.01, callbacks=[norms], **options).fit(module, loader, loader)
    assert len(norms.found) >= 2
    torch.testing.assert_close(torch.tensor(norms.found), torch.full((len(norms.found),), 0.01), rtol=1e-3, atol=0)
