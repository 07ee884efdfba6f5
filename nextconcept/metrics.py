"""Means over an evaluation, summed over batches and processes before they are divided.

Names logged by :class:`~nextconcept.module.ConceptModule` (an interface; ``STAGE`` is ``val`` or ``test``):

- ``STAGE/loss``: the training loss on that split.
- ``STAGE/loss/tokens``: cross-entropy in nats per token, the predicted plan being read; ``..._zero`` and ``..._shuffled``: with
  the plan taken away, or another row's.
- ``STAGE/bits_per_byte``, ``..._zero``, ``..._shuffled``: the same in bits per byte of text.
- ``STAGE/loss/concepts_lL``: concept loss of level L.
- ``STAGE/concepts_lL/TERM/step_J``: a term of it at horizon step J, from 1; the term ``cosine`` is the distance 1 - cos.
- ``STAGE/concepts_lL/similarity/step_J``: mean cosine of predicted and realised concept.
"""

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["Means"]


class Means(Metric):
    """Weighted means under many names, with one synchronisation for all of them.

    Args:
        names: what is averaged; every update gives each name at most once.
    """

    full_state_update = False

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names
        self.add_state("sums", torch.zeros(len(names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("weights", torch.zeros(len(names), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, values: dict[str, tuple[Tensor, Tensor]]) -> None:
        """Add ``{name: (mean, weight)}``, scalars; a mean of weight 0 is ignored."""
        index = torch.tensor([self.names.index(name) for name in values], device=self.sums.device)
        means, weights = (torch.stack([pair[i].detach().double() for pair in values.values()]) for i in (0, 1))
        self.sums.index_add_(0, index, torch.where(weights > 0, means * weights, 0))
        self.weights.index_add_(0, index, weights)

    def compute(self) -> dict[str, float]:
        """The mean under each name that got any weight."""
        means = (self.sums / self.weights).tolist()
        return {
            name: mean for name, mean, weight in zip(self.names, means, self.weights.tolist(), strict=True) if weight
        }
