"""What each piece of a text read of the plan before it was written.

Shapes: T tokens, P positions of a level, H horizon.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.inference.plan_attention import PlanAttentionRecorder
from nextconcept.inference.plan_steps import END_MARK, PlanReading
from nextconcept.nn.model import NextConceptModel
from nextconcept.nn.model_output import ModelOutput

__all__ = ["chunk_readings", "token_texts"]


def chunk_readings(
    model: NextConceptModel,
    tokenizer: Tokenizer,
    tokens: Tensor,
    known: int,
    output: ModelOutput,
    recorder: PlanAttentionRecorder,
    level: int,
) -> Callable[[int, int, str], list[PlanReading]]:
    """Return a function that says what the elements of a chunk of ``level`` read of its plan.

    Args:
        model: the model.
        tokenizer: the model's tokenizer.
        tokens: (T,) the text.
        known: tokens of the prompt.
        output: of the model on the text.
        recorder: recorded that forward pass.
        level: level of the plan, 1 or more.

    Returns:
        Maps first token, last token + 1 and text of a chunk to readings, whose texts make up the
        text of the chunk. There is none where they would not, as where a chunk ends in the middle
        of a character.
    """
    elements, places = _elements(model, output, len(tokens), level - 1)
    weights = recorder.mean(level - 1)
    # Position t of the tokens predicts token t + 1, and position n of the concepts concept n.
    shares = None if weights is None else weights[0].float().cpu()
    shift = int(level == 1)
    horizon, ids = model.config.horizon_of(level), tokens.tolist()
    placed = [1.0] + [0.0] * (horizon - 1)

    def readings(start: int, end: int, text: str) -> list[PlanReading]:
        """Return what the tokens from ``start`` to before ``end`` read."""
        start = max(0, start)
        texts = token_texts(tokenizer, ids[start:end], text)
        found: list[PlanReading] = []
        before = None
        for position, piece in enumerate(texts, start):
            element = elements[position]
            new = position >= known
            if element == before and found[-1].new == new:
                found[-1].text += piece
                found[-1].length += 1
                continue
            before = element
            if shares is None:
                found.append(PlanReading(position, 1, piece, new, placed, places[position]))
            elif element >= shift:  # the first token was not predicted
                found.append(PlanReading(position, 1, piece, new, shares[element - shift].tolist()))
            else:
                found.append(PlanReading(position, 1, piece, new, []))
        return found

    return readings


def _elements(model: NextConceptModel, output: ModelOutput, time: int, level: int) -> tuple[list[int], list[int]]:
    """Return the element of ``level`` that each token belongs to, and its place in its chunk."""
    if output.chunks is None:
        hierarchy = model.config.hierarchy
        elements = (torch.arange(time) + output.offset) // hierarchy.span(level)
        return elements.tolist(), (elements % hierarchy.chunk_size).tolist()
    index = torch.arange(time, device=output.logits.device)
    for lower in range(1, level + 1):
        index = output.chunks[lower].index[0, index]
    places: list[int] = output.chunks[level + 1].place[0, index].tolist()
    return index.tolist(), places


def token_texts(
    tokenizer: Tokenizer, ids: list[int], text: str, end: str = END_MARK, before: Sequence[int] = ()
) -> list[str]:
    """Divide the text of token ids among them.

    Args:
        tokenizer: a tokenizer.
        ids: token ids.
        text: their text.
        end: how ``text`` shows the end of a document.
        before: ids of the text that is continued.

    Returns:
        A text for each token, empty for one that is part of a character that a later one
        completes; an empty list if that does not give ``text``.
    """
    pieces, step = list[str](), tokenizer.stream(before)
    for token in ids:
        if token == tokenizer.end_of_text:
            pieces.append(end)
            step = tokenizer.stream() if end else step
        else:
            pieces.append(step(token))
    joined = "".join(pieces)
    if pieces and text.startswith(joined):
        pieces[-1] += text[len(joined) :]  # the beginning of a character
        return pieces
    return []
