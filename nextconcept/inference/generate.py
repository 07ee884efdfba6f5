"""Generation, token by token.

Shapes: B batch, T tokens, V vocabulary, D width of a level, H horizon.
"""

from collections.abc import Iterator, Sequence
from numbers import Integral

import torch
from torch import Generator, Tensor

from nextconcept.core.errors import InputError
from nextconcept.inference.draft_acceptance import DraftFigures
from nextconcept.inference.draft_length import LONGEST_DRAFT
from nextconcept.inference.drafts import DraftingGenerator, check_drafts, write_drafted
from nextconcept.inference.generators import (
    CachedGenerator,
    PlanHook,
    UncachedGenerator,
)
from nextconcept.inference.locations import visible_from
from nextconcept.inference.plan_edits import PlanEdit, PlanEdits, check_edits
from nextconcept.inference.sampling import Draws, Sampling, sample
from nextconcept.nn.bare_model import bare_model
from nextconcept.nn.concept_encoder import PADDING
from nextconcept.nn.eval_mode import eval_mode
from nextconcept.nn.model import NextConceptModel

__all__ = ["check_prompt", "generate", "generate_tokens"]

MOST_TOKENS = 10_000_000
"""Most tokens to generate at once; room for them and their random numbers is taken at the start."""


def check_prompt(tokens: Tensor, vocab_size: int, lengths: Tensor | None = None) -> Tensor:
    """Check a prompt, and return the length of each of its rows.

    Raises:
        InputError: unless ``tokens`` is (B, T) int64, T >= 1, of ids below ``vocab_size``, and
            ``lengths`` (B,) int64 from 1 to T.
    """
    if not isinstance(tokens, Tensor):
        raise InputError(
            f"a prompt is a (batch, time) tensor of token ids, not {type(tokens).__name__}: for text, use "
            "nextconcept.load(PATH).write(TEXT)."
        )
    if tokens.dim() != 2 or tokens.shape[0] < 1 or tokens.shape[1] < 1:
        raise InputError(f"a prompt needs shape (batch, time) and at least one token, not {tuple(tokens.shape)}.")
    if tokens.dtype != torch.int64:
        raise InputError(f"a prompt holds int64 token ids, not {tokens.dtype}.")
    low, high = torch.stack(tokens.aminmax()).tolist()  # one transfer from a GPU
    if low < 0 or high >= vocab_size:
        raise InputError(
            f"token id {low if low < 0 else high} of the prompt is outside the vocabulary of {vocab_size} tokens."
        )
    if lengths is None:
        return torch.full((len(tokens),), tokens.shape[1])
    if not isinstance(lengths, Tensor) or lengths.dtype not in (torch.int32, torch.int64):
        kind = lengths.dtype if isinstance(lengths, Tensor) else type(lengths).__name__
        raise InputError(f"lengths must be a tensor of int64, not {kind}.")
    lengths = lengths.cpu().long()
    if lengths.shape != (len(tokens),) or lengths.min() < 1 or lengths.max() > tokens.shape[1]:
        raise InputError(f"lengths must be one number from 1 to {tokens.shape[1]} per row, not {lengths.tolist()}.")
    return lengths


@torch.no_grad()
def generate_tokens(
    model: NextConceptModel,
    tokens: Tensor,
    max_new_tokens: int,
    sampling: Sampling,
    generator: Generator | None = None,
    use_cache: bool = True,
    lengths: Tensor | None = None,
    edits: PlanEdit | Sequence[PlanEdit] | None = None,
    draft: str | None = None,
    figures: DraftFigures | None = None,
    hook: PlanHook | None = None,
) -> Iterator[Tensor]:
    """Continue prompts, and yield the next tokens, (B,) at a time.

    Args:
        model: in eval mode.
        tokens: (B, T) int64, T >= 1.
        max_new_tokens: how many times to yield.
        sampling: how to draw tokens.
        generator: see :func:`generate`, as the other arguments.
        use_cache: keep keys and values.
        lengths: (B,) tokens of each prompt.
        edits: planned concepts to replace, or one.
        draft: ``plan``, ``text`` or None.
        figures: receives how many tokens passes have written.
        hook: changes plans before they are read; not with edits.

    Raises:
        InputError: if a prompt or an option is out of range, the model can't draft, or edits and a
            hook are given.
    """
    if edits and hook is not None:
        raise InputError("a plan is changed by edits or by a hook, not by both: leave one out.")
    config, hierarchy = model.config, model.config.hierarchy
    lengths = check_prompt(tokens, config.vocab_size, lengths)
    number = isinstance(max_new_tokens, Integral) and not isinstance(max_new_tokens, bool)
    if not number or not 0 <= max_new_tokens <= MOST_TOKENS:
        raise InputError(f"max_new_tokens must be 0 to {MOST_TOKENS:,}, not {max_new_tokens}.")
    edits = check_edits(edits or [], model, len(tokens))
    check_drafts(config, draft, use_cache)
    offsets = torch.tensor([config.padding(length) for length in lengths.tolist()])
    uniform = None
    if sampling.temperature:
        uniform = torch.rand(max_new_tokens, len(tokens), generator=generator, device=tokens.device).t()
    # A pass writes after rejected drafts too.
    size = int(offsets.max()) + tokens.shape[1] + max_new_tokens + (LONGEST_DRAFT if draft else 0)
    ids = torch.where(torch.arange(size) < offsets[:, None], PADDING, 0).to(tokens.device)
    index = (offsets[:, None] + torch.arange(tokens.shape[1])).to(ids.device)
    ids.scatter_(1, index, tokens)
    lengths = lengths + offsets
    hook = PlanEdits(edits, model, ids, lengths) if edits else hook
    size = min(config.window_length, int(lengths.max()) + max_new_tokens)
    figures = DraftFigures() if figures is None else figures
    if draft is not None:
        drafting = DraftingGenerator(model, len(ids), size, Draws(sampling, uniform, lengths), hook, draft)
        yield from write_drafted(drafting, ids, lengths, max_new_tokens, figures)
        return
    decoder = CachedGenerator(model, len(ids), size, hook) if use_cache else UncachedGenerator(model, hook)
    no_drafts = torch.zeros_like(lengths)
    for column in range(max_new_tokens):
        logits = decoder(ids, visible_from(lengths, config.window_length, hierarchy), lengths)
        drawn = sample(logits, sampling, uniform=None if uniform is None else uniform[:, column])
        ids.scatter_(1, lengths[:, None].to(ids.device), drawn[:, None])
        lengths = lengths + 1
        figures.add(no_drafts, no_drafts)
        figures.was_drafted.append(no_drafts > 0)
        yield drawn


def generate(
    model: NextConceptModel,
    tokens: Tensor,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: Generator | None = None,
    use_cache: bool = True,
    *,
    min_p: float | None = None,
    lengths: Tensor | None = None,
    edits: PlanEdit | Sequence[PlanEdit] | None = None,
    draft: str | None = None,
    figures: DraftFigures | None = None,
    hook: PlanHook | None = None,
) -> Tensor:
    """Continue prompts.

    A text that outgrows ``config.context_length`` tokens loses whole top-level chunks at its
    beginning; the model sees at least half of the context, if that holds two of them. With
    ``chunk_alignment: end`` the last chunk ends with the prompt.

    Args:
        model: the model, which is put into eval mode during generation.
        tokens: (B, T) int64, T >= 1.
        max_new_tokens: tokens to append to each row.
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: sample from the k likeliest tokens.
        top_p: sample from the likeliest tokens that together reach probability p.
        generator: source of randomness, on the device of ``tokens``.
        use_cache: keep keys and values instead of running the model on the whole text for every
            token; the result is equal.
        min_p: sample from tokens that are at least ``min_p`` times as likely as the likeliest.
        lengths: (B,) tokens of each prompt, if they differ; later tokens of a row are ignored.
        edits: planned concepts to replace, or one.
        draft: ``plan`` reads the plan back into tokens and checks them in one pass, which is faster
            where the model writes what it plans; ``text`` copies tokens from earlier in the text,
            which is faster where it repeats itself. The tokens are those without drafts, unless two
            are equally likely up to rounding: a pass over several positions rounds differently.
        figures: receives how many tokens passes have written, and which of them were drafted.
        hook: changes plans before they are read, see
            :data:`~nextconcept.inference.generators.PlanHook`; not with edits.

    Returns:
        (B, T + max_new_tokens): each prompt with its continuation, then zeros in shorter rows.

    Raises:
        InputError: if ``model`` is none, a prompt is empty or has an id outside the vocabulary, an
            option is out of range, or the model has no such drafts.
    """
    model = bare_model(model, "generate")
    sampling = Sampling(temperature, top_k, top_p, min_p)
    with eval_mode(model):
        writing = generate_tokens(
            model,
            tokens,
            max_new_tokens,
            sampling,
            generator,
            use_cache,
            lengths=lengths,
            edits=edits,
            draft=draft,
            figures=figures,
            hook=hook,
        )
        written = list(writing)
    lengths = torch.full((len(tokens),), tokens.shape[1]) if lengths is None else lengths.cpu().long()
    positions = torch.arange(tokens.shape[1] + max_new_tokens)
    result = torch.nn.functional.pad(tokens, (0, max_new_tokens)) * (positions < lengths[:, None]).to(tokens.device)
    if written:
        index = (lengths[:, None] + torch.arange(max_new_tokens)).to(tokens.device)
        result.scatter_(1, index, torch.stack(written, 1))
    return result
