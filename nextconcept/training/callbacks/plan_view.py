"""Pictures of plans at each validation."""

import lightning as L

from nextconcept.core.errors import InputError
from nextconcept.inference.plan_figures import look_at_plan
from nextconcept.nn.eval_mode import eval_mode
from nextconcept.training.access import data_of, module_of
from nextconcept.training.callbacks.media import media_of

__all__ = ["PlanView"]


class PlanView(L.Callback):
    """Shows plans for fixed windows of the validation split at each validation.

    Figures: ``plan/window_W/level_L`` (planned against realised concepts) and
    ``plan/window_W/level_1_attention`` (of tokens to the plan); text: ``plan/window_W/table``
    (planned beside written). TensorBoard, W&B and MLflow show them; for other loggers they become
    files in the folder ``plans`` of the run. Without a :class:`~nextconcept.ConceptDataModule`
    nothing is shown. ``nextconcept fit`` uses this callback; in a configuration file:

    .. code-block:: yaml

        trainer:
          callbacks+:
            - class_path: nextconcept.training.callbacks.PlanView
              init_args: {windows: 2, length: 48}

    Args:
        windows: number of windows to show, from the beginning of the split.
        length: tokens of a window that are shown.

    Raises:
        InputError: if a number is out of range.
    """

    def __init__(self, windows: int = 1, length: int = 48) -> None:
        if windows < 0 or length < 1:
            raise InputError(f"windows {windows} must be 0 or more, and length {length} of the view 1 or more.")
        self.windows, self.length = windows, length

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the plans on the first process."""
        model, data, media = module_of(pl_module).model, data_of(trainer), media_of(trainer)
        if trainer.sanity_checking or not media or data is None or model.config.levels == 1:
            return
        windows = data.held_out_windows("val") if self.windows else ()
        for index in range(min(self.windows, len(windows))):
            tokens = windows[index].tokens[0, : self.length].to(pl_module.device)
            with eval_mode(model):
                picture = look_at_plan(model, data.tokenizer, tokens)
            figures = {f"level_{level}": figure for level, figure in picture.agreement.items()}
            if picture.attention is not None:
                figures["level_1_attention"] = picture.attention  # behind the plans, by name
            for one in media:
                for name, figure in figures.items():
                    one.figure(f"plan/window_{index}/{name}", figure, trainer.global_step)
                if picture.table:
                    one.text(f"plan/window_{index}/table", picture.table, trainer.global_step, markdown=True)
