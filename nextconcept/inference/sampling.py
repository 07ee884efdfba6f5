"""Logits -> tokens.

Shapes: B batch, R rows of a batch, n positions, V vocabulary.
"""

from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Generator, Tensor

from nextconcept.core.errors import InputError
from nextconcept.core.settings import check_types

__all__ = ["Draws", "Sampling", "check_seed", "make_generator", "sample"]


@dataclass
class Sampling:
    """How to draw tokens.

    Args:
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: keep the k likeliest tokens.
        top_p: keep the smallest set of likeliest tokens whose probability reaches p (Holtzman et
            al., 2020).
        min_p: keep tokens whose probability is at least this share of the likeliest one's (Nguyen
            et al., 2024).

    Raises:
        InputError: if a value is no such number, or out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    def __post_init__(self) -> None:
        check_types(self)
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature must be 0 or more and finite, not {self.temperature}.")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top_k must be 1 or more, not {self.top_k}.")
        for name in ("top_p", "min_p"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise InputError(f"{name} must be above 0 and at most 1, not {value}.")


def check_seed(seed: int) -> None:
    """Check the seed of a sampling.

    Raises:
        InputError: if the seed is no integer, negative, or has more than 63 bits.
    """
    if not isinstance(seed, Integral) or not 0 <= seed < 2**63:
        raise InputError(f"the seed of the sampling must be from 0 to {2**63 - 1}, not {seed}.")


def make_generator(seed: int, device: torch.device) -> Generator:
    """Return a source of randomness on ``device`` that begins with ``seed``.

    Raises:
        InputError: if the seed is out of range.
    """
    check_seed(seed)
    return Generator(device).manual_seed(int(seed))


def sample(
    logits: Tensor, options: Sampling, generator: Generator | None = None, uniform: Tensor | None = None
) -> Tensor:
    """Draw one token per row: (B, V) logits to (B,) ids.

    The token is a function of the logits and of one random number (inverse transform sampling), so
    that a text does not depend on the order in which its tokens are drawn.

    Args:
        logits: (B, V).
        options: how to draw.
        generator: source of randomness, or None for torch's own.
        uniform: (B,) random numbers from 0 to below 1; None, drawn from ``generator``.

    Raises:
        InputError: if a row has NaN among its logits, or its largest logit is not finite.
    """
    highest = logits.amax(-1, keepdim=True)
    if not highest.isfinite().all():
        raise InputError("the model's logits are not numbers: its weights are damaged, or its training diverged.")
    if options.temperature == 0:
        return logits.argmax(-1)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    # The largest logit becomes 0, so that a temperature close to 0 overflows to -inf alone.
    logits = (logits.to(dtype) - highest) / max(options.temperature, torch.finfo(dtype).tiny)
    if options.top_k is not None and options.top_k < logits.shape[-1]:
        likeliest, index = logits.topk(options.top_k)  # a threshold would keep more where some are equal
        logits = torch.full_like(logits, -torch.inf).scatter(1, index, likeliest)
    if options.top_p is not None:
        ordered, index = logits.sort(descending=True)
        probabilities = ordered.softmax(-1)
        beyond = probabilities.cumsum(-1) - probabilities >= options.top_p
        beyond[:, 0] = False  # a top_p close to 0 rounds to 0, and the likeliest token stays
        logits = logits.masked_fill(torch.zeros_like(beyond).scatter(1, index, beyond), -torch.inf)
    probabilities = logits.softmax(-1)
    if options.min_p is not None:
        floor = options.min_p * probabilities.amax(-1, keepdim=True)
        probabilities = probabilities.masked_fill(probabilities < floor, 0)
    if uniform is None:
        uniform = torch.rand(len(logits), generator=generator, device=logits.device)
    cumulative = probabilities.cumsum(-1)
    # The first token whose cumulative probability is greater, which has a probability above 0.
    wanted = uniform.to(dtype)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, wanted, right=True).squeeze(1)


@dataclass
class Draws:
    """How the tokens of texts are drawn, each with a random number of its own.

    Attributes:
        sampling: how to draw.
        uniform: (B, N) random numbers from 0 to below 1 of the N tokens to write, None if the
            likeliest ones are taken.
        first: (B,) tokens of each text before the first one to write, on the CPU.
    """

    sampling: Sampling
    uniform: Tensor | None
    first: Tensor

    def draw(self, logits: Tensor, rows: Tensor, lengths: Tensor) -> Tensor:
        """Draw the next tokens of some rows, (R, n).

        Args:
            logits: (R, n, V).
            rows: (R,) the rows, on the CPU.
            lengths: (R,) tokens before the first of the n positions, on the CPU.
        """
        numbers, count = None, logits.shape[1]
        if self.uniform is not None:
            column = (lengths - self.first[rows])[:, None] + torch.arange(count)
            column = column.clamp(max=self.uniform.shape[1] - 1)
            numbers = self.uniform[rows[:, None].to(logits.device), column.to(logits.device)].flatten()
        return sample(logits.flatten(0, 1), self.sampling, uniform=numbers).view(-1, count)
