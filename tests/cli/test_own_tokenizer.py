"""A tokenizer that the user brings, from the command line."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer as HFTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

import nextconcept
from nextconcept.cli.main import main
from tests.helpers import fails

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*")

RUN = Path("logs/tiny/version_0")


@pytest.fixture
def tokenizer(corpus: Path) -> Path:
    """A trained tokenizer of 300 ids in a folder, as published models have them."""
    library = HFTokenizer(models.BPE())
    library.pre_tokenizer, library.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["</s>"], initial_alphabet=alphabet, show_progress=False
    )
    library.train([str(corpus)], trainer)
    folder = corpus.with_name("published")
    folder.mkdir()
    library.save(str(folder / "tokenizer.json"))
    return folder


def test_own_tokenizer__goes_with_run_and_export(config: Path, tokenizer: Path, capsys: pytest.CaptureFixture):
    options = ["--config", str(config), "--data.tokenizer", str(tokenizer), "--model.config.chunking", '["words"]']
    main(["fit", *options])
    tokenizer.rename("moved")  # the run has a copy
    main(["validate", *options, "--ckpt_path", str(RUN)])
    assert "val/bits_per_byte" in capsys.readouterr().out
    main(["fit", *options, "--ckpt_path", str(RUN), "--trainer.max_steps", "8"])
    main(["export", "--ckpt_path", str(RUN), "--output", "exported"])
    writers = [nextconcept.load(path) for path in (RUN, "exported")]
    assert writers[0].model.config.vocab_size == writers[0].tokenizer.vocab_size == 300
    texts = [writer.write("the quick ", max_new_tokens=9, temperature=0) for writer in writers]
    assert texts[0] == texts[1]
    assert str(tokenizer) in Path("exported/README.md").read_text()


def test_own_tokenizer__missing(config: Path, capsys: pytest.CaptureFixture):
    message = fails(capsys, "fit", "--config", str(config), "--data.tokenizer", "missing.json")
    assert "there is no file missing.json" in message
    assert not Path("logs").exists()
