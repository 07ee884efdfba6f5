"""Text -> tokens -> windows, as a LightningDataModule."""

import functools
import os
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch.utils.data import DataLoader

from nextconcept.core.errors import InputError
from nextconcept.core.hierarchy import Hierarchy
from nextconcept.data.corpus import load_corpus, open_hub
from nextconcept.data.stream import StreamedWindows, StreamLoader
from nextconcept.data.token_cache import SplitConfig, TokenCache, encode_corpus
from nextconcept.data.tokenizers import Tokenizer
from nextconcept.data.windows import (
    ConceptBatch,
    ContiguousWindows,
    TrainingWindows,
    WindowLoader,
    Windows,
    identity_collate,
)
from nextconcept.tasks.star_graph import StarGraph, StarGraphWindows, star_graph_tokenizer

__all__ = ["ConceptDataModule", "vocabulary"]


torch.serialization.add_safe_globals([SplitConfig, StarGraph])


def vocabulary(tokenizer: str, vocab_size: int, star_graph_nodes: int | None) -> int:
    """Token ids that a model of this data must know, before any of it is read."""
    if star_graph_nodes is not None:
        return star_graph_tokenizer(star_graph_nodes).vocab_size
    return 256 if tokenizer == "bytes" else vocab_size


class ConceptDataModule(L.LightningDataModule):
    """Streams of tokens in windows that are aligned with the chunks of every level.

    Args:
        dataset: ``shakespeare``, a path or pattern of text files, or the name of a Hugging Face dataset; see
            :func:`~nextconcept.data.corpus.load_corpus`.
        context_length: tokens in a window, T.
        levels: levels of the model, tokens included.
        chunk_size: c; T must be a multiple of ``c^(levels - 1)``.
        tokenizer: ``bytes``, or ``bpe`` trained on the training split.
        vocab_size: size of the BPE; 256 for bytes, whatever is given.
        batch_size: windows per batch and process.
        eval_batch_size: the same outside training; default: ``batch_size``.
        split: how text is held out.
        star_graph: learn this task instead of text; tokens are its own, and ``context_length`` the length that it needs.
        column: Hub only: the column that holds the text.
        subset: Hub only: configuration of the dataset.
        hub_split: Hub only: the split to read.
        streaming: Hub only: read over the network document by document instead of downloading first.
        max_documents: Hub only: read no more documents than this.
        train_on_stream: with ``streaming`` and ``max_documents``: train on the documents behind those, straight from the network, without
            end, shared out over processes and workers; those first ones serve tokenizer, validation and test.
        seed: of the training windows; default: that of ``seed_everything``.
        num_workers: processes that prepare batches; windows are cheap, so none is needed.
        cache_dir: folder of encoded corpora; default: ``$NEXTCONCEPT_CACHE`` or ``~/.cache/nextconcept``.

    Raises:
        InputError: if the context_length does not fit the levels, or the text is missing, broken or too short.
    """

    def __init__(
        self,
        dataset: str = "shakespeare",
        context_length: int = 256,
        levels: int = 2,
        chunk_size: int = 4,
        tokenizer: Literal["bytes", "bpe"] = "bytes",
        vocab_size: int = 512,
        batch_size: int = 16,
        eval_batch_size: int | None = None,
        split: SplitConfig = SplitConfig(),
        star_graph: StarGraph | None = None,
        column: str = "text",
        subset: str | None = None,
        hub_split: str = "train",
        streaming: bool = False,
        max_documents: int | None = None,
        train_on_stream: bool = False,
        seed: int | None = None,
        num_workers: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__()
        Hierarchy(levels, chunk_size).check_context(context_length)
        if batch_size < 1 or (eval_batch_size is not None and eval_batch_size < 1):
            raise InputError(f"batch_size {batch_size} and eval_batch_size {eval_batch_size} must be 1 or more.")
        if num_workers < 0:
            raise InputError(f"num_workers must be 0 or more, not {num_workers}.")
        if train_on_stream and not (streaming and max_documents):
            raise InputError("train_on_stream needs streaming, and max_documents to hold out for validation and test.")
        self.hierarchy, self.star_graph = Hierarchy(levels, chunk_size), star_graph
        if star_graph and context_length != star_graph.layout(self.hierarchy)[1]:
            raise InputError(
                f"the star graph G({star_graph.arms}, {star_graph.path_length}) in chunks of {self.hierarchy.top_span} tokens needs context_length "
                f"{star_graph.layout(self.hierarchy)[1]}, not {context_length}: set --model.config.context_length."
            )
        self.save_hyperparameters()
        hub = (column, subset, hub_split, streaming)
        self.load_corpus = functools.partial(load_corpus, dataset, *hub, max_documents)
        self.open_stream = functools.partial(open_hub, dataset, *hub) if train_on_stream else None
        self.column, self.max_documents = column, max_documents or 0
        self.dataset, self.context_length, self.split, self.seed = dataset, context_length, split, seed
        self.tokenizer_kind, self.bpe_size = tokenizer, vocab_size
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.loader_options: dict[str, Any] = {"num_workers": num_workers, "persistent_workers": num_workers > 0}
        self.cache = Path(cache_dir or os.environ.get("NEXTCONCEPT_CACHE") or "~/.cache/nextconcept").expanduser()
        self._file: TokenCache | None = None

    @property
    def vocab_size(self) -> int:
        """Token ids that the model must know, before any text is read."""
        nodes = self.star_graph.nodes if self.star_graph else None
        return vocabulary(self.tokenizer_kind, self.bpe_size, nodes)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer; for text there is one after :meth:`setup`."""
        return star_graph_tokenizer(self.star_graph.nodes) if self.star_graph else self._encoded().tokenizer

    def prepare_data(self) -> None:
        """Encode the corpus into the cache, on one process, and check that it is long enough."""
        if self.star_graph:
            return
        encoded = self._encode()
        # Here rather than in setup(), before which a Trainer has already made the run's folder.
        count, needed = len(encoded.tokens("train")), self.context_length + 1
        if count < needed:
            raise InputError(
                f"the training split of {self.dataset!r} has {count} tokens, fewer than one window of {needed}: give more text "
                "or a smaller context_length."
            )

    def setup(self, stage: str | None = None) -> None:
        """Map the encoded corpus."""
        if not self.star_graph:
            self._file = self._encode()

    def train_dataloader(self) -> WindowLoader | StreamLoader:
        """Random windows, the same sequence for a given seed at any number of processes; or those of a stream, in its order."""
        if self.open_stream is not None:
            stream, (ranks, rank) = self.open_stream().skip(self.max_documents), self._ranks()
            streamed = StreamedWindows(stream, self.column, self.tokenizer, self.context_length, rank, ranks)
            return StreamLoader(streamed, self.batch_size, **self.loader_options)
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if self.seed is None else self.seed
        if self.star_graph:
            graph, lines = self.star_graph, self.star_graph.train_lines
            epoch = lines or 1000 * self.batch_size  # without end; an epoch is a convention
            windows: Windows = StarGraphWindows(graph, self.hierarchy, 3 * seed, lines, epoch, graph.train_file)
        else:
            windows = TrainingWindows(self._encoded().tokens("train"), self.context_length, seed)
        return WindowLoader(windows, self.batch_size, *self._ranks(), **self.loader_options)

    def val_dataloader(self) -> DataLoader[ConceptBatch]:
        """The validation split, each token predicted once."""
        return self._contiguous("val")

    def test_dataloader(self) -> DataLoader[ConceptBatch]:
        """The test split, each token predicted once."""
        return self._contiguous("test")

    def predict_dataloader(self) -> DataLoader[ConceptBatch]:
        """The test split."""
        return self._contiguous("test")

    def _contiguous(self, split: str) -> DataLoader[ConceptBatch]:
        ranks, rank = self._ranks()
        windows = self._held_out(split)
        # Nothing is repeated to make ranks equal, because every token counts once.
        sampler = UnrepeatedDistributedSampler(windows, ranks, rank, shuffle=False)
        return DataLoader(
            windows,
            batch_size=self.eval_batch_size,
            sampler=sampler,
            collate_fn=identity_collate,
            **self.loader_options,
        )

    def _held_out(self, split: str) -> Windows:
        if self.star_graph:
            # The same lines for every training seed, and no training seed draws them.
            seed, graph = {"val": 1, "test": 2}[split], self.star_graph
            return StarGraphWindows(graph, self.hierarchy, seed, graph.test_lines, None, graph.test_file)
        tokens = self._encoded().tokens(split)
        if len(tokens) < 2:
            raise InputError(
                f"the {split} split of {self.dataset!r} is empty: raise --data.split.{split}, or give --data.split.by "
                "contiguous where there are few documents."
            )
        return ContiguousWindows(tokens, self.context_length)

    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def _encode(self) -> TokenCache:
        return encode_corpus(self.load_corpus(), self.split, self.tokenizer_kind, self.bpe_size, self.cache)

    def _encoded(self) -> TokenCache:
        if self._file is None:
            raise RuntimeError("call setup() first, or let a Trainer do it.")
        return self._file
