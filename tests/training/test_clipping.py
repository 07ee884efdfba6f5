"""The norm of the gradient is that of the step at hand."""

from pathlib import Path

import lightning as L
import torch
from torch.optim import SGD, Optimizer
from torch.utils.data import DataLoader, TensorDataset

from nextconcept.training.module import ConceptModule
from tests.helpers import small_config, trainer_of


class Norms(L.Callback):
    """Notes the norms of the clipped gradients."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_before_zero_grad(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        trained = [one for group in optimizer.param_groups for one in group["params"]]
        gradients = [one.grad.norm() for one in trained if one.grad is not None]
        if gradients:
            self.found.append(torch.stack(gradients).norm().item())


def test_gradient_norm__of_the_first_step_of_a_second_fit(tmp_path: Path):
    """A norm that was kept from the first fit would clip the first step of the second."""
    module = ConceptModule(small_config(context_length=16))
    loader = DataLoader(TensorDataset(torch.randint(64, (8, 17))), batch_size=2)
    for options in ({"fast_dev_run": True}, {"limit_val_batches": 0}):
        norms = Norms()
        trainer_of(tmp_path, 3, gradient_clip_val=0.01, callbacks=[norms], **options).fit(module, loader, loader)
        with torch.no_grad():  # so that the two norms differ
            for parameter in module.parameters():
                parameter.mul_(1.5)
    assert len(norms.found) >= 2
    torch.testing.assert_close(torch.tensor(norms.found), torch.full((len(norms.found),), 0.01), rtol=1e-3, atol=0)


class OfDecoder(ConceptModule):
    """Trains a part of its parameters."""

    def configure_optimizers(self) -> Optimizer:
        return SGD(self.model.decoder.parameters(), lr=0.1)


def test_gradient_norm__of_what_an_optimizer_does_not_train_does_not_clip(tmp_path: Path):
    module, norms = OfDecoder(small_config(context_length=16)), Norms()
    loader = DataLoader(TensorDataset(torch.randint(64, (8, 17))), batch_size=2)
    trainer_of(tmp_path, 3, gradient_clip_val=0.01, callbacks=[norms], limit_val_batches=0).fit(module, loader, loader)
    torch.testing.assert_close(torch.tensor(norms.found), torch.full((2,), 0.01), rtol=1e-3, atol=0)
