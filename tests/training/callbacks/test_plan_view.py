from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nextconcept import InputError
from nextconcept.data.windows import ContiguousWindows
from nextconcept.training.callbacks import PlanView
from nextconcept.training.module import ConceptModule
from tests.helpers import FixedData, small_config


def tags(tmp_path: Path, levels: int = 3, **trainer: object) -> set[str]:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    windows = ContiguousWindows(np.arange(200, dtype=np.uint8), 64)
    values = {
        "loggers": [logger],
        "sanity_checking": False,
        "is_global_zero": True,
        "global_step": 3,
        "datamodule": FixedData(windows),
    }
    module = ConceptModule(small_config(vocab_size=256, levels=levels)).train()
    PlanView(windows=2).on_validation_end(SimpleNamespace(**(values | trainer)), module)
    assert module.model.training
    logger.experiment.close()
    found = EventAccumulator(str(tmp_path)).Reload().Tags()
    return {*found["images"], *found["tensors"]}


def test_on_validation_end__draws_fixed_windows(tmp_path: Path):
    names = [
        f"plan/window_{w}/{name}"
        for w in (0, 1)
        for name in ("level_1", "level_2", "level_1_attention", "table/text_summary")
    ]
    assert tags(tmp_path) == set(names)


def test_on_validation_end__leaves_the_mode_as_it_was_after_an_error():
    module = ConceptModule(small_config(vocab_size=256)).train()
    data = FixedData(ContiguousWindows(np.arange(200, dtype=np.uint8), 64))
    module.model.predictor(1).head.register_forward_hook(lambda *_: 1 / 0)
    loggers = [SimpleNamespace(log_dir="unused")]
    trainer = SimpleNamespace(datamodule=data, sanity_checking=False, is_global_zero=True, loggers=loggers)
    with pytest.raises(ZeroDivisionError):
        PlanView().on_validation_end(trainer, module)
    assert module.model.training


def test_on_validation_end__one_process_draws_and_a_model_without_plans_has_none(tmp_path: Path):
    assert not tags(tmp_path / "a", is_global_zero=False)
    assert not tags(tmp_path / "b", sanity_checking=True)
    assert not tags(tmp_path / "c", levels=1)


@pytest.mark.parametrize("options", [{"windows": -1}, {"length": 0}])
def test_settings__out_of_range(options: dict):
    with pytest.raises(InputError, match=next(iter(options))):
        PlanView(**options)
