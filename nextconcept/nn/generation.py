"""Writing token by token.

Shapes: B batch, T tokens, V vocabulary.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from nextconcept.errors import InputError
from nextconcept.hierarchy import Hierarchy

__all__ = ["check_prompt", "continue_tokens", "sample", "slide"]


def check_prompt(tokens: Tensor, vocab_size: int) -> None:
    """Raise :class:`InputError` unless ``tokens`` is (B, T) int64, T >= 1, of ids below ``vocab_size``."""
    if tokens.dim() != 2 or tokens.shape[0] < 1 or tokens.shape[1] < 1:
        raise InputError(f"a prompt needs shape (batch, time) and at least one token, not {tuple(tokens.shape)}.")
    if tokens.dtype != torch.int64:
        raise InputError(f"a prompt holds int64 token ids, not {tokens.dtype}.")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= vocab_size:
        raise InputError(
            f"token id {low if low < 0 else high} of the prompt is outside the vocabulary of {vocab_size} tokens."
        )


def sample(
    logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator: Generator | None
) -> Tensor:
    """Draw one token per row.

    Args:
        logits: (B, V).
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: keep the k likeliest tokens.
        top_p: keep the smallest set of likeliest tokens whose probability reaches p (Holtzman et al., 2020).
        generator: source of randomness.

    Returns:
        (B, 1) token ids.
    """
    if temperature == 0:
        return logits.argmax(-1, keepdim=True)
    logits = logits.float() / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        floor = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < floor, -torch.inf)
    if top_p is not None:
        ordered, index = logits.sort(descending=True)
        probabilities = ordered.softmax(-1)
        beyond = probabilities.cumsum(-1) - probabilities >= top_p
        logits = logits.masked_fill(torch.zeros_like(beyond).scatter(1, index, beyond), -torch.inf)
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)


def slide(tokens: Tensor, context: int, hierarchy: Hierarchy) -> Tensor:
    """The end of (B, T) that fits into ``context``, cut at a chunk of the top level so that the grid stays where it was."""
    excess = max(0, tokens.shape[1] - context)
    return tokens[:, -(-excess // hierarchy.top_span) * hierarchy.top_span :]


@torch.no_grad()
def continue_tokens(
    predict: Callable[[Tensor], Tensor],
    tokens: Tensor,
    max_new_tokens: int,
    context: int,
    hierarchy: Hierarchy,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    generator: Generator | None,
) -> Tensor:
    """Append ``max_new_tokens`` tokens to (B, T); ``predict`` maps (B, t) ids to the (B, V) logits of what follows."""
    if max_new_tokens < 0 or temperature < 0:
        raise InputError(f"max_new_tokens {max_new_tokens} and temperature {temperature} must be 0 or more.")
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k must be 1 or more, not {top_k}.")
    if top_p is not None and not 0 < top_p <= 1:
        raise InputError(f"top_p must be above 0 and at most 1, not {top_p}.")
    for _ in range(max_new_tokens):
        logits = predict(slide(tokens, context, hierarchy))
        tokens = torch.cat((tokens, sample(logits, temperature, top_k, top_p, generator)), 1)
    return tokens
