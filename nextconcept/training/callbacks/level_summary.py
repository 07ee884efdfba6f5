"""A table of the levels of a model."""

import lightning as L
from lightning.pytorch.callbacks import ModelSummary
from torch import nn

from nextconcept.nn.model import NextConceptModel
from nextconcept.training.access import module_of

__all__ = ["LevelSummary", "level_table"]


class LevelSummary(ModelSummary):
    """Prints width, depth, parameters and MFLOPs per token of each level when training starts.

    Replaces Lightning's summary of layers: a trainer that has this callback adds none of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._table = ""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Make the table on the first process, before parameters are sharded."""
        if stage == "fit" and trainer.is_global_zero:
            self._table = level_table(module_of(pl_module).model, module_of(pl_module).objective)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the table on the first process."""
        if trainer.is_global_zero:
            print(self._table)


def level_table(model: NextConceptModel, objective: nn.Module | None = None) -> str:
    """Return a table with a row per level, and rows for draft head, shared weights and the whole.

    The parameters of an objective, which are trained beside the model, have a row too; its
    operations have none.

    Level 0 includes encoder and pointers. MFLOPs are those of a forward pass over a window,
    attention included, per token.
    """
    config = model.config
    costs = model.level_flops(config.window_length)
    total = sum(costs.values())
    rows = [("level", "width", "depth", "parameters", "MFLOPs/token")]
    remaining = _count(model)
    for level, cost in costs.items():
        parts: list[nn.Module] = [model.predictor(level)] if level else [model.encoder, model.decoder]
        if level == 0 and model.pointers is not None:
            parts.append(model.pointers)
        if config.sharing == "separate" or config.levels == 1:
            parts.append(model.transformers[level])
        count = _count(*parts)
        remaining, label = remaining - count, f"{level} {'concepts' if level else 'tokens'}"
        rows.append((label, str(config.widths[level]), str(config.depths[level]), f"{count:,}", f"{cost / 1e6:.3f}"))
    if model.draft_head is not None:
        count = _count(model.draft_head)
        remaining -= count
        rows.append(("draft head", "", "", f"{count:,}", ""))
    if remaining:
        rows.append(("shared", "", "", f"{remaining:,}", ""))
    trained = [model] if objective is None else [model, objective]
    if count := _count(*trained[1:]):
        rows.append(("objective", "", "", f"{count:,}", ""))
    rows.append(("total", "", "", f"{_count(*trained):,}", f"{total / 1e6:.3f}"))
    return "\n".join(
        f"{label:<12}{width:>7}{depth:>7}{parameters:>14}{mflops:>14}"
        for label, width, depth, parameters, mflops in rows
    )


def _count(*modules: nn.Module) -> int:
    parameters = {parameter for module in modules for parameter in module.parameters()}
    return sum(parameter.numel() for parameter in parameters)
