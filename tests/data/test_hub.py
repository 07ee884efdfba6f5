import itertools
import re
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
import torch

from nextconcept.core.errors import InputError
from nextconcept.data.hub import HubDataModule
from nextconcept.data.stream import StreamLoader
from nextconcept.data.token_cache import SplitConfig
from tests.helpers import StopAt, module_of, trainer_of, weights_after


@pytest.fixture
def stories(tmp_path: Path) -> str:
    """Ten documents of eight bytes in three shards."""
    folder = tmp_path / "stories"
    folder.mkdir()
    for shard, numbers in enumerate((range(1), range(1, 6), range(6, 10))):
        texts = [f"story {number}." for number in numbers]
        datasets.Dataset.from_dict({"story": texts}).to_parquet(folder / f"train-{shard}.parquet")
    return str(folder)


def test_loaders__of_a_folder_that_is_read_first(stories: str):
    data = HubDataModule(stories, "story", context_length=8, batch_size=2, split=SplitConfig("contiguous", 0.2, 0.2))
    data.prepare_data()
    data.setup()
    text = "".join(data.tokenizer.decode(batch.tokens[0].tolist()) for batch in data.train_dataloader())
    assert "story" in text
    assert sum(int(batch.mask[:, 1:].sum()) for batch in data.val_dataloader()) == 17
    assert data.describe()["dataset"] == stories
    assert "max_documents" not in data.describe()


def test_train_dataloader__trains_on_the_documents_that_are_not_held_out(stories: str):
    options = {"streaming": True, "max_documents": 6, "train_on_stream": True}
    data = HubDataModule(stories, "story", **options, context_length=8, batch_size=2)
    data.prepare_data()
    data.setup()
    loader = data.train_dataloader()
    assert isinstance(loader, StreamLoader)
    windows = torch.cat([batch.tokens for batch in itertools.islice(loader, 4)])
    text = data.tokenizer.decode(windows[:, :-1].flatten().tolist())
    assert "story 6.story 7." in text
    assert "5" not in text
    assert sum(len(data.encoded.tokens(split)) for split in ("train", "val", "test")) == 6 * 9
    assert data.describe()["max_documents"] == 6


def weights_of_a_run(folder: Path, stories: str, stop: int, path: Path | None = None) -> dict:
    """Train on a stream with two workers, in epochs of three batches."""
    options = {"streaming": True, "max_documents": 10, "train_on_stream": True, "num_workers": 2}
    data = HubDataModule(stories, "text", **options, context_length=32, batch_size=2)
    data.prepare_data()
    data.setup()
    loader = data.train_dataloader()
    loader.length = 3
    data.train_dataloader = lambda: loader
    trainer = trainer_of(folder, 8, limit_val_batches=0, callbacks=[StopAt(stop)])
    weights = weights_after(trainer, module_of(), data, path)
    trainer.save_checkpoint(folder / "end.ckpt")
    return weights


@pytest.mark.filterwarnings(
    "ignore:.*fork.*", "ignore:.*log_every_n_steps.*", "ignore:.*dirpath.*", "ignore:Your `IterableDataset`"
)
def test_fit__with_workers_goes_on_over_epochs_and_resumes(tmp_path: Path):
    stories = str(tmp_path / "many.parquet")
    texts = [f"story {number} of many stories." for number in range(60)]
    datasets.Dataset.from_dict({"text": texts}).to_parquet(stories)
    whole = weights_of_a_run(tmp_path / "a", stories, 8)
    weights_of_a_run(tmp_path / "b", stories, 5)
    resumed = weights_of_a_run(tmp_path / "c", stories, 8, tmp_path / "b" / "end.ckpt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("ranks", [2, 3])
def test_train_dataloader__no_process_trains_on_held_out_documents(tmp_path: Path, ranks: int):
    """20 of 40 documents are held out, and the others are in two shards as they are."""
    folder = tmp_path / "many"
    folder.mkdir()
    for shard in range(2):
        texts = [f"<{number:02}>...." for number in range(shard * 20, shard * 20 + 20)]
        datasets.Dataset.from_dict({"text": texts}).to_parquet(folder / f"train-{shard}.parquet")
    options = {"streaming": True, "max_documents": 20, "train_on_stream": True}
    seen = []
    for rank in range(ranks):
        data = HubDataModule(str(folder), **options, context_length=8, batch_size=4)
        data.prepare_data()
        data.setup()
        data.trainer = SimpleNamespace(world_size=ranks, global_rank=rank)
        windows = torch.cat([batch.tokens[:, :-1] for batch in itertools.islice(data.train_dataloader(), 15)])
        seen.append(set(re.findall(r"<\d\d>", data.tokenizer.decode(windows.flatten().tolist()))))
    assert set.union(*seen) == {f"<{number}>" for number in range(20, 40)}
    assert sum(map(len, seen)) == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": " "}, "name of the Hugging Face dataset is empty"),
        ({"max_documents": 0}, "max_documents must be 1 or more, not 0"),
        ({"train_on_stream": True}, "train_on_stream needs streaming, and max_documents"),
        ({"train_on_stream": True, "streaming": True}, "train_on_stream needs streaming, and max_documents"),
    ],
)
def test_init__bad(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        HubDataModule(**({"name": "someone/stories"} | options))
