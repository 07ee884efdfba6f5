"""How often an edit of the plan is written.

    python benchmarks/plan_edits.py --ckpt_path RUN                           # of text
    python benchmarks/plan_edits.py --ckpt_path RUN --task StarGraph [--task.path_length 8]
    python benchmarks/plan_edits.py --ckpt_path RUN --task Maze
    python benchmarks/plan_edits.py --ckpt_path RUN --task Countdown

RUN is a run, a checkpoint or an export. For each prompt one planned concept is replaced by another,
and the text is continued greedily with and without the edit. Counted is how often the tokens of the
edit are written at their position. Of an answer, the first planned chunk is replaced by another
beginning that the prompt allows: a wrong arm of a star graph, another turn in a maze, another
equation of countdown, and of other tasks the beginning of another line's answer. On text, the first
whole chunk ahead is replaced by a chunk that follows another prompt.
"""

from functools import singledispatch

import numpy as np
import torch
from torch import Tensor

from nextconcept import NextConceptModel, generate
from nextconcept.checkpoints.files import load_run
from nextconcept.cli.scripts import run_script
from nextconcept.core.errors import InputError
from nextconcept.data.text import TextDataModule
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.inference.plan_edits import PlanEdit
from nextconcept.tasks import Countdown, LinesTask, Maze, StarGraph, Task
from nextconcept.tasks.datamodule import TaskDataModule
from nextconcept.tasks.grids import adjacency

__all__ = ["LinesTask"]  # a task that --task knows by its short name, as the others

LONGEST = 128
"""Tokens in which a chunk of text ends, as far as prompts are looked for."""


@singledispatch
def other_beginning(task: Task, prompts: Tensor, answers: Tensor, length: int) -> Tensor:
    """Return for each line (B, P), (B, A) another beginning (B, length) of its answer."""
    return answers.roll(1, 0)[:, :length]


@other_beginning.register
def _(task: StarGraph, prompts: Tensor, answers: Tensor, length: int) -> Tensor:
    edges = prompts[:, :-3].unflatten(1, (-1, 3))
    joined = torch.zeros(len(prompts), task.nodes, task.nodes, dtype=torch.bool)
    joined[torch.arange(len(prompts))[:, None], edges[..., 0], edges[..., 1]] = True
    return _walk(joined, answers, min(length, task.path_length))


@other_beginning.register
def _(task: Maze, prompts: Tensor, answers: Tensor, length: int) -> Tensor:
    passages = prompts[:, :-3].unflatten(1, (-1, 3))[..., :2]
    return _walk(torch.from_numpy(adjacency(passages.numpy(), task.cells)), answers, length)


@other_beginning.register
def _(task: Countdown, prompts: Tensor, answers: Tensor, length: int) -> Tensor:
    """Return the sum of two numbers whose first equation is another one."""
    numbers = prompts[:, 0 : 2 * task.numbers : 2].sort(1, descending=True).values
    rows = []
    for left, answer in zip(numbers.tolist(), answers[:, :6].tolist(), strict=True):
        sums = [(a, b) for i, a in enumerate(left) for b in left[i + 1 :] if a + b <= task.max_result]
        found = [task.tokenizer.encode(f"{a}+{b}={a + b},") for a, b in sums]
        rows.append(next(line for line in found if line.tolist() != answer))
    return torch.from_numpy(np.stack(rows))[:, :length]


def _walk(joined: Tensor, answers: Tensor, length: int) -> Tensor:
    """Walk along (B, N, N) edges from the start of (B, A) answers, but to another second node.

    A walk goes on to a node that it has not come from, and back only where there is none.
    """
    rows, way = torch.arange(len(joined)), [answers[:, 0]]
    avoided = answers[:, 1]
    for _ in range(length - 1):
        following = joined[rows, way[-1]].clone()
        following[rows, avoided] &= following.sum(1) == 1
        way.append(following.int().argmax(1))
        avoided = way[-2]
    return torch.stack(way, 1)


def task_prompts(model: NextConceptModel, task: Task, count: int) -> tuple[Tensor, Tensor]:
    """Return prompts (B, T), and for each a first chunk (B, n) other than that of its answer."""
    config = model.config
    data = TaskDataModule(task, config.levels, config.chunk_size, chunking=config.chunking)
    windows = data.held_out_windows("test")
    tokens = windows.__getitems__(list(range(min(count, len(windows))))).tokens
    layout = data.layout
    prompts = tokens[:, : layout.answer]
    answers = tokens[:, layout.answer : layout.answer + task.answer_length]
    span = config.hierarchy.span(1)
    wanted = other_beginning(task, prompts[:, layout.prompt :], answers, min(span, task.answer_length))
    if model.chunker is not None:
        chunk = model.chunker(torch.cat((prompts, wanted), 1))[1].index[:, layout.answer : -1]
        wanted = wanted[:, : int((chunk == chunk[:, :1]).sum(1).min())]
    elif wanted.shape[1] < span:
        raise InputError(f"an answer of {type(task).__name__} is shorter than a chunk of {span} tokens: edit text.")
    return prompts, wanted


def text_prompts(
    model: NextConceptModel, tokenizer: Tokenizer, dataset: str, count: int, length: int
) -> tuple[Tensor, list[Tensor]]:
    """Return validation prompts (B, length) that end with a chunk, and the chunk behind another."""
    data = TextDataModule(dataset, levels=1, context_length=length + 2 * LONGEST)
    data.use_tokenizer(tokenizer)
    data.prepare_data()
    data.setup()
    windows = data.held_out_windows("val")
    stride = max(1, len(windows) // (count + 1))
    tokens = windows.__getitems__([index * stride for index in range(count)]).tokens
    prompts, behind = [], []
    for row in tokens:
        if model.chunker is None:
            starts = torch.arange(0, len(row), model.config.chunk_size)
        else:
            starts = model.chunker(row[None])[1].start[0]
        first = int((starts >= length).nonzero()[0])
        start, end = starts[first : first + 2].tolist()
        prompts.append(row[start - length : start])
        behind.append(row[start:end])
    return torch.stack(prompts), [*behind[1:], behind[0]]


def main(
    ckpt_path: str, task: Task | None = None, prompts: int = 200, dataset: str = "shakespeare", length: int = 64
) -> None:
    """Print how often edits are written.

    Args:
        ckpt_path: a run, a checkpoint or an export with two levels or more.
        task: the task that it was trained on; none for text.
        prompts: number of prompts.
        dataset: text to take prompts from.
        length: tokens of a prompt of text.
    """
    model, tokenizer = load_run(ckpt_path)
    if model.config.levels < 2 or (task is not None and not task.tokenizer.same_tokens(tokenizer)):
        raise InputError(f"{ckpt_path} has no plan, or was trained on another task: name the task and its settings.")
    if task is not None:
        tokens, beginnings = task_prompts(model, task, prompts)
        wanted = list(beginnings)
    else:
        tokens, wanted = text_prompts(model, tokenizer, dataset, prompts, length)
    edit = PlanEdit(1, 0, torch.cat([model.compose(one[None]) for one in wanted]))
    print(f"{len(tokens)} prompts, level 1, step 0 replaced")
    for name, edits in (("unedited", None), ("edited", [edit])):
        written = generate(model, tokens, max(map(len, wanted)), temperature=0.0, edits=edits)[:, tokens.shape[1] :]
        equal = [row[: len(one)] == one for row, one in zip(written, wanted, strict=True)]
        whole = sum(bool(one.all()) for one in equal) / len(equal)
        print(f"{name:<9} whole chunk {whole:.3f}, single tokens {torch.cat(equal).double().mean():.3f}")


if __name__ == "__main__":
    run_script(main)
