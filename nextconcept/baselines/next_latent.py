"""Next-latent prediction, NextLat (Teoh et al., 2025, arXiv 2511.05963).

Shapes: B batch, T tokens, D width, V vocabulary.
"""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextconcept.core.errors import InputError
from nextconcept.nn.initial_weights import draw
from nextconcept.nn.layers import Linear
from nextconcept.nn.model import NextConceptModel
from nextconcept.nn.model_output import ModelOutput
from nextconcept.training.objectives import Objective, masked_mean, token_loss

__all__ = ["LatentDynamics", "NextLatent"]


class LatentDynamics(nn.Module):
    """Predicts the next hidden state: ``h_t + MLP(LayerNorm([h_t, x_(t+1)]))``, equation 9.

    Args:
        width: D.
        hidden: width of the two hidden layers.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * width)
        self.first = Linear(2 * width, hidden, bias=True)
        self.second = Linear(hidden, hidden, bias=True)
        self.last = Linear(hidden, width, bias=True)
        for layer in (self.first, self.second, self.last):
            draw(layer.weight)

    def forward(self, states: Tensor, following: Tensor) -> Tensor:
        """Map states and embeddings of the tokens after them, (..., D) each, to (..., D)."""
        x = self.norm(torch.cat((states, following), -1))
        change: Tensor = self.last(F.gelu(self.second(F.gelu(self.first(x)))))
        return states + change


class NextLatent(Objective):
    """Predicts the next hidden states from the present one and the tokens in between.

    ``CE + w_h mean_i SmoothL1(sg(h_(t+i)), ĥ_(t+i)) + w_kl mean_i KL(p(. | sg(h_(t+i))) ||
    p(. | ĥ_(t+i)))``, equation 5, with ``ĥ_(t+i) = f(ĥ_(t+i-1), x_(t+i))`` and ``ĥ_t = h_t``, for i
    from 1 to d. h are the states that become logits, f is :class:`LatentDynamics`, p is the output
    matrix, which gets no gradient from the KL divergence, and sg stops the gradient.

    As in the paper, the terms in tokens (CE and KL) count the tokens to be learnt, and the term in
    states counts all positions, those of the prompt too. The model writes as a GPT.

    Args:
        model: a model with one level.
        steps: d; the paper has the length of the path less 2 for star graphs.
        hidden: width of the hidden layers of f; default: D, as in the paper for star graphs.
        state_weight: w_h.
        kl_weight: w_kl.

    Raises:
        InputError: if the model has concepts, or a number is out of range.
    """

    one_level: ClassVar[bool] = True
    names = ("next_token", "next_state", "next_state_kl")

    def __init__(
        self,
        model: NextConceptModel,
        steps: int = 1,
        hidden: int | None = None,
        state_weight: float = 1.0,
        kl_weight: float = 1.0,
    ) -> None:
        super().__init__(model)
        width, longest = model.config.widths[0], model.config.window_length - 1
        if not 1 <= steps <= longest:
            raise InputError(
                f"steps of NextLatent must be from 1 to {longest}, the context_length less 1, not {steps}."
            )
        if hidden is not None and hidden < 1:
            raise InputError(f"hidden of NextLatent must be 1 or more, not {hidden}.")
        if not (0 <= state_weight < math.inf and 0 <= kl_weight < math.inf):
            raise InputError(f"weights of NextLatent must be 0 or more, not {state_weight} and {kl_weight}.")
        self.steps, self.state_weight, self.kl_weight = steps, state_weight, kl_weight
        self.dynamics = LatentDynamics(width, hidden or width)

    def forward(self, model: NextConceptModel, output: ModelOutput, tokens: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Compute the three terms; see :meth:`.Objective.forward`."""
        states = output.states
        following = model.encoder.embed(tokens[:, :-1], 0)
        matrix = model.decoder.output_matrix(model.encoder.embedding.weight).detach()
        true = output.logits.detach().float().log_softmax(-1)
        regression = divergence = true.new_zeros(())
        rolled, steps = states, min(self.steps, states.shape[1] - 1)
        for step in range(1, steps + 1):
            rolled = self.dynamics(rolled[:, :-1], following[:, step:])  # of positions step, step + 1, ...
            regression = regression + F.smooth_l1_loss(rolled.float(), states[:, step:].detach().float())
            predicted = F.linear(rolled, matrix).float().log_softmax(-1)
            kl = F.kl_div(predicted, true[:, step:], reduction="none", log_target=True).sum(-1)
            divergence = divergence + masked_mean(kl, mask[:, 1 + step :])
        return {
            "next_token": token_loss(output.logits, tokens, mask),
            "next_state": self.state_weight * regression / max(1, steps),
            "next_state_kl": self.kl_weight * divergence / max(1, steps),
        }
