import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from nextconcept import InputError
from nextconcept.training.callbacks import WritingSamples
from nextconcept.training.module import ConceptModule
from tests.helpers import FixedData, small_config


def sample(tmp_path: Path, prompt: str | None = "Hi\nyou", **trainer: object) -> list[tuple]:
    logger = TensorBoardLogger(tmp_path)
    written: list[tuple] = []
    logger.experiment.add_text = lambda *arguments: written.append(arguments)
    torch.manual_seed(0)
    module = ConceptModule(small_config(vocab_size=256))
    defaults = {"loggers": [logger], "sanity_checking": False, "is_global_zero": True, "global_step": 7}
    defaults["datamodule"] = FixedData([])
    WritingSamples(prompt, max_new_tokens=4).on_validation_end(SimpleNamespace(**(defaults | trainer)), module)
    return written


def test_on_validation_end__writes_a_block_that_keeps_lines(tmp_path: Path):
    ((tag, text, step),) = sample(tmp_path)
    assert (tag, step) == ("sample", 7)
    assert text.startswith("    Hi\n    you")
    assert sample(tmp_path) == [(tag, text, step)]


def test_on_validation_end__without_a_prompt_it_begins_as_the_validation_split_does(tmp_path: Path):
    tokens, mask = torch.tensor([list(b"ask:answer")]), torch.tensor([[False] * 4 + [True] * 6])
    for learnt, expected in ((mask, "    ask:"), (torch.ones_like(mask), "    a")):
        data = FixedData([(tokens, learnt)])
        ((_, text, _),) = sample(tmp_path, prompt=None, datamodule=data)
        assert text.startswith(expected)


def test_on_validation_end__one_process_writes_and_the_sanity_check_does_not(tmp_path: Path):
    assert sample(tmp_path, is_global_zero=False) == sample(tmp_path, sanity_checking=True) == []


@pytest.mark.parametrize(
    "options",
    [{"prompt": ""}, {"max_new_tokens": -1}, {"temperature": -1.0}, {"temperature": math.nan}, {"seed": 2**70}],
)
def test_settings__are_checked_before_anything_else(options: dict):
    with pytest.raises(InputError, match=next(iter(options)).replace("_", ".")):
        WritingSamples(**options)


def test_setup__a_prompt_that_cannot_be_encoded(tmp_path: Path):
    trainer = SimpleNamespace(datamodule=FixedData([]))
    WritingSamples("Hi").setup(trainer, None, "fit")
    with pytest.raises(InputError, match="the prompt of the writing samples, --sample.prompt: "):
        WritingSamples("\udcff").setup(trainer, None, "fit")
