"""Checks of what a model is trained on: batches, and the data module that makes them.

Shapes: B batch, T tokens.
"""

from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from nextconcept.core.chunking import same_rules
from nextconcept.core.config import ModelConfig
from nextconcept.core.errors import InputError
from nextconcept.data.datamodule import ConceptDataModule
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.data.tokenizers import tokenizer_from_json
from nextconcept.data.windows import ConceptBatch
from nextconcept.nn.chunks import Chunker

__all__ = [
    "as_concept_batch",
    "check_batch",
    "check_data",
    "check_ends",
    "check_tokenizer",
    "count_bytes",
    "stored_tokenizer",
]


def as_concept_batch(batch: Any) -> ConceptBatch:
    """Return a batch as tokens and mask; all tokens of a plain tensor are learnt.

    Args:
        batch: a :class:`~nextconcept.data.windows.ConceptBatch`, a (B, T + 1) int64 tensor, or such
            a tensor alone in a tuple or list, as a loader of a ``TensorDataset`` yields.

    Raises:
        InputError: if the batch is anything else.
    """
    if isinstance(batch, ConceptBatch):
        return batch
    tokens = batch[0] if isinstance(batch, (tuple, list)) and len(batch) == 1 else batch
    if not isinstance(tokens, Tensor):
        raise InputError(
            "a batch must be a (B, T + 1) int64 tensor of token ids, or a ConceptBatch of tokens and mask, not "
            f"{_describe(batch)}."
        )
    return ConceptBatch(tokens, torch.ones_like(tokens, dtype=torch.bool))


def check_batch(batch: ConceptBatch, config: ModelConfig, ids: bool = True) -> None:
    """Check that a batch fits a model.

    Args:
        batch: the batch.
        config: the model's configuration.
        ids: whether to look at the ids too.

    Raises:
        InputError: if shapes or types are wrong, windows are longer than the model's context, or
            ids lie outside its vocabulary.
    """
    tokens, mask, _ = batch
    if tokens.dim() != 2 or tokens.dtype != torch.int64 or tokens.shape[0] < 1 or tokens.shape[1] < 2:
        raise InputError(f"the tokens of a batch must be (B, T + 1) int64 with T >= 1, not {_describe(tokens)}.")
    if mask.shape != tokens.shape or mask.dtype != torch.bool:
        raise InputError(
            f"the mask of a batch must be {tuple(tokens.shape)} bool as its tokens, not {_describe(mask)}."
        )
    if tokens.shape[1] > config.window_length + 1:
        raise InputError(
            f"the batch has windows of {tokens.shape[1] - 1} tokens and the one after them, but the model's "
            f"context_length is {config.window_length}: give shorter windows or a model with a larger context_length."
        )
    if not ids:
        return
    lowest, highest = torch.stack(tokens.aminmax()).tolist()  # one transfer from a GPU
    if lowest < 0 or highest >= config.vocab_size:
        raise InputError(
            f"the batch holds token id {lowest if lowest < 0 else highest}, but the model's vocabulary goes from 0 to "
            f"{config.vocab_size - 1}: set the model's vocab_size to the size of the tokenizer."
        )


def check_ends(batch: ConceptBatch, chunker: Chunker | None) -> None:
    """Check that chunks end where the model ends them, if the batch says where.

    Args:
        batch: a batch that :func:`check_batch` has found good.
        chunker: that of a model with concepts, or None if its chunks have one length.

    Raises:
        InputError: if they end elsewhere.
    """
    if batch.ends is None:
        return
    inputs = batch.tokens[:, :-1]
    found = None if chunker is None else torch.stack(list(chunker.ends(inputs).values()), 1)
    if found is None or batch.ends.shape != found.shape or not torch.equal(batch.ends, found):
        raise InputError(
            f"the ends of chunks in the batch, {_describe(batch.ends)}, are not those that the model finds in the "
            f"tokens, {'none' if found is None else _describe(found)}: give data and model the same chunking and "
            "tokenizer, or leave the ends out."
        )


def check_data(data: ConceptDataModule, config: ModelConfig) -> None:
    """Check that a data module fits a model.

    Raises:
        InputError: if levels, chunk size, rules or context length differ, or the vocabulary of the
            model is smaller. A model without concepts fits the levels and chunks of any data, and
            one with rules fits data that knows of none.
    """
    pairs = {"context_length": (data.context_length, config.window_length)}
    if config.levels > 1:
        pairs["levels"] = data.hierarchy.levels, config.levels
        if not config.hierarchy.rules:
            pairs["chunk_size"] = data.hierarchy.chunk_size, config.chunk_size
    for name, (of_data, of_model) in pairs.items():
        if of_data != of_model:
            raise InputError(f"the data has {name} {of_data}, but the model has {of_model}: give both the same {name}.")
    if config.levels > 1 and data.hierarchy.rules and not same_rules(data.hierarchy.rules, config.hierarchy.rules):
        theirs, ours = (", ".join(map(str, one.rules)) for one in (data.hierarchy, config.hierarchy))
        raise InputError(
            f"the data cuts its chunks by the rules {theirs}, but the model by "
            f"{ours or f'chunk_size {config.chunk_size}'}: give both the same chunking."
        )
    if data.vocab_size > config.vocab_size:
        raise InputError(
            f"the data has a vocabulary of {data.vocab_size} tokens, but the model knows {config.vocab_size}: set the "
            f"model's vocab_size to {data.vocab_size}."
        )


def check_tokenizer(tokenizer: Tokenizer, of_model: Tokenizer | None, config: ModelConfig) -> None:
    """Check that a model can read what a tokenizer writes.

    Args:
        tokenizer: tokenizer of the data.
        of_model: tokenizer that the model was trained with, if it was trained.
        config: configuration of the model.

    Raises:
        InputError: if the tokens differ, or the model does not know all of them.
    """
    if of_model is not None and not tokenizer.same_tokens(of_model):
        raise InputError("the model reads other tokens than this data has: use the data that it was trained on.")
    if tokenizer.vocab_size > config.vocab_size:
        raise InputError(
            f"the tokenizer of the data has {tokenizer.vocab_size} tokens, but the model knows {config.vocab_size}: "
            f"set the model's vocab_size to {tokenizer.vocab_size}."
        )


def count_bytes(tokenizer: Tokenizer, vocab_size: int) -> Tensor:
    """Return the (V,) bytes of text of each token, 1 for ids that the tokenizer does not know."""
    counts = torch.ones(vocab_size, dtype=torch.long)
    known = torch.from_numpy(tokenizer.byte_counts())
    counts[: len(known)] = known
    return counts


def stored_tokenizer(tokenizer: Tokenizer) -> str | None:
    """Return what a checkpoint holds of a tokenizer; None, with a warning, if it can't be read."""
    text = tokenizer.to_json()
    if type(tokenizer).__module__.partition(".")[0] == __name__.partition(".")[0]:
        return text
    try:
        readable = tokenizer_from_json(text).same_tokens(tokenizer)
    except InputError:
        readable = False
    if readable:
        return text
    rank_zero_warn(
        f"checkpoints will not hold the tokenizer {type(tokenizer).__name__}, which can't be made again of what its "
        "to_json writes: nextconcept.load can't load them, but ConceptModule.load_from_checkpoint can."
    )
    return None


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__
