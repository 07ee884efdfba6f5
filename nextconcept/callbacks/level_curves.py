"""One TensorBoard chart for the losses of all levels."""

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

__all__ = ["LevelCurves"]


class LevelCurves(L.Callback):
    """Draws ``loss/tokens`` and ``loss/concepts_lL`` of every level together, in TensorBoard's "Custom scalars" tab.

    One chart for training, one for validation, and one for validation under each plan source. Used by default; by hand:

    .. code-block:: yaml

        trainer:
          callbacks+:
            - class_path: nextconcept.callbacks.LevelCurves
    """

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lay out the charts."""
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
