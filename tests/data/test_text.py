from pathlib import Path

import pytest
import torch

from nextconcept.core.errors import InputError
from nextconcept.data.text import TextDataModule
from nextconcept.data.token_cache import SplitConfig


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_loaders__give_aligned_windows_of_every_split(corpus: Path, tokenizer: str):
    split = SplitConfig("contiguous", 0.1, 0.1)
    data = TextDataModule(
        str(corpus), context_length=32, tokenizer=tokenizer, vocab_size=280, batch_size=4, split=split
    )
    assert data.vocab_size == (256 if tokenizer == "bytes" else 280)
    data.prepare_data()
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert batch.tokens.shape == batch.mask.shape == (4, 33)
    assert data.tokenizer.decode(batch.tokens[0].tolist()) in corpus.read_text()
    texts = [
        torch.cat([b.tokens[:, 1:][b.mask[:, 1:]] for b in loader()])
        for loader in (data.val_dataloader, data.test_dataloader)
    ]
    assert all(data.tokenizer.decode(text.tolist()) in corpus.read_text() for text in texts)


def test_prepare_data__too_short(tmp_path: Path):
    (tmp_path / "short.txt").write_text("too short")
    data = TextDataModule(str(tmp_path / "short.txt"), context_length=32, split=SplitConfig("contiguous"))
    with pytest.raises(InputError, match="fewer than one window of 33"):
        data.prepare_data()


def test_val_dataloader__no_document_held_out(corpus: Path):
    data = TextDataModule(str(corpus), context_length=32)
    data.setup()
    with pytest.raises(InputError, match="the val split .* is empty"):
        data.val_dataloader()


def test_tokenizer__before_setup(corpus: Path):
    with pytest.raises(RuntimeError, match=r"call setup\(\) first"):
        _ = TextDataModule(str(corpus)).tokenizer


def test_hparams__are_plain_and_build_the_module_again(tmp_path: Path):
    data = TextDataModule("books/*.txt", split=SplitConfig(val=0.2), batch_size=3)
    torch.save(dict(data.hparams), tmp_path / "values.pt")
    again = TextDataModule(**torch.load(tmp_path / "values.pt", weights_only=True))
    assert again.split == data.split
    assert again.describe() == data.describe()
    assert data.describe()["dataset"] == "books/*.txt"
