"""A table of losses under each plan source."""

import lightning as L

from nextconcept.training.access import module_of

__all__ = ["InterventionTable"]


class InterventionTable(L.Callback):
    """Prints the cross-entropy under each plan source after ``nextconcept validate`` and ``test``.

    ``zero`` removes the plan, ``shuffled`` replaces it by that of another row, and ``oracle`` by
    the true future (which leaks; a model that has only read its predictions may do worse with it);
    each for all levels together and, with several concept levels, for each alone. The gap is the
    loss under the source minus the loss under the predicted plan.
    """

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the table after ``validate``, but not inside a fit, which has curves."""
        if trainer.state.fn == "validate":
            self._print(trainer, pl_module, "val")

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the table after ``test``."""
        self._print(trainer, pl_module, "test")

    def _print(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        metrics, levels = trainer.callback_metrics, module_of(pl_module).config.hierarchy.concept_levels
        predicted = metrics.get(f"{stage}/loss/tokens")
        if not trainer.is_global_zero or not levels or predicted is None:
            return
        print(f"\n{'plan':<12}{'level':<8}{'nats per token':>15}{'gap':>10}\n{'predicted':<20}{predicted:>15.4f}")
        for source in ("zero", "shuffled", "oracle"):
            for suffix in ("", *(f"_l{level}" for level in levels)):
                loss = metrics.get(f"{stage}/loss/tokens_{source}{suffix}")
                if loss is not None:
                    level = suffix[2:] or ("all" if len(levels) > 1 else "1")
                    print(f"{source:<12}{level:<8}{loss:>15.4f}{loss - predicted:>+10.4f}")
