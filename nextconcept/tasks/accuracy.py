"""Accuracy on the star graph."""

from typing import Any

import lightning as L
import torch
from torch import Tensor

from nextconcept.data.windows import ConceptBatch
from nextconcept.inference.generate import generate
from nextconcept.nn.model import PlanSource
from nextconcept.training.access import data_of, module_of

__all__ = ["TaskAccuracy"]


class TaskAccuracy(L.Callback):
    """How many paths of the star graph a model finds, in validation and test; with other data it does nothing.

    The path is written greedily. Metric names, ``STAGE`` being ``val`` or ``test``: ``STAGE/path/exact`` (whole paths),
    ``STAGE/path/node_K`` (the K-th node, from 1) and ``STAGE/path/first_branch`` (the second node, the only one that takes looking
    ahead). ``STAGE/path/exact_zero``, ``..._shuffled`` and ``STAGE/path/first_branch_zero``, ``..._shuffled``: with the plan taken
    away, or another row's; there each node is predicted after the true ones before it, which for these two figures gives what
    writing gives, as the first node is copied and a path with a wrong node is wrong.
    """

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: ConceptBatch, *_: Any
    ) -> None:
        """Count in validation."""
        self._count(trainer, pl_module, batch, "val")

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: ConceptBatch, *_: Any
    ) -> None:
        """Count in the test."""
        self._count(trainer, pl_module, batch, "test")

    def _count(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: ConceptBatch, stage: str) -> None:
        graph = getattr(data_of(trainer), "star_graph", None)
        if graph is None or trainer.sanity_checking:
            return
        model, tokens = module_of(pl_module).model, batch.tokens
        begin = graph.layout(model.config.hierarchy)[0] + graph.question
        path = tokens[:, begin : begin + graph.path_length]
        written = generate(model, tokens[:, :begin], graph.path_length, temperature=0.0)[:, begin:]
        values = self._shares(written == path, "")
        values |= {f"node_{node + 1}": share for node, share in enumerate((written == path).double().mean(0))}
        if model.config.levels > 1:
            sources: tuple[PlanSource, ...] = ("zero", "shuffled") if len(tokens) > 1 else ("zero",)
            for source in sources:
                with torch.no_grad():
                    logits = model(tokens[:, :-1], source).logits
                said = logits[:, begin - 1 : begin - 1 + graph.path_length].argmax(-1)
                values |= self._shares(said == path, f"_{source}")
        logged = {f"{stage}/path/{name}": value.float() for name, value in values.items()}
        pl_module.log_dict(logged, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(tokens))

    def _shares(self, right: Tensor, suffix: str) -> dict[str, Tensor]:
        return {
            f"exact{suffix}": right.all(1).double().mean(),
            f"first_branch{suffix}": right[:, 1].double().mean(),
        }
