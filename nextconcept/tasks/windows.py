"""Lines of a task as windows in which only the answer is learnt.

Shapes: B lines, T context length.
"""

import numpy as np
import torch

from nextconcept.core.errors import InputError
from nextconcept.core.hierarchy import Hierarchy
from nextconcept.data.windows import ConceptBatch, Windows
from nextconcept.tasks.task import Task

__all__ = ["TaskWindows"]


class TaskWindows(Windows):
    """Lines of one split of a task; the answer begins with a chunk of each level of fixed chunks.

    A finite training split is shuffled anew in each epoch, as a function of seed and epoch.

    Args:
        task: the task.
        hierarchy: levels and chunk size of the model.
        split: ``train``, ``val`` or ``test``.
        seed: seed of the training lines.
        epoch_length: windows in an epoch of lines without end.

    Raises:
        InputError: if the split has no line, or held-out lines have no end.
    """

    def __init__(self, task: Task, hierarchy: Hierarchy, split: str, seed: int = 0, epoch_length: int = 1000) -> None:
        self.task, self.split, self.seed = task, split, seed
        self.layout = task.layout(hierarchy)
        self.count = task.num_lines(split)
        if self.count == 0:
            raise InputError(f"the task {type(task).__name__} has no line for the {split} split: give it some.")
        if self.count is None and split != "train":
            raise InputError(f"the {split} split of the task {type(task).__name__} needs a number of lines.")
        self.epoch_length = self.count or epoch_length
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        """Return the number of windows in an epoch."""
        return self.epoch_length

    def __getitems__(self, indices: list[int]) -> ConceptBatch:
        """Return windows ``indices`` as one batch."""
        lines = indices if self.count is None else [self._line(index, self.count) for index in indices]
        task, layout = self.task, self.layout
        tokens = torch.full((len(indices), layout.context_length + 1), task.tokenizer.end_of_text)
        parts = zip((layout.prompt, layout.answer), task.draw(self.split, self.seed, lines), strict=True)
        for (start, part), length in zip(parts, (task.prompt_length, task.answer_length), strict=True):
            ids = np.ascontiguousarray(part, dtype=np.int64)
            if ids.shape != (len(lines), length) or ids.min() < 0 or ids.max() >= task.tokenizer.vocab_size:
                raise InputError(
                    f"{type(task).__name__}.draw gave {ids.shape} ids from {ids.min()} to {ids.max()} for "
                    f"{len(lines)} lines: prompts have {task.prompt_length} ids, answers {task.answer_length}, all "
                    f"below {task.tokenizer.vocab_size}; see nextconcept.tasks.task.pad."
                )
            tokens[:, start : start + length] = torch.from_numpy(ids)
        mask = torch.zeros(tokens.shape, dtype=torch.bool)
        # The end of text that fills the last chunk is learnt too: a concept counts in the loss only
        # if all its tokens do.
        mask[:, layout.answer : layout.context_length] = True
        return ConceptBatch(tokens, mask)

    def _line(self, index: int, count: int) -> int:
        """Return the number of the line that window ``index`` shows."""
        if self.split != "train":
            return index % count
        epoch, position = divmod(index, count)
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self.seed, epoch]).permutation(count))
        return int(self._order[1][position])
