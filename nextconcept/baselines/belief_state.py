"""The belief state transformer (Hu et al., 2025, arXiv 2410.23506).

Shapes: B batch, T tokens, D width, V vocabulary, N positions that are predicted, P pairs.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextconcept.core.errors import InputError
from nextconcept.nn.initial_weights import draw
from nextconcept.nn.layers import Linear, Norm
from nextconcept.nn.model import NextConceptModel
from nextconcept.nn.model_output import ModelOutput
from nextconcept.nn.transformer import Transformer
from nextconcept.training.objectives import Objective, masked_mean, token_losses

__all__ = ["BeliefState", "PairHead"]


class PairHead(nn.Module):
    """Joins the states of a prefix and of a suffix.

    The state for the next token is ``norm(f + m)``, that for the previous one ``norm(b + n)``,
    where ``[m; n]`` is an MLP of ``[f; b]``.

    Args:
        width: D.
        hidden: width of the hidden layer.
        norm: kind of the norm.
        affine: whether the norm has gains.
    """

    def __init__(self, width: int, hidden: int, norm: str, affine: bool) -> None:
        super().__init__()
        self.of_prefix = Linear(width, hidden, bias=True)
        self.of_suffix = Linear(width, hidden)
        self.out = Linear(hidden, 2 * width)
        self.norm = Norm(width, norm, affine)
        for layer in (self.of_prefix, self.of_suffix, self.out):
            draw(layer.weight)

    def forward(self, prefixes: Tensor, suffixes: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Join pairs.

        Args:
            prefixes: (B, N, D).
            suffixes: (B, N, D).
            first: (P,) the prefix of each pair.
            second: (P,) the suffix of each pair.

        Returns:
            The states that predict the token after the prefix and the one before the suffix,
            (B, P, D) each.
        """
        # The first layer maps prefixes and suffixes before they are paired: N maps instead of P.
        hidden = F.gelu(self.of_prefix(prefixes)[:, first] + self.of_suffix(suffixes)[:, second])
        after, before = self.out(hidden).chunk(2, -1)
        return self.norm(prefixes[:, first] + after), self.norm(suffixes[:, second] + before)


class BeliefState(Objective):
    """Predicts the token after a prefix and the one before a suffix, for all pairs of the two.

    ``mean_(t,s) [CE(p_next(f_t, b_s), x_(t+1)) + CE(p_prev(f_t, b_s), x_(s-1))] / 2``, equation 2,
    over all t and s with s >= t + 2. f_t is the state of the model after tokens <= t, and b_s that
    of a transformer of the same shape which reads tokens >= s backwards and shares the embedding.
    Both predictions are those of :class:`PairHead`, and they share the output matrix.

    The empty suffix is a pair too; its state is a learned vector. There the next token is predicted
    from f_t alone, without the pair head, so that the model, which is the forward half, writes as a
    GPT. A pair counts for the predicted tokens that are to be learnt.

    Args:
        model: a model with one level.
        prompt: tokens at the beginning of a window that every prefix contains, as in the authors'
            code for star graphs, where the prompt is not predicted. With 0, prefixes begin with one
            token, and P grows with T^2 / 2, as do memory and operations.
        hidden: width of the hidden layer of the pair head; default: 2 D.

    Raises:
        InputError: if the model has concepts, or a number is out of range.
    """

    one_level: ClassVar[bool] = True
    names = ("next", "previous")

    def __init__(self, model: NextConceptModel, prompt: int = 0, hidden: int | None = None) -> None:
        super().__init__(model)
        config = model.config
        if not 0 <= prompt < config.window_length:
            raise InputError(
                f"prompt of BeliefState must be from 0 to {config.window_length - 1}, below the context_length, not "
                f"{prompt}."
            )
        if hidden is not None and hidden < 1:
            raise InputError(f"hidden of BeliefState must be 1 or more, not {hidden}.")
        width, self.prompt = config.widths[0], prompt
        self.backward_encoder = Transformer(config, [0])
        self.head = PairHead(width, hidden or 2 * width, config.block.norm, config.block.norm_affine)
        self.empty = nn.Parameter(torch.randn(width))

    def forward(self, model: NextConceptModel, output: ModelOutput, tokens: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Compute both predictions of all pairs; see :meth:`.Objective.forward`."""
        states = output.states
        # Of N prefixes, number i ends at position start + i; suffix number i begins two after that.
        start = min(max(self.prompt - 1, 0), states.shape[1] - 1)
        prefixes = states[:, start:]
        suffixes = self._suffixes(model, tokens[:, start + 2 :])
        count = prefixes.shape[1]
        first, second = torch.triu_indices(count, count, device=tokens.device)
        after, before = self.head(prefixes, suffixes, first, second)
        empty = (second == count - 1)[:, None]
        after = torch.where(empty, prefixes[:, first].to(after.dtype), after)
        targets, learnt = tokens[:, start + 1 :], mask[:, start + 1 :]
        losses = {}
        for name, joined, index in (("next", after, first), ("previous", before, second)):
            logits = model.decoder.logits(joined, model.encoder.embedding.weight)
            losses[name] = masked_mean(token_losses(logits, targets[:, index]), learnt[:, index]) / 2
        return losses

    def _suffixes(self, model: NextConceptModel, tokens: Tensor) -> Tensor:
        """Encode the suffixes of (B, N - 1) tokens; the empty one is last of (B, N, D)."""
        empty = self.empty.expand(len(tokens), 1, -1)
        if not tokens.shape[1]:
            return empty
        embedded = model.encoder.embed(tokens.flip(1), 0)
        states = self.backward_encoder(embedded, model.decoder.shape).flip(1)
        return torch.cat((states, empty.to(states.dtype)), 1)
