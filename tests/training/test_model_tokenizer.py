"""A model reads every corpus with its own tokenizer."""

from pathlib import Path

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from nextconcept.checkpoints.files import load_run
from nextconcept.cli.main import main
from nextconcept.core.errors import InputError
from nextconcept.data.text import TextDataModule
from nextconcept.data.token_cache import SplitConfig
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.tasks.datamodule import TaskDataModule
from nextconcept.training.callbacks import StoreModelMetadata
from nextconcept.training.module import ConceptModule
from tests.helpers import Reverse, small_config, trainer_of

SPLIT = SplitConfig("contiguous", 0.1, 0.1)
OPTIONS = {"tokenizer": "bpe", "vocab_size": 280, "context_length": 32, "batch_size": 4, "split": SPLIT}


@pytest.fixture
def other(tmp_path: Path) -> Path:
    path = tmp_path / "other.txt"
    path.write_text("".join(f"Wir lesen {i} andere Zeilen: Falsches Üben von Xylophonmusik.\n" for i in range(110)))
    return path


def module() -> ConceptModule:
    torch.manual_seed(0)
    return ConceptModule(small_config(vocab_size=280, context_length=32))


def fit(folder: Path, corpus: Path, steps: int, path: Path | None = None, **options: object) -> Path:
    """Train with a checkpoint at the end, and return the path of the checkpoint."""
    trainer = trainer_of(folder, steps, callbacks=[StoreModelMetadata()], limit_val_batches=0)
    trainer.fit(module(), TextDataModule(str(corpus), **OPTIONS | options), ckpt_path=path, weights_only=True)
    trainer.save_checkpoint(folder / "end.ckpt")
    return folder / "end.ckpt"


def bits(module: ConceptModule, data: L.LightningDataModule, path: Path | None = None) -> float:
    trainer = trainer_of(Path(), 1)
    trainer.validate(module, data, ckpt_path=path, verbose=False, weights_only=True)
    return float(trainer.callback_metrics["val/bits_per_byte"])


def test_validate__another_corpus(corpus: Path, other: Path, tmp_path: Path):
    path = fit(tmp_path / "a", corpus, 2)
    tokenizer = load_run(path)[1]
    expected = TextDataModule(str(other), **OPTIONS)
    expected.use_tokenizer(tokenizer)
    right = bits(module(), expected, path)
    text = (tmp_path / "other.txt").read_text()
    assert len(tokenizer.encode(text)) > 0.6 * len(text.encode())  # made for other words
    for options in ({}, {"tokenizer": "bytes"}, {"vocab_size": 270}):
        data = TextDataModule(str(other), **OPTIONS | options)
        assert bits(module(), data, path) == right
        assert data.tokenizer.same_tokens(tokenizer)
    loaded = ConceptModule.load_from_checkpoint(path, weights_only=True)
    assert bits(loaded, TextDataModule(str(other), **OPTIONS | {"vocab_size": 300})) == right


def test_validate__in_the_process_that_trained(corpus: Path, other: Path, tmp_path: Path):
    first, second = (TextDataModule(str(path), **OPTIONS) for path in (corpus, other))
    trained = module()
    trainer_of(tmp_path, 2, limit_val_batches=0).fit(trained, first)
    bits(trained, second)
    assert second.tokenizer.same_tokens(first.tokenizer)


def test_fit__resumed_on_another_corpus_stores_the_tokenizer_of_the_model(corpus: Path, other: Path, tmp_path: Path):
    path = fit(tmp_path / "a", corpus, 2)
    again = fit(tmp_path / "b", other, 4, path)
    assert load_run(again)[1].same_tokens(load_run(path)[1])


@pytest.mark.filterwarnings("ignore:.*no `val_dataloader`.*")
def test_fit__a_model_without_its_data_module_keeps_its_tokenizer(corpus: Path, tmp_path: Path):
    path = fit(tmp_path / "a", corpus, 2)
    trainer = trainer_of(tmp_path, 4, callbacks=[StoreModelMetadata()], limit_val_batches=0)
    trained = ConceptModule.load_from_checkpoint(path, weights_only=True)
    trainer.fit(trained, DataLoader(torch.ones(40, 33, dtype=torch.long), 4))
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    assert load_run(tmp_path / "end.ckpt")[1].same_tokens(load_run(path)[1])


def test_validate__data_of_other_tokens(corpus: Path, tmp_path: Path):
    path = fit(tmp_path / "a", corpus, 2)
    data = TaskDataModule(Reverse())
    model = ConceptModule(small_config(vocab_size=280, context_length=data.context_length))
    with pytest.raises(InputError, match="reads other tokens than the task Reverse"):
        trainer_of(tmp_path, 1).validate(model, data, ckpt_path=path, weights_only=True)


def run_of(logs: Path, name: str) -> tuple[Path, Tokenizer]:
    path = logs / name / "version_0" / "checkpoints" / "last.ckpt"
    return path, load_run(path)[1]


@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
def test_command__goes_on_with_another_corpus(config: Path, other: Path, tmp_path: Path):
    small = ["--trainer.num_sanity_val_steps", "0", "--data.eval_batch_size", "16"]

    def train(name: str, *args: object) -> tuple[Path, Tokenizer]:
        named = ["--trainer.logger.init_args.name", name, *map(str, args)]
        main(["fit", "--config", str(config), *small, *named])
        return run_of(tmp_path / "logs", name)

    path, tokenizer = train("first", "--data.tokenizer", "bpe", "--data.vocab_size", 280)
    on_other = ("--data.dataset", other, "--trainer.max_steps", 8)
    # Settings of the data that don't suit the model's tokenizer: it has 280 tokens.
    for name, args in {
        "resumed": ("--ckpt_path", path, "--data.tokenizer", "bpe", "--data.vocab_size", 300),
        "started": ("--model.init_from", path),
    }.items():
        _, stored = train(name, *on_other, *args)
        assert stored.same_tokens(tokenizer)
        beside = (tmp_path / "logs" / name / "version_0" / "tokenizer.json").read_text()
        assert beside == tokenizer.to_json()
