"""Data module of planning tasks."""

from typing import Any

from nextconcept.core.chunking import RuleEntry
from nextconcept.core.errors import InputError
from nextconcept.core.hierarchy import Hierarchy
from nextconcept.data.datamodule import ConceptDataModule
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.data.tokenizers import SymbolTokenizer
from nextconcept.tasks.records import record_of
from nextconcept.tasks.task import Task
from nextconcept.tasks.windows import TaskWindows

__all__ = ["TaskDataModule"]


class TaskDataModule(ConceptDataModule):
    """Windows of a planning task; the task determines tokens and context length.

    Args:
        task: the task, for instance :class:`~nextconcept.tasks.star_graph.StarGraph`.
        levels: number of levels of the model, tokens included.
        chunk_size: elements of one level that form one element of the next.
        context_length: tokens in a window; default: what the task needs, and nothing else fits.
        chunking: rules that cut the chunks of the model instead.
        **kwargs: arguments of :class:`~nextconcept.data.datamodule.ConceptDataModule`.

    Attributes:
        task: the task.
        layout: where the parts of a line lie in a window.

    Raises:
        InputError: if the context length is not the task's, or a number is out of range.
    """

    def __init__(
        self,
        task: Task,
        levels: int = 2,
        chunk_size: int = 4,
        context_length: int | None = None,
        chunking: list[RuleEntry] | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(task, Task):
            raise InputError(f"task takes a task, such as StarGraph(arms=2, path_length=5), not {task!r}.")
        hierarchy = Hierarchy.of(levels, chunk_size, chunking)
        layout = task.layout(hierarchy)
        if context_length not in (None, layout.context_length):
            raise InputError(
                f"the task {type(task).__name__} in chunks of {hierarchy.alignment} tokens needs context_length "
                f"{layout.context_length}, not {context_length}: leave context_length out, or give the task that the "
                "model was trained on."
            )
        super().__init__(levels, chunk_size, layout.context_length, chunking, **kwargs)
        if isinstance(self.hparams["task"], Task):
            # Checkpoints hold plain values; the command line gives the task as such.
            self.save_hyperparameters(ignore=["task"])
        self.task, self.layout = task, layout
        self._tokenizer = task.tokenizer.with_prompt_length(layout.answer)

    @property
    def vocab_size(self) -> int:
        """Number of token ids of the task, its end of text included."""
        return self._tokenizer.vocab_size

    @property
    def tokenizer(self) -> SymbolTokenizer:
        """Tokenizer of the task, which pads prompts to where an answer begins."""
        return self._tokenizer

    def use_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Check that a trained model reads the tokens of the task.

        Raises:
            InputError: if it reads others.
        """
        if not self._tokenizer.same_tokens(tokenizer):
            raise InputError(
                f"the model reads other tokens than the task {type(self.task).__name__} has with these settings: use "
                "the data that the model was trained on."
            )

    def training_windows(self, seed: int) -> TaskWindows:
        """Return the training lines; an epoch of lines without end has 1,000 batches."""
        return TaskWindows(self.task, self.hierarchy, "train", seed, 1000 * self.batch_size)

    def held_out_windows(self, split: str) -> TaskWindows:
        """Return the lines of ``val`` or ``test``.

        Raises:
            InputError: if the split has no line.
        """
        return TaskWindows(self.task, self.hierarchy, split)

    def describe(self) -> dict[str, Any]:
        """Return the task's description and the context length as plain values."""
        return self.task.describe() | {"context_length": self.context_length}

    def describe_task(self) -> dict[str, Any] | None:
        """Return the task as plain values, see :func:`~nextconcept.tasks.records.record_of`."""
        return record_of(self.task)
