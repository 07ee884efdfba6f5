"""What every data module does, by the example of one that counts."""

from types import SimpleNamespace

import numpy as np
import pytest

from nextconcept.core.errors import InputError
from nextconcept.data.datamodule import ConceptDataModule
from nextconcept.data.tokenizers import ByteTokenizer
from nextconcept.data.windows import ContiguousWindows, TrainingWindows


class Counting(ConceptDataModule):
    """A data module as a user would write one."""

    vocab_size, tokenizer = 256, ByteTokenizer()

    def training_windows(self, seed: int) -> TrainingWindows:
        return TrainingWindows(np.arange(100), self.context_length, seed)

    def held_out_windows(self, split: str) -> ContiguousWindows:
        return ContiguousWindows(np.arange(100 if split == "val" else 200, 256), self.context_length)

    def describe(self) -> dict[str, str]:
        return {"dataset": "numbers"}


def data_of(**options: object) -> Counting:
    data = Counting(**({"context_length": 16} | options))
    data.prepare_data()
    data.setup()
    return data


def test_loaders__give_batches_of_every_split():
    data = data_of(batch_size=4, eval_batch_size=3)
    batch = next(iter(data.train_dataloader()))
    assert batch.tokens.shape == batch.mask.shape == (4, 17)
    assert [len(batch.tokens) for batch in data.val_dataloader()] == [3, 3, 3, 1]
    assert [len(batch.tokens) for batch in data.test_dataloader()] == [3, 1]
    assert next(iter(data.predict_dataloader())).tokens[0, 0] == 200
    assert data_of(batch_size=5).eval_batch_size == 5


def test_train_dataloader__seed(monkeypatch: pytest.MonkeyPatch):
    def first(seed: int | None) -> list[int]:
        return next(iter(data_of(seed=seed).train_dataloader())).tokens[:, 0].tolist()

    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    assert first(None) == first(5) != first(6)
    monkeypatch.delenv("PL_GLOBAL_SEED")
    assert first(None) == first(0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context_length": 30}, "context.* 30 is not divisible"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"eval_batch_size": 0}, "eval_batch_size 0"),
        ({"num_workers": -1}, "num_workers must be 0 or more"),
        ({"seed": -1}, "the seed of the data must be 0 or more, not -1"),
        ({"levels": 0}, "levels must be 1"),
    ],
)
def test_init__bad(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        data_of(**options)


@pytest.mark.parametrize(("processes", "fails"), [(10, False), (11, True)])
def test_held_out_loaders__a_window_for_each_process(processes: int, fails: bool):
    for rank in (0, processes - 1):
        data = data_of()
        data.trainer = SimpleNamespace(world_size=processes, global_rank=rank)
        if fails:
            with pytest.raises(InputError, match="the val split has 10 windows for 11 processes"):
                data.val_dataloader()
        else:
            assert len(data.val_dataloader().dataset) == 10
