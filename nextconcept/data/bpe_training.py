"""Byte-level BPE, trained on a corpus."""

from collections.abc import Iterable

from tokenizers import Tokenizer as HFTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from nextconcept.core.errors import InputError
from nextconcept.data.tokenizers import END_OF_TEXT, BPETokenizer

__all__ = ["train_bpe"]


def train_bpe(texts: Iterable[str], vocab_size: int) -> BPETokenizer:
    """Train byte-level BPE (Sennrich et al., 2016; Radford et al., 2019).

    Args:
        texts: training texts.
        vocab_size: upper bound of the vocabulary, at least 257: the bytes and the end of a text.

    Raises:
        InputError: if ``vocab_size`` is too small, or ``texts`` is one text.
    """
    if isinstance(texts, str):  # its characters would be texts, which hold nothing to merge
        raise InputError("texts must be several texts, not one: put it into a list.")
    if vocab_size < 257:
        raise InputError(f"vocab_size {vocab_size} is too small for BPE: 256 bytes and the end of text need 257.")
    tokenizer = HFTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return BPETokenizer(tokenizer)
