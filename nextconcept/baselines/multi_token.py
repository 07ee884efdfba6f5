"""Multi-token prediction (Gloeckle et al., 2024, arXiv 2404.19737).

Shapes: B batch, T tokens, D width, V vocabulary.
"""

import math
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from nextconcept.core.errors import InputError
from nextconcept.nn.model import NextConceptModel
from nextconcept.nn.model_output import ModelOutput
from nextconcept.nn.transformer import Transformer
from nextconcept.training.objectives import Objective, masked_mean, token_losses

__all__ = ["MultiToken"]


class MultiToken(Objective):
    """Predicts the next k tokens from each position, with a head for each.

    ``sum_i w_i mean_t CE(unembed(norm(block_i(z_t))), x_(t+i))``, i = 1..k, where z is the residual
    stream that all but the last block of the model make (the trunk), each head is one block over
    the whole sequence of z, and norm and unembedding are the model's. The last block of the model
    is the head of the next token, so that the model writes as a GPT of its full depth, without the
    other heads. w_1 = 1, and the paper has w_i = 1 for all i.

    A head counts where all tokens from t + 1 to t + i are to be learnt, so that no head has to
    guess an answer in the middle of the prompt.

    Args:
        model: a model with one level.
        tokens_ahead: k, 2 or more.
        weight: w_i for i > 1.

    Raises:
        InputError: if the model has concepts, or a number is out of range.
    """

    one_level: ClassVar[bool] = True

    def __init__(self, model: NextConceptModel, tokens_ahead: int = 4, weight: float = 1.0) -> None:
        super().__init__(model)
        config = model.config
        if not 2 <= tokens_ahead <= config.window_length:
            raise InputError(
                f"tokens_ahead must be from 2 to the context_length {config.window_length}, not {tokens_ahead}."
            )
        if not 0 < weight < math.inf:
            raise InputError(f"weight of MultiToken must be positive, not {weight}.")
        self.names = tuple(f"ahead_{step}" for step in range(1, tokens_ahead + 1))
        self.weight = weight
        shape = model.decoder.shape
        # One pass, like the last one of the model.
        self.shape = replace(shape, num_loops=1, input_scale=1.0, sliding_windows=shape.sliding_windows[-1:])
        passes = config.depths[0] * config.level_loops[0]  # for the initial scale
        self.heads = nn.ModuleList(
            Transformer(config, [0], depth=1, num_loops=passes, normalised=False) for _ in range(tokens_ahead - 1)
        )

    def forward(self, model: NextConceptModel, output: ModelOutput, tokens: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Compute the cross-entropy of each head; see :meth:`.Objective.forward`."""
        trunk, norm = output.trunk, model.transformer(0).norm
        losses, learnt, logits = {}, torch.ones_like(mask), output.logits
        for step, name in enumerate(self.names, 1):
            if step > 1:
                states = norm(self.heads[step - 2](trunk, self.shape))
                logits = model.decoder.logits(states, model.encoder.embedding.weight)
            # Entry t says whether tokens t + 1 to t + step are to be learnt.
            learnt = learnt[:, :-1] & mask[:, step:]
            loss = masked_mean(token_losses(logits[:, : learnt.shape[1]], tokens[:, step:]), learnt)
            losses[name] = loss if step == 1 else self.weight * loss
        return losses
