"""What a forward pass returns, and what its plans are to predict.

Shapes: B batch, T tokens, P positions with the padding in front, V vocabulary, A anchors,
N concepts, H horizon, D width of a level.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nextconcept.nn.chunks import Chunks
from nextconcept.nn.concept_predictor import Prediction

__all__ = ["Encoding", "ModelOutput", "horizon_targets"]


@dataclass
class Encoding:
    """What the concept encoder makes of tokens, before any plan.

    Attributes:
        states: (B, P, D_0) inputs of the token decoder; P counts the padding in front.
        concepts: per level >= 1, (B, N, D), the realised concepts.
        inputs: per level >= 1, (B, N, D), the inputs of the predictor.
        chunks: per level >= 1, where its chunks lie, if rules cut them.
    """

    states: Tensor
    concepts: dict[int, Tensor]
    inputs: dict[int, Tensor]
    chunks: dict[int, Chunks] | None


@dataclass
class ModelOutput:
    """Output of a forward pass.

    Attributes:
        logits: (B, T, V); entry t is for token t + 1.
        predictions: per level >= 1, the plan with the hidden states that it was made from.
        encoding: what all this was made from.
        offset: padding vectors in front of the tokens.
        states: (B, T, D_0) normalised states that become logits.
        trunk: (B, T, D_0) residual stream that the last block of level 0 reads.
    """

    logits: Tensor
    predictions: dict[int, Prediction]
    encoding: Encoding
    offset: int
    states: Tensor
    trunk: Tensor

    @property
    def plans(self) -> dict[int, Tensor]:
        """Per level >= 1, (B, A, H, D), the model's own, even if the level below read others."""
        return {level: prediction.plan for level, prediction in self.predictions.items()}

    @property
    def concepts(self) -> dict[int, Tensor]:
        """Per level >= 1, (B, N, D), the realised concepts.

        N = (T + offset) // c^level, A = N + 1. Where rules cut chunks, N is the number that there
        is room for.
        """
        return self.encoding.concepts

    @property
    def chunks(self) -> dict[int, Chunks] | None:
        """Per level >= 1, where its chunks lie, if rules cut them."""
        return self.encoding.chunks

    def starts(self, level: int, span: int) -> list[int]:
        """Return where each complete chunk of a level begins in the first row, and what follows.

        Args:
            level: 1 or more.
            span: tokens of a chunk of that level, where chunks have one length.

        Returns:
            Positions in the tokens, negative in the padding in front.
        """
        if self.chunks is None:
            return [index * span - self.offset for index in range(self.concepts[level].shape[1] + 1)]
        cut = self.chunks[level]
        starts: list[int] = cut.start[0, : int(cut.counts[0]) + 1].tolist()
        return starts

    def counts(self, level: int) -> Tensor | None:
        """Return the (B,) complete concepts of a level, None if all N are complete."""
        return None if self.chunks is None else self.chunks[level].counts


def horizon_targets(concepts: Tensor, horizon: int, counts: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the realised concepts that each anchor's plan predicts.

    Args:
        concepts: (B, N, D).
        horizon: H.
        counts: (B,) complete concepts, if they are not N in all rows.

    Returns:
        ``(targets, known)``: (B, N + 1, H, D) with ``targets[:, m, j] = concepts[:, m + j]``, and
        (N + 1, H) or (B, N + 1, H) bool, False where a target lies beyond the window.
    """
    count = concepts.shape[1] if counts is None else counts[:, None, None]
    padded = nn.functional.pad(concepts, (0, 0, 0, horizon))
    anchors = torch.arange(concepts.shape[1] + 1, device=concepts.device)[:, None]
    index = anchors + torch.arange(horizon, device=concepts.device)
    return padded.unfold(1, horizon, 1).transpose(2, 3), index < count
