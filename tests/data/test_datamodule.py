"""What every data module does, by the example of one that counts."""

import os
import pickle
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.fabric.utilities import move_data_to_device

from nextconcept import ModelConfig
from nextconcept.core.errors import InputError
from nextconcept.data.datamodule import ConceptDataModule
from nextconcept.data.tokenizers import ByteTokenizer
from nextconcept.data.windows import ContiguousWindows, TrainingWindows
from nextconcept.nn.chunks import Chunker
from nextconcept.training.batches import check_data
from tests.core.test_chunking import OWN
from tests.helpers import RULE_TEXT, RULES


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
        ({"batch_size": 10**13}, "a batch would hold .* choose a smaller batch_size"),
        ({"eval_batch_size": 10**13}, "a batch would hold .* choose a smaller batch_size"),
        ({"num_workers": -1}, "num_workers must be 0 or more"),
        ({"seed": -1}, "the seed of the data must be from 0 to .*, not -1"),
        ({"seed": 2**128}, "the seed of the data must be from 0 to .*, not 3402"),
        ({"levels": 0}, "levels must be 1"),
        ({"levels": 10**6}, "levels must be 1 .tokens alone. to 16, not 1000000"),
    ],
)
def test_init__bad(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        data_of(**options)


class Text(Counting):
    """Windows of a short text over and over."""

    def training_windows(self, seed: int) -> TrainingWindows:
        return TrainingWindows(np.frombuffer(RULE_TEXT * 9, dtype=np.uint8), self.context_length, seed)


@pytest.mark.parametrize("rules", [*RULES, [OWN], [{"ends": "\1", "mean_length": 1.0}]], ids=str)
def test_loaders__say_where_chunks_end_as_the_model_finds_them(rules: list):
    shape = {"levels": len(rules) + 1, "chunking": rules, "context_length": 48}
    data = Text(batch_size=8, **shape)
    batch = next(iter(data.train_dataloader()))
    chunker = Chunker(ModelConfig(sharing="shared", **shape))
    found = chunker.ends(batch.tokens[:, :-1])
    assert torch.equal(batch.ends, torch.stack(list(found.values()), 1))
    assert batch.ends.shape == (8, len(rules), 48)
    assert batch.ends[:, 0].any()
    for level, chunks in chunker(batch.tokens[:, :-1]).items():
        assert torch.equal(batch.ends[:, level - 1].sum(1), chunks.counts)
        # A chunk ends where one of each level below does.
        assert not (batch.ends[:, level - 1] & ~batch.ends[:, max(0, level - 2)]).any()
    for batches in (data.val_dataloader(), data.test_dataloader()):
        assert next(iter(batches)).ends.shape[1:] == (len(rules), 48)


def test_loaders__ends_reach_the_training_step():
    data = Text(levels=2, chunking=["words"], context_length=32, num_workers=1)
    batch = next(iter(data.train_dataloader()))
    moved = move_data_to_device(batch, "meta")
    assert type(moved) is type(batch)
    assert moved.ends.shape == (16, 1, 32)
    assert torch.equal(pickle.loads(pickle.dumps(batch)).ends, batch.ends)
    assert move_data_to_device(batch._replace(ends=None), "cpu").ends is None


def test_loaders__say_nothing_where_nobody_knows():
    assert next(iter(data_of().train_dataloader())).ends is None
    # A trained model knows its own rule by its tables alone.
    data = Text(levels=2, chunking=[{"rule": "no.such.rule", "num_states": 2}], context_length=32)
    assert next(iter(data.train_dataloader())).ends is None
    with pytest.raises(InputError, match=r"the chunking rule 'no.such.rule' can't be used"):
        Text(levels=2, chunking=["no.such.rule"], context_length=32).train_dataloader()


@pytest.mark.parametrize("chunking", [None, ["lines"], [{"rule": "words", "max_length": 9}]], ids=str)
def test_check_data__other_rules_are_refused(chunking: list | None):
    data = Text(levels=2, chunking=["words"], context_length=32)
    common = {"levels": 2, "context_length": 32}
    check_data(data, ModelConfig(chunking=["words"], **common))
    check_data(data, ModelConfig(levels=1, context_length=32))
    with pytest.raises(InputError, match="the data cuts its chunks by the rules .* give both the same chunking"):
        check_data(data, ModelConfig(chunking=chunking, **common))


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


def test_workers__leave_interrupts_to_training(monkeypatch: pytest.MonkeyPatch):
    """A terminal sends Ctrl-C to them too, while training finishes its step."""
    monkeypatch.setenv("PL_SEED_WORKERS", "1")
    data = data_of(num_workers=1, batch_size=1)
    expected = [batch.tokens for batch in data_of(batch_size=1).predict_dataloader()]
    batches = iter(data.predict_dataloader())
    read = [next(batches).tokens]
    (worker,) = batches._workers
    os.kill(worker.pid, signal.SIGINT)
    read += [batch.tokens for batch in batches]
    assert len(read) > 2
    assert all(torch.equal(*pair) for pair in zip(read, expected, strict=True))
