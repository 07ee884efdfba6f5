"""Means and collapse monitors of an evaluation, summed over batches and processes and then divided.

Names logged by :class:`~nextconcept.training.module.ConceptModule` (an interface; ``STAGE`` is
``val`` or ``test``):

- ``STAGE/loss``: the training loss on that split.
- ``STAGE/loss/tokens``: cross-entropy in nats per token, with the predicted plan; ``..._zero`` and
  ``..._shuffled``: without a plan, and with the plan of another row. ``nextconcept validate`` and
  ``test`` add ``..._oracle`` (the true future, which leaks) and, with several concept levels, each
  of the three for level L alone, ``..._zero_lL``.
- ``STAGE/loss/NAME``: a term of an objective other than the next token, with its weight.
- ``STAGE/bits_per_byte``, with the same endings: these losses in bits per byte of text.
- ``STAGE/loss/concepts_lL``: concept loss of level L.
- ``STAGE/concepts_lL/TERM/step_J``: one of its terms at horizon step J, from 1 (of long horizons:
  1, 2, 4, 8, ...).
- ``STAGE/concepts_lL/similarity/step_J``: mean cosine of predicted and realised concept.
- ``STAGE/plan_l1/right_at_I``: share of the tokens at place I of a chunk, from 1, that are read
  back from the next planned concept (``nextconcept validate`` and ``test``).
- ``STAGE/plan_l1/right_length``: share of the chunks that a rule ends whose length is the likeliest
  one according to the next planned concept (likewise).
- ``STAGE/collapse_lL/effective_rank_plan``, ``..._target``: effective rank of predicted and of
  realised concepts.
- ``STAGE/collapse_lL/variance_ratio``: variance of predicted over that of realised concepts, both
  at unit scale.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["EffectiveRank", "WeightedMeans"]


class _DoubleMetric(Metric):
    """A metric whose sums stay in double precision when its module is cast (``bf16-true``)."""

    full_state_update = False

    def _apply(self, *args: Any, **kwargs: Any) -> "_DoubleMetric":
        super()._apply(*args, **kwargs)
        for name, default in self._defaults.items():
            setattr(self, name, getattr(self, name).double())
            self._defaults[name] = torch.as_tensor(default).double()  # the values after a reset
        return self


class WeightedMeans(_DoubleMetric):
    """Weighted means under many names, with one synchronisation for all of them.

    Args:
        names: names of the means; an update may leave any of them out.
    """

    sums: Tensor
    weights: Tensor

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names
        self._places = {name: place for place, name in enumerate(names)}
        self.add_state("sums", torch.zeros(len(names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("weights", torch.zeros(len(names), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, values: dict[str, tuple[Tensor, Tensor]]) -> None:
        """Add ``{name: (mean, weight)}`` of scalar tensors; a mean of weight 0 is ignored."""
        index = torch.tensor([self._places[name] for name in values], device=self.sums.device)
        means, weights = (torch.stack([pair[i].detach().double() for pair in values.values()]) for i in (0, 1))
        self.sums.index_add_(0, index, torch.where(weights > 0, means * weights, 0))
        self.weights.index_add_(0, index, weights)

    def compute(self) -> dict[str, tuple[float, float]]:
        """Return ``{name: (mean, weight)}`` for the names that got any weight."""
        means, weights = (self.sums / self.weights).tolist(), self.weights.tolist()
        pairs = zip(self.names, means, weights, strict=True)
        return {name: (mean, weight) for name, mean, weight in pairs if weight}


class EffectiveRank(_DoubleMetric):
    """Effective rank and variance of a stream of vectors.

    The effective rank (Roy & Vetterli, 2007) is ``exp(-sum p log p)`` with p the singular values of
    the centred vectors over their sum: D for an even spread over D directions, 1 for a line, and
    low for a predictor that collapses.

    Args:
        width: D.
    """

    count: Tensor
    total: Tensor
    products: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros(width, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("products", torch.zeros(width, width, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, vectors: Tensor) -> None:
        """Add (M, D) vectors."""
        vectors = vectors.detach().double()
        self.count += vectors.shape[0]
        self.total += vectors.sum(0)
        self.products += vectors.T @ vectors

    def compute(self) -> tuple[float, float]:
        """Return ``(effective rank, variance summed over features)``, both NaN without vectors."""
        mean = self.total / self.count
        covariance = self.products / self.count - mean[:, None] * mean
        if not covariance.isfinite().all():
            return float("nan"), float("nan")
        singular = torch.linalg.eigvalsh(covariance).clamp(min=0).sqrt()
        share = singular / singular.sum().clamp(min=1e-300)
        return float(torch.special.entr(share).sum().exp()), float(covariance.trace())
