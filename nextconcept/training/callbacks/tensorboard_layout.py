"""TensorBoard's charts of all levels together, and the settings of a run."""

from dataclasses import asdict

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from nextconcept.core.settings import flat
from nextconcept.training.access import module_of
from nextconcept.training.lightning_compat import leave_out_epochs
from nextconcept.training.module import ConceptModule

__all__ = ["TensorBoardLayout"]


class TensorBoardLayout(L.Callback):
    """Draws the losses of all levels together, in TensorBoard's tab "Custom scalars".

    There is a chart for training, one for validation, and one for validation under each plan
    source, each with a colour and an entry of the legend per level or source. No chart shows the
    epoch. Settings of model, loss and optimizer go to tab "HParams", beside the validation losses.
    ``nextconcept fit`` uses this callback; in a configuration file:

    .. code-block:: yaml

        trainer:
          callbacks+:
            - class_path: nextconcept.training.callbacks.TensorBoardLayout
    """

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write layout and settings on the first process."""
        self._begin(trainer)
        if not trainer.is_global_zero:
            return
        charts = {
            "training": ["Multiline", [r"^train/loss/(tokens|concepts_l\d+)$"]],
            "validation": ["Multiline", [r"^val/loss/(tokens|concepts_l\d+)$"]],
            "validation by plan source": ["Multiline", [r"^val/loss/tokens(_\w+)?$"]],
        }
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_custom_scalars({"loss per level": charts})
                for summary in hparams(
                    _settings(module_of(pl_module)), dict.fromkeys(("val/loss/tokens", "val/bits_per_byte"), 0)
                ):
                    logger.experiment.file_writer.add_summary(summary)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave epochs out of a validation on its own too."""
        if trainer.state.fn == "validate":
            self._begin(trainer)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave epochs out of a test too."""
        self._begin(trainer)

    def _begin(self, trainer: L.Trainer) -> None:
        for logger in trainer.loggers if trainer.is_global_zero else ():
            if isinstance(logger, TensorBoardLogger):
                leave_out_epochs(logger)


def _settings(module: ConceptModule) -> dict[str, bool | float | str]:
    """Return all settings by name, as plain values."""
    groups = asdict(module.config) | {"loss": asdict(module.loss), "optimizer": asdict(module.optimizer_config)}
    return {name: value if isinstance(value, bool | int | float | str) else str(value) for name, value in flat(groups)}
