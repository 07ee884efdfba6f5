"""Data module of Hugging Face datasets and of data files on disk."""

from typing import Any

from torch.utils.data import DataLoader

from nextconcept.core.errors import InputError
from nextconcept.data.corpus import Corpus, hub_corpus, open_hub
from nextconcept.data.stream import StreamedWindows, StreamLoader
from nextconcept.data.text import CorpusDataModule
from nextconcept.data.windows import ConceptBatch

__all__ = ["HubDataModule"]


class HubDataModule(CorpusDataModule):
    """Windows of a Hugging Face dataset, downloaded or streamed, or of JSON, CSV or Parquet files.

    Args:
        name: name of a dataset on the Hugging Face Hub, a local folder that ``datasets`` can load,
            or a path or pattern of local ``.json``, ``.jsonl``, ``.csv`` or ``.parquet`` files.
        column: column that holds the text.
        subset: configuration of the dataset.
        hub_split: split of the dataset to read; training, validation and test are made from it.
        streaming: read documents over the network one by one instead of downloading them first.
        max_documents: number of documents to read at most.
        train_on_stream: train on the documents after the first ``max_documents``, straight from
            the network, without end, divided among processes and workers; the first ones serve
            tokenizer, validation and test. Needs ``streaming`` and ``max_documents``.
        **kwargs: arguments of :class:`~nextconcept.data.text.CorpusDataModule`.

    Raises:
        InputError: if an argument is out of range, or ``train_on_stream`` lacks what it needs.
    """

    def __init__(
        self,
        name: str,
        column: str = "text",
        subset: str | None = None,
        hub_split: str = "train",
        streaming: bool = False,
        max_documents: int | None = None,
        train_on_stream: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not name.strip():
            raise InputError("the name of the Hugging Face dataset is empty: give one with --data.name.")
        if max_documents is not None and max_documents < 1:
            raise InputError(f"max_documents must be 1 or more, not {max_documents}.")
        if train_on_stream and not (streaming and max_documents):
            raise InputError("train_on_stream needs streaming, and max_documents to hold out for validation and test.")
        self._name, self._column, self._subset, self._hub_split = name, column, subset, hub_split
        self._streaming, self._max_documents, self._train_on_stream = streaming, max_documents, train_on_stream

    @property
    def dataset(self) -> str:
        """Name of the dataset, folder or files."""
        return self._name

    def open_corpus(self) -> Corpus:
        """Open the documents that are encoded.

        Raises:
            InputError: if there is no such dataset, split or column.
        """
        return hub_corpus(self._name, self._column, self._subset, self._hub_split, self._streaming, self._max_documents)

    def train_dataloader(self) -> DataLoader[ConceptBatch]:
        """Return a loader of training windows, with ``train_on_stream`` in the stream's order."""
        if not self._train_on_stream:
            return super().train_dataloader()
        ranks, rank = self._ranks()
        stream = open_hub(self._name, self._column, self._subset, self._hub_split, streaming=True)
        assert self._max_documents is not None
        windows = StreamedWindows(
            stream, self._column, self.tokenizer, self.context_length, rank, ranks, self._max_documents
        )
        return StreamLoader(windows, self.batch_size, collate_fn=self.collate_fn(), **self._loader_options)

    def describe(self) -> dict[str, Any]:
        """Return corpus, context length, tokenizer and split as plain values."""
        options = {"subset": self._subset, "max_documents": self._max_documents}
        return super().describe() | {name: value for name, value in options.items() if value is not None}
