from types import SimpleNamespace

import pytest
import torch

from nextconcept.training.callbacks import InterventionTable
from tests.helpers import small_config


def printed(capsys: pytest.CaptureFixture, levels: int, **trainer: object) -> str:
    metrics = {"val/loss/tokens": 2.0, "val/loss/tokens_zero": 2.5, "val/loss/tokens_zero_l2": 2.25}
    values = {"is_global_zero": True, "state": SimpleNamespace(fn="validate"), "callback_metrics": metrics} | trainer
    values["callback_metrics"] = {name: torch.tensor(value) for name, value in values["callback_metrics"].items()}
    InterventionTable().on_validation_end(
        SimpleNamespace(**values), SimpleNamespace(config=small_config(levels=levels))
    )
    return capsys.readouterr().out


def test_table__shows_losses_and_gaps(capsys: pytest.CaptureFixture):
    lines = [line.split() for line in printed(capsys, 3).strip().splitlines()]
    assert lines == [
        ["plan", "level", "nats", "per", "token", "gap"],
        ["predicted", "2.0000"],
        ["zero", "all", "2.5000", "+0.5000"],
        ["zero", "2", "2.2500", "+0.2500"],
    ]


def test_table__prints_nothing_without_plans_or_inside_a_fit(capsys: pytest.CaptureFixture):
    assert printed(capsys, 3, is_global_zero=False) == printed(capsys, 1) == ""
    assert printed(capsys, 3, state=SimpleNamespace(fn="fit")) == ""
