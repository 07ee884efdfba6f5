from types import SimpleNamespace

import torch

from nextconcept.checkpoints.files import KEY, TASK
from nextconcept.checkpoints.model_card import RECORD
from nextconcept.data.text import TextDataModule
from nextconcept.data.tokenizers import ByteTokenizer
from nextconcept.tasks import StarGraph, TaskDataModule
from nextconcept.training.callbacks import StoreModelMetadata
from nextconcept.training.module import ConceptModule
from tests.helpers import small_config


def saved(callback: StoreModelMetadata, trainer: SimpleNamespace) -> dict:
    checkpoint: dict = {}
    callback.on_save_checkpoint(trainer, ConceptModule(small_config()), checkpoint)
    return checkpoint


def make_trainer(step: int) -> SimpleNamespace:
    data = TextDataModule("books/*.txt", context_length=32)
    data._encoded = SimpleNamespace(tokenizer=ByteTokenizer())
    metrics = {"val/loss/tokens": torch.tensor(2.5), "train/loss": torch.tensor(9.0)}
    return SimpleNamespace(
        datamodule=data, global_step=step, callback_metrics=metrics, num_val_batches=[3], sanity_checking=False
    )


def test_on_save_checkpoint__what_the_last_validation_measured():
    callback, trainer = StoreModelMetadata(), make_trainer(5)
    assert "measured" not in saved(callback, trainer)[KEY][RECORD]
    callback.on_validation_end(trainer, ConceptModule(small_config()))
    trainer.global_step = 7  # a later step, not validated
    record = saved(callback, trainer)[KEY][RECORD]
    assert (record["step"], record["batches"], record["measured"]) == (5, 3, {"val/loss/tokens": 2.5})
    assert record["data"]["dataset"] == "books/*.txt"


def test_on_load_checkpoint__a_resumed_run_still_knows():
    callback, trainer = StoreModelMetadata(), make_trainer(5)
    callback.on_validation_end(trainer, ConceptModule(small_config()))
    checkpoint = saved(callback, trainer)
    resumed = StoreModelMetadata()
    resumed.on_load_checkpoint(trainer, ConceptModule(small_config()), checkpoint)
    assert saved(resumed, trainer) == checkpoint


def test_on_save_checkpoint__the_task_of_a_task():
    trainer = make_trainer(5)
    assert TASK not in saved(StoreModelMetadata(), trainer)[KEY]
    trainer.datamodule = TaskDataModule(StarGraph(3, 4, 30))
    stored = saved(StoreModelMetadata(), trainer)[KEY]
    assert stored[TASK] == {"name": "StarGraph", "settings": {"arms": 3, "path_length": 4, "nodes": 30}}


def test_on_load_checkpoint__names_the_tokenizer_that_the_run_began_with():
    callback, trainer = StoreModelMetadata(), make_trainer(5)
    record = {"data": {"dataset": "books/*.txt", "tokenizer": "first/tokenizer.json"}}
    callback.on_load_checkpoint(trainer, ConceptModule(small_config()), {KEY: {RECORD: record}})
    assert saved(callback, trainer)[KEY][RECORD]["data"]["tokenizer"] == "first/tokenizer.json"


def test_on_fit_start__a_new_run_has_measured_nothing():
    callback, trainer = StoreModelMetadata(), make_trainer(5)
    callback.on_validation_end(trainer, ConceptModule(small_config()))
    trainer.log_dir, trainer.loggers, trainer.is_global_zero, trainer.ckpt_path = None, [], True, "last.ckpt"
    callback.on_fit_start(trainer, ConceptModule(small_config()))
    assert "measured" in saved(callback, trainer)[KEY][RECORD]
    trainer.ckpt_path = None
    callback.on_fit_start(trainer, ConceptModule(small_config()))
    assert "measured" not in saved(callback, trainer)[KEY][RECORD]
