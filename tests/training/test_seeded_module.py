"""What a batch draws, and what is left to whoever draws between batches."""

from pathlib import Path

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from nextconcept.training.module import ConceptModule
from nextconcept.training.seeded_module import BatchDraws
from tests.helpers import small_config, trainer_of

CPU = torch.device("cpu")


def test_begin_and_end__the_seed_counts_within_and_nothing_is_left_of_it():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    found, draws = [], BatchDraws()
    for _ in range(2):
        found.append(torch.rand(()))
        draws.begin(7, CPU)
        found.append(torch.rand(()))
        draws.end(CPU)
    draws.end(CPU)  # of a batch that never began
    assert torch.equal(torch.stack(found[::2]), expected)
    assert found[1] == found[3]


class Noted(Dataset):
    """Windows that are drawn anew whenever they are read, and noted."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        drawn = torch.randint(64, (17,))
        self.read.append(int((drawn * torch.arange(17)).sum()))
        return drawn


def fitted(seed: int, epochs: int = 3) -> tuple[list[int], ConceptModule]:
    """Train on windows drawn from the global generator, with a validation after each epoch."""
    torch.manual_seed(seed)
    data, module = Noted(), ConceptModule(small_config(context_length=16, dropout=0.1))
    val = DataLoader(TensorDataset(torch.zeros(4, 17, dtype=torch.long)), batch_size=2)
    trainer_of("unused", -1, max_epochs=epochs).fit(module, DataLoader(data, batch_size=2), val)
    return data.read, module


def test_fit__leaves_the_global_generator_to_the_data(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    read, module = fitted(1)
    assert len(set(read)) == len(read) == 12
    again, same = fitted(1)
    assert again == read
    assert all(torch.equal(one, other) for one, other in zip(module.parameters(), same.parameters(), strict=True))
    assert not set(fitted(2)[0]) & set(read)
    follows = torch.rand(())  # a model that is made next is another one
    fitted(2)
    assert torch.rand(()) == follows
    fitted(1)
    assert torch.rand(()) != follows


def test_fit__dropout_follows_the_seed(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    weights = []
    for seed in (1, 2):
        torch.manual_seed(0)
        module = ConceptModule(small_config(context_length=16, dropout=0.5))
        torch.manual_seed(seed)
        loader = DataLoader(TensorDataset(torch.arange(34).view(2, 17)), batch_size=2)
        trainer_of("unused", 1, limit_val_batches=0).fit(module, loader, loader)
        weights.append(module.model.encoder.embedding.weight.detach().clone())
    assert not torch.equal(*weights)


class Failing(L.Callback):
    def on_before_backward(self, *_: object) -> None:
        raise RuntimeError("broken off")


def test_fit__one_that_is_broken_off_gives_the_generator_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")  # without it, two fits draw differently in any case
    drawn = []
    for seed in (1, 2):
        module = ConceptModule(small_config(context_length=16))
        torch.manual_seed(seed)
        windows = DataLoader(TensorDataset(torch.zeros(4, 17, dtype=torch.long)), batch_size=2)
        with pytest.raises(RuntimeError, match="broken off"):
            trainer_of(tmp_path, 2, callbacks=[Failing()]).fit(module, windows, windows)
        drawn.append(torch.rand(3))
    assert not torch.equal(*drawn)


def test_configure_callbacks__once_per_trainer(tmp_path: Path, capsys: pytest.CaptureFixture):
    module, trainer = ConceptModule(small_config(context_length=16)), trainer_of(tmp_path, 1)
    windows = DataLoader(TensorDataset(torch.zeros(4, 17, dtype=torch.long)), batch_size=2)
    trainer.fit(module, windows, windows)
    capsys.readouterr()
    trainer.validate(module, windows, verbose=False)
    assert "override" not in capsys.readouterr().err
