import re
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from nextconcept.data.windows import ConceptBatch
from nextconcept.training.callbacks import TensorBoardLayout
from nextconcept.training.lightning_compat import leave_out_epochs
from nextconcept.training.module import ConceptModule
from tests.helpers import small_config


def test_on_fit_start__charts_match_the_logged_names(tmp_path: Path):
    logger = TensorBoardLogger(tmp_path)
    layouts = []
    logger.experiment.add_custom_scalars = layouts.append
    module = ConceptModule(small_config(levels=3))
    TensorBoardLayout().on_fit_start(L.Trainer(logger=logger, accelerator="cpu", enable_checkpointing=False), module)
    (charts,) = layouts[0].values()
    tokens = torch.randint(64, (2, 33))
    module.evaluator.update(module.model, ConceptBatch(tokens, torch.ones_like(tokens, dtype=torch.bool)))
    names = [f"val/{name}" for name in module.evaluator.finish()]

    def drawn(chart: str) -> list[str]:
        return [name for name in names if any(re.search(tag, name) for tag in charts[chart][1])]

    assert drawn("validation") == ["val/loss/tokens", "val/loss/concepts_l1", "val/loss/concepts_l2"]
    assert drawn("validation by plan source") == [name for name in names if "loss/tokens" in name]


def test_epochs__are_left_out_once(tmp_path: Path):
    logger = TensorBoardLogger(tmp_path)
    leave_out_epochs(logger)
    once = logger.experiment.add_scalar
    leave_out_epochs(logger)
    assert logger.experiment.add_scalar is once


def test_on_fit_start__settings_are_plain_values_beside_the_losses(tmp_path: Path):
    logger = TensorBoardLogger(tmp_path)
    module = ConceptModule(small_config(levels=3, sliding_window=[4, None, 2]))
    TensorBoardLayout().on_fit_start(L.Trainer(logger=logger, accelerator="cpu", enable_checkpointing=False), module)
    logger.save()
    (file,) = tmp_path.glob("**/events*")
    content = file.read_bytes()
    for text in (b"_hparams_/experiment", b"val/loss/tokens", b"optimizer.lr", b"encoder.composition", b"[4, None, 2]"):
        assert text in content
