"""Windows for training, validation and test, as a LightningDataModule, whatever their source."""

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.seed import pl_worker_init_function
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch.utils.data import DataLoader, SequentialSampler

from nextconcept.core.chunk_ends import own_automata, rule_tables
from nextconcept.core.chunking import RuleEntry
from nextconcept.core.errors import InputError
from nextconcept.core.hierarchy import DEFAULT_CONTEXT_LENGTH, Hierarchy
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.data.windows import AddChunkEnds, ConceptBatch, WindowLoader, Windows, identity_collate

__all__ = ["ConceptDataModule", "data_of"]

MOST_BATCH_TOKENS = 2**26
"""Tokens in the largest batch; far more would fill the memory with its indices alone."""


class HeldOutSampler(UnrepeatedDistributedSampler, SequentialSampler):  # type: ignore[misc]
    """The indices of this process, each window once, so that every token counts once.

    A ``SequentialSampler`` by type: with ``overfit_batches``, Lightning replaces any other sampler.
    """


class ConceptDataModule(L.LightningDataModule, ABC):
    """Base class of the data modules: windows of tokens, aligned with the chunks of every level.

    A subclass says where windows come from: :attr:`vocab_size`, :attr:`tokenizer`,
    :meth:`training_windows` and :meth:`held_out_windows`. Loaders, processes and seeds are common.

    Args:
        levels: number of levels of the model, tokens included.
        chunk_size: elements of one level that form one element of the next.
        context_length: tokens in a window; a multiple of ``chunk_size ** (levels - 1)``, or of 1
            with ``chunking``; default: 256, rounded up to such a multiple.
        chunking: rules that cut the chunks of the model instead.
        batch_size: windows per batch and process.
        eval_batch_size: windows per batch and process outside training; default: ``batch_size``.
        seed: seed of the training windows, from 0 to 2^63 - 1; default: the seed of
            ``seed_everything``.
        num_workers: processes that prepare batches; 0 prepares them in the training process.

    Attributes:
        hierarchy: levels and chunk size.
        context_length: tokens in a window.
        batch_size: windows per batch and process in training.
        eval_batch_size: windows per batch and process outside training.

    Raises:
        InputError: if the context length does not fit the levels, or a number is out of range.
    """

    def __init__(
        self,
        levels: int = 2,
        chunk_size: int = 4,
        context_length: int | None = None,
        chunking: list[RuleEntry] | None = None,
        batch_size: int = 16,
        eval_batch_size: int | None = None,
        seed: int | None = None,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.hierarchy = Hierarchy.of(levels, chunk_size, chunking)
        if context_length is None:
            context_length = self.hierarchy.round_up(DEFAULT_CONTEXT_LENGTH)
        self.hierarchy.check_context(context_length)
        if batch_size < 1 or (eval_batch_size is not None and eval_batch_size < 1):
            raise InputError(f"batch_size {batch_size} and eval_batch_size {eval_batch_size} must be 1 or more.")
        if (tokens := max(batch_size, eval_batch_size or 0) * (context_length + 1)) > MOST_BATCH_TOKENS:
            raise InputError(
                f"a batch would hold {tokens} tokens, more than {MOST_BATCH_TOKENS}: choose a smaller batch_size or "
                "context_length."
            )
        if num_workers < 0:
            raise InputError(f"num_workers must be 0 or more, not {num_workers}.")
        if seed is not None and not 0 <= seed < 2**63:
            raise InputError(f"the seed of the data must be from 0 to {2**63 - 1}, not {seed}.")
        self.context_length = context_length
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self._seed = seed
        # From pinned memory, batches are copied to a GPU while it computes.
        self._loader_options: dict[str, Any] = {"num_workers": num_workers, "pin_memory": torch.cuda.is_available()}
        if num_workers > 0:
            self._loader_options |= {"persistent_workers": True, "worker_init_fn": begin_worker}
        self.save_hyperparameters()

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of token ids that the model needs, known before any text is read."""

    @property
    @abstractmethod
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, available after :meth:`setup`."""

    def use_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Take over the tokenizer of a trained model, which is to read this data from now on.

        By default nothing is done, and :class:`~nextconcept.ConceptModule` refuses a model whose
        tokens differ from those of :attr:`tokenizer`.

        Raises:
            InputError: if this data can't be read with ``tokenizer``.
        """

    @abstractmethod
    def training_windows(self, seed: int) -> Windows:
        """Return the training windows; window i is a function of ``seed`` and i."""

    @abstractmethod
    def held_out_windows(self, split: str) -> Windows:
        """Return the windows of ``val`` or ``test``.

        Raises:
            InputError: if the split is empty.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return plain values for a model card, with an entry ``dataset``."""

    def describe_task(self) -> dict[str, Any] | None:
        """Return the class and settings of a planning task as plain values, None for other data.

        Exports keep them, so that the answers of the task can be drawn.
        """
        return None

    def setup(self, stage: str | None = None) -> None:
        """Do what each process has to do before there are windows.

        By default refuses a fit whose validation has none, before the run has a folder.

        Raises:
            InputError: if the validation split is empty, or has too few windows for the processes.
        """
        if stage == "fit" and self.trainer is not None and self.trainer.limit_val_batches:
            self.val_dataloader()

    @property
    def training_seed(self) -> int:
        """Seed of the training windows."""
        return int(os.environ.get("PL_GLOBAL_SEED", 0)) if self._seed is None else self._seed

    def collate_fn(self) -> Callable[[Any], ConceptBatch]:
        """Return what is done with each batch, in the process that reads it.

        Where rules cut chunks, the batch receives :attr:`~.ConceptBatch.ends`. Of a user's own rule
        that a trained model brings, only the model's tables know where chunks end.

        Raises:
            InputError: if a rule of the user's own can't be imported.
        """
        automata = own_automata(self.hierarchy)
        if not self.hierarchy.rules or any(
            rule.of_text and level not in automata for level, rule in enumerate(self.hierarchy.rules, 1)
        ):
            return identity_collate
        texts = self.tokenizer.token_bytes() if automata else []
        return AddChunkEnds(self.hierarchy, rule_tables(automata, texts, len(texts)), self.context_length)

    def train_dataloader(self) -> DataLoader[ConceptBatch]:
        """Return a loader of training windows, in one order for any number of processes.

        A loop of your own calls ``loader.sampler.set_epoch(epoch)`` before each epoch, as Lightning
        does; otherwise each has the windows of the first.
        """
        windows = self.training_windows(self.training_seed)
        repeat = getattr(self.trainer, "overfit_batches", 0) > 0
        options = self._loader_options | {"collate_fn": self.collate_fn()}
        return WindowLoader(windows, self.batch_size, *self._ranks(), repeat, **options)

    def val_dataloader(self) -> DataLoader[ConceptBatch]:
        """Return a loader of the validation split, each window once."""
        return self._held_out_loader("val")

    def test_dataloader(self) -> DataLoader[ConceptBatch]:
        """Return a loader of the test split, each window once."""
        return self._held_out_loader("test")

    def predict_dataloader(self) -> DataLoader[ConceptBatch]:
        """Return a loader of the test split, each window once."""
        return self._held_out_loader("test")

    def _held_out_loader(self, split: str) -> DataLoader[ConceptBatch]:
        windows, (processes, _) = self.held_out_windows(split), self._ranks()
        if len(windows) < processes:
            raise InputError(
                f"the {split} split has {len(windows)} windows for {processes} processes, and each process needs one: "
                "hold out more, or use fewer processes."
            )
        sampler = HeldOutSampler(windows, *self._ranks(), shuffle=False)
        return DataLoader(
            windows,
            batch_size=self.eval_batch_size,
            sampler=sampler,
            collate_fn=self.collate_fn(),
            **self._loader_options,
        )

    def _ranks(self) -> tuple[int, int]:
        """Return the number of processes and the rank of this one."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)


def begin_worker(worker: int) -> None:
    """Prepare a process that reads data: training answers Ctrl-C, which a terminal sends to all.

    Lightning, which seeds workers after ``seed_everything(workers=True)``, leaves that to a
    function like this one where there is one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.environ.get("PL_SEED_WORKERS") == "1":
        pl_worker_init_function(worker)


def data_of(trainer: L.Trainer | None) -> ConceptDataModule | None:
    """Return the data module of a run, or None if there is no run or none of this type."""
    data = getattr(trainer, "datamodule", None)  # an attribute that Lightning sets without declaring it
    return data if isinstance(data, ConceptDataModule) else None
