import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from nextconcept.training.callbacks import ConceptProgressBar
from tests.helpers import module_of, trainer_of


class Slow(Dataset[torch.Tensor]):
    """Windows that take a while to read."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> torch.Tensor:
        time.sleep(0.05)
        return torch.full((33,), index)


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*no `val_dataloader`.*")
def test_rate__counts_the_time_in_which_training_waits_for_data(tmp_path: Path):
    bar = ConceptProgressBar()
    trainer = trainer_of(tmp_path, 3, enable_progress_bar=True, limit_val_batches=0, callbacks=[bar])
    module = module_of()
    trainer.fit(module, DataLoader(Slow(), batch_size=2))
    rate = float(bar.get_metrics(trainer, module)["tokens/s"].replace(",", ""))
    assert 0 < rate < 2 * 32 / (2 * 0.05)
