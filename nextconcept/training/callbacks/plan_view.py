"""Pictures of plans at each validation."""

from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

from nextconcept.inference.plan_figures import look_at_plan
from nextconcept.training.access import data_of, module_of

__all__ = ["PlanView"]


class PlanView(L.Callback):
    """Shows plans for fixed windows of the validation split, in TensorBoard at each validation.

    Tab "Images": ``plan/window_W/level_L`` (planned against realised concepts) and
    ``plan/window_W/attention`` (of tokens to the plan); tab "Text": ``plan/window_W/table``
    (planned beside written). Without a :class:`~nextconcept.ConceptDataModule` nothing is shown.
    ``nextconcept fit`` uses this callback; in a configuration file:

    .. code-block:: yaml

        trainer:
          callbacks+:
            - class_path: nextconcept.training.callbacks.PlanView
              init_args: {windows: 2, length: 48}

    Args:
        windows: number of windows to show, from the beginning of the split.
        length: tokens of a window that are shown.
    """

    def __init__(self, windows: int = 1, length: int = 48) -> None:
        self.windows, self.length = windows, length

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the plans on the first process."""
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        model, data = module_of(pl_module).model, data_of(trainer)
        idle = trainer.sanity_checking or not trainer.is_global_zero or not boards
        if idle or data is None or model.config.levels == 1:
            return
        training = model.training
        model.eval()
        windows: Any = data.val_dataloader().dataset
        for index in range(min(self.windows, len(windows))):
            tokens = windows[index].tokens[0, : self.length].to(pl_module.device)
            picture = look_at_plan(model, data.tokenizer, tokens)
            figures = {f"level_{level}": figure for level, figure in picture.agreement.items()}
            if picture.attention is not None:
                figures["attention"] = picture.attention
            for board in boards:
                for name, figure in figures.items():
                    board.experiment.add_figure(f"plan/window_{index}/{name}", figure, trainer.global_step)
                if picture.table:
                    board.experiment.add_text(f"plan/window_{index}/table", picture.table, trainer.global_step)
        model.train(training)
