from pathlib import Path

import lightning as L
import pytest
import torch

from nextconcept.core.errors import InputError
from nextconcept.data.bpe_training import train_bpe
from nextconcept.data.corpus import Corpus
from nextconcept.data.text import TextDataModule
from nextconcept.data.token_cache import SplitConfig
from nextconcept.data.tokenizer_files import load_tokenizer
from nextconcept.data.tokenizers import ByteTokenizer, SymbolTokenizer


def test_init__a_name_is_no_split():
    with pytest.raises(InputError, match="split takes a SplitConfig, .*, not 'contiguous'"):
        TextDataModule(split="contiguous")


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


@pytest.mark.parametrize("in_run", [True, False])
def test_setup__a_run_reads_the_corpus_once_for_its_fingerprint(corpus: Path, in_run: bool):
    opened = []

    class Watched(TextDataModule):
        def open_corpus(self) -> Corpus:
            opened.append(super().open_corpus())
            return opened[-1]

    data = Watched(str(corpus), context_length=32, split=SplitConfig("contiguous", 0.1, 0.1))
    if in_run:
        data.trainer = L.Trainer(accelerator="cpu", logger=False, barebones=True)
    data.prepare_data()
    data.setup("fit")
    assert len(opened) == 2 - in_run
    corpus.write_text(corpus.read_text() + "more")
    data.prepare_data()
    assert len(opened) == 3 - in_run
    assert opened[-1].fingerprint != opened[0].fingerprint


def test_use_tokenizer__encodes_this_corpus_with_the_tokens_of_the_model(corpus: Path, tmp_path: Path):
    (tmp_path / "other.txt").write_text("Wir lesen einen anderen Text, immer wieder anders. " * 100)
    options = {"tokenizer": "bpe", "vocab_size": 280, "split": SplitConfig("contiguous", 0.1, 0.1)}
    first, other, bare = (
        TextDataModule(str(path), context_length=32, **kinds)
        for path, kinds in (
            (corpus, options),
            (tmp_path / "other.txt", options),
            (corpus, options | {"tokenizer": "bytes"}),
        )
    )
    for data in (first, other, bare):
        data.prepare_data()
        data.setup()
    assert not first.tokenizer.same_tokens(other.tokenizer)
    for data in (other, bare):
        data.use_tokenizer(first.tokenizer)
        assert data.tokenizer.same_tokens(first.tokenizer)  # at once
        data.prepare_data()
        data.setup()
        assert data.tokenizer.same_tokens(first.tokenizer)
        assert data.vocab_size == 280
        assert data.describe()["tokenizer"] == "bpe"
        assert data.tokenizer.decode(data.encoded.tokens("train")) in Path(data.dataset).read_text()
    folders = {first.encoded.folder, other.encoded.folder, bare.encoded.folder}
    assert len(folders) == 3  # the one of the data's own settings, and the model's tokens on it
    other.use_tokenizer(ByteTokenizer())
    assert other.vocab_size == 256
    assert other.describe()["tokenizer"] == "bytes"
    with pytest.raises(InputError, match="reads other tokens than the text .* trained on a planning task"):
        other.use_tokenizer(SymbolTokenizer(["a"]))


def test_use_tokenizer__that_the_corpus_gave_needs_no_other_entry(corpus: Path):
    options = {"tokenizer": "bpe", "vocab_size": 280, "split": SplitConfig("contiguous", 0.1, 0.1)}
    data = TextDataModule(str(corpus), context_length=32, **options)
    data.setup()
    again = TextDataModule(str(corpus), context_length=32, **options)
    again.use_tokenizer(data.tokenizer)
    again.setup()
    assert again.encoded.folder == data.encoded.folder


def test_prepare_data__says_what_is_less_than_was_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "a.txt").write_text("ab " * 100)
    (tmp_path / "b.txt").touch()
    split = SplitConfig("contiguous", 0.1, 0.1)
    data = TextDataModule(str(tmp_path), context_length=4, tokenizer="bpe", vocab_size=2000, split=split)
    data.prepare_data()
    data.setup()
    empty, small = caplog.messages
    assert "empty files left out: 1" in empty
    found = data.tokenizer.vocab_size
    assert found < 300
    assert f"BPE found {found} tokens in the training text, not 2000" in small
    assert data.vocab_size == 2000
    caplog.clear()
    data.use_tokenizer(data.tokenizer)
    (tmp_path / "b.txt").unlink()
    data.prepare_data()
    assert not caplog.messages


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


def test_describe__names_the_tokenizer_that_is_read_with(corpus: Path, tmp_path: Path):
    """One that the data name, but not where a model has brought its own."""
    for name in ("mine", "other"):
        (tmp_path / f"{name}.json").write_text(train_bpe([name * 9], 262).to_json())
    mine, other = (load_tokenizer(str(tmp_path / f"{name}.json")) for name in ("mine", "other"))
    path = str(tmp_path / "mine.json")
    data = TextDataModule(str(corpus), context_length=32, tokenizer=path)
    assert data.describe()["tokenizer"] == path
    data.use_tokenizer(mine)
    assert data.describe()["tokenizer"] == path
    data.use_tokenizer(other)
    assert data.describe()["tokenizer"] == "that of the model from which training went on"
    (tmp_path / "mine.json").unlink()
    gone = TextDataModule(str(corpus), context_length=32, tokenizer=path)
    gone.use_tokenizer(mine)
    assert gone.describe()["tokenizer"] == "that of the model from which training went on"
