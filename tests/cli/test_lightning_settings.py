"""What Lightning and the parser refuse, in one sentence."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.helpers import fails

MISSING = next(
    (name for name, package in (("WandbLogger", "wandb"), ("MLFlowLogger", "mlflow")) if not find_spec(package)), None
)


@pytest.mark.skipif(MISSING is None, reason="the packages of both loggers are installed")
@pytest.mark.parametrize(
    "logger", ["{}", "[{{class_path: CSVLogger, init_args: {{save_dir: logs}}}}, {{class_path: {}}}]"]
)
def test_input_error__a_logger_whose_package_is_missing(logger: str, config: Path, capsys: pytest.CaptureFixture):
    said = fails(capsys, "fit", "--config", config, "--trainer.logger", logger.format(MISSING))
    assert f"{MISSING} can't be made: Requirement" in said
    assert "Union" not in said
    assert "Expected" not in said


def test_input_error__an_argument_that_a_class_refuses(config: Path, capsys: pytest.CaptureFixture):
    callback = "{class_path: EarlyStopping, init_args: {monitor: val/loss, mode: smallest}}"
    said = fails(capsys, "fit", "--config", config, "--trainer.callbacks+", callback)
    assert said.endswith("`mode` can be min, max, got smallest.")
