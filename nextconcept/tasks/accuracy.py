"""Accuracy of the answers that a model writes."""

from typing import Any, cast

import lightning as L
import torch
from torch import Tensor

from nextconcept.core.errors import InputError
from nextconcept.data.processes import gather_objects
from nextconcept.data.windows import ConceptBatch
from nextconcept.nn.model import NextConceptModel
from nextconcept.nn.plan_choice import PlanSource
from nextconcept.tasks.datamodule import TaskDataModule
from nextconcept.tasks.task import Task
from nextconcept.training.module import ConceptModule

__all__ = ["TaskAccuracy"]


class TaskAccuracy(L.Callback):
    """Measures how many answers of a task are right, in validation and test; ignores other data.

    Answers are written greedily. With ``STAGE`` being ``val`` or ``test``, the metrics are

    - ``STAGE/answer/exact``, and one for each further verdict of :meth:`.Task.judge`, such as
      ``STAGE/answer/first_branch``: share of the lines;
    - ``STAGE/answer/token_K``: share of the lines whose K-th token, from 1, is right; of long
      answers the first 16 tokens and powers of two;
    - ``STAGE/answer/exact_zero``, ``STAGE/answer/exact_shuffled``, and likewise for each verdict:
      with the plan set to zero, or replaced by another line's.

    With a changed plan each token is predicted after the true tokens before it, in one pass. For
    ``exact`` this gives what writing gives, because a wrong token makes the whole answer wrong, and
    for ``first_branch`` too, because the node before the branch is copied. A task whose prompts
    have several right answers says so (``single_answers``), and its answers are written.

    Each process counts its own lines, and the counts are added at the end, so that all processes
    log the same names whatever lines they have.
    """

    def __init__(self) -> None:
        self._other_row: Tensor | None = None
        # Per metric: right lines, and lines.
        self._counts: dict[str, tuple[float, int]] = {}

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the counts of an evaluation that was interrupted."""
        self._other_row, self._counts = None, {}

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: ConceptBatch, *_: Any
    ) -> None:
        """Measure a batch of the validation split."""
        self._measure(trainer, pl_module, batch)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the shares of the validation split."""
        self._log(trainer, pl_module, "val")

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: ConceptBatch, *_: Any
    ) -> None:
        """Measure a batch of the test split."""
        self._measure(trainer, pl_module, batch)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the shares of the test split."""
        self._log(trainer, pl_module, "test")

    def _log(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if not isinstance(getattr(trainer, "datamodule", None), TaskDataModule) or trainer.sanity_checking:
            return
        totals: dict[str, tuple[float, int]] = {}
        for counts in gather_objects(self._counts):
            for name, (right, count) in counts.items():
                rights, lines = totals.get(name, (0.0, 0))
                totals[name] = rights + right, lines + count
        # A line that has no other to take a plan from would be missing from one mean alone.
        complete = max((lines for _, lines in totals.values()), default=0)
        shares = {
            f"{stage}/answer/{name}": right / lines for name, (right, lines) in totals.items() if lines == complete
        }
        pl_module.log_dict(shares)

    def _measure(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: ConceptBatch) -> None:
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, TaskDataModule) or trainer.sanity_checking:
            return
        module = cast(ConceptModule, pl_module)
        task, layout, model = data.task, data.layout, module.model
        tokens, start, length = batch.tokens, layout.answer, task.answer_length
        prompts, truths = tokens[:, layout.prompt : start], tokens[:, start : start + length]
        written = module.objective.write(model, tokens[:, :start], length)
        verdicts = _judge(task, prompts, written, truths)
        verdicts |= {
            f"token_{k}": written[:, k - 1] == truths[:, k - 1]
            for k in range(1, length + 1)
            if k <= 16 or k & (k - 1) == 0
        }
        for source, rows in self._interventions(model, tokens).items():
            answers = _answers(model, rows, source, start, length, passes=1 if task.single_answers else length)
            judged = _judge(task, prompts, answers[: len(tokens)], truths)
            verdicts |= {f"{name}_{source}": right for name, right in judged.items()}
        self._other_row = tokens[-1:]
        for name, right in verdicts.items():
            before, count = self._counts.get(name, (0.0, 0))
            self._counts[name] = before + float(right.double().sum()), count + len(tokens)

    def _interventions(self, model: NextConceptModel, tokens: Tensor) -> dict[PlanSource, Tensor]:
        """Return the plan sources to measure and for each the (B', T + 1) rows to run, B' >= B.

        A single row takes the shuffled plan of a row of the batch before, so that all metrics are
        means over the same lines.
        """
        if model.config.levels == 1:
            return {}
        rows = {"zero": tokens, "shuffled": tokens}
        if len(tokens) == 1:
            other = self._other_row
            if other is None or other.shape != tokens.shape:
                del rows["shuffled"]
            else:
                rows["shuffled"] = torch.cat((tokens, other.to(tokens.device)))
        return cast(dict[PlanSource, Tensor], rows)


def _judge(task: Task, prompts: Tensor, answers: Tensor, truths: Tensor) -> dict[str, Tensor]:
    """Have a task judge (B, A) answers.

    Raises:
        InputError: if its verdicts are not what :meth:`.Task.judge` promises.
    """
    verdicts = task.judge(prompts, answers, truths)
    wrong = [name for name, right in verdicts.items() if not _is_verdict(right, len(answers))]
    if wrong or "exact" not in verdicts:
        raise InputError(
            f"{type(task).__name__}.judge must return a (B,) bool tensor per name, 'exact' among them: "
            + (f"{wrong[0]!r} is none." if wrong else f"it has {', '.join(map(repr, verdicts)) or 'no name'}.")
        )
    return verdicts


def _is_verdict(value: Any, count: int) -> bool:
    return isinstance(value, Tensor) and value.shape == (count,) and value.dtype == torch.bool


@torch.no_grad()
def _answers(
    model: NextConceptModel, tokens: Tensor, source: PlanSource, start: int, length: int, passes: int
) -> Tensor:
    """Return the likeliest (B, A) answers under a plan source.

    The first pass predicts after the true answer; each further pass, after the answer of the pass
    before, so that as many passes as tokens give what greedy writing gives.
    """
    tokens = tokens.clone()
    for _ in range(passes):
        with torch.compiler.set_stance("force_eager"):  # or each source is compiled on its own
            logits = model(tokens[:, :-1], source).logits
        answers = logits[:, start - 1 : start - 1 + length].argmax(-1)
        if torch.equal(answers, tokens[:, start : start + length]):
            break
        tokens[:, start : start + length] = answers
    return tokens[:, start : start + length]
