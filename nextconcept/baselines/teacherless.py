"""Teacherless training (Bachmann & Nagarajan, 2024, arXiv 2403.06963).

Shapes: B batch, T tokens.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nextconcept.core.errors import InputError
from nextconcept.nn.model import NextConceptModel
from nextconcept.nn.model_output import ModelOutput
from nextconcept.training.objectives import Objective

__all__ = ["Teacherless"]


class Teacherless(Objective):
    """Predicts the whole answer from the prompt, without reading the answer.

    ``mean_i CE(logits(x_<a, $, ..., $)_i, x_i)`` over the tokens i of the answer, which begins at
    a: in the input, all answer tokens are replaced by a dummy token $, so that no token of the
    answer can be copied from the one before. As in the authors' code, every answer of every batch
    is masked, and answers are written in one pass over the prompt and dummy tokens.

    For data of which a part is not to be learnt, the prompts. A model that was trained like this
    does not write one token after another, and ``nextconcept generate`` refuses it.

    Args:
        model: a model with one level.
        dummy: id of $; default: the last id, which a task has for padding.

    Raises:
        InputError: if the model has concepts, or does not know the id.
    """

    writes_alone: ClassVar[bool] = False
    one_level: ClassVar[bool] = True

    def __init__(self, model: NextConceptModel, dummy: int | None = None) -> None:
        super().__init__(model)
        vocab_size = model.config.vocab_size
        self.dummy = vocab_size - 1 if dummy is None else dummy
        if not 0 <= self.dummy < vocab_size:
            raise InputError(f"dummy must be an id from 0 to {vocab_size - 1}, not {dummy}.")

    def inputs(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Replace all tokens that are to be learnt by the dummy; see :meth:`.Objective.inputs`."""
        return tokens.masked_fill(mask, self.dummy)[:, :-1]

    @torch.no_grad()
    def write(self, model: NextConceptModel, prompts: Tensor, length: int) -> Tensor:
        """Write answers in one pass; see :meth:`.Objective.write`."""
        inputs = F.pad(prompts, (0, length - 1), value=self.dummy)
        output: ModelOutput = model(inputs)
        return output.logits[:, prompts.shape[1] - 1 :].argmax(-1)
