"""Which tokens of an answer are known after each pass through a predictor's blocks.

    python benchmarks/plan_depth.py --ckpt_path RUN --task StarGraph --task.path_length 8
    python benchmarks/plan_depth.py --ckpt_path RUN --task Maze
    python benchmarks/plan_depth.py --ckpt_path RUN --task Countdown --lines 5000

RUN is a run, a checkpoint or an export of the task. For each pass and token, a linear probe (Alain
& Bengio, 2017) reads the state of the anchor at which the answer begins. It is fitted by ridge
regression on two thirds of the lines and evaluated on the rest. Below the probes: the accuracy of
the finished plan, token by token, and judged as an answer by the task; on star graphs also how
often the first branch is wrong, by the order of two edges in the question.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextconcept import NextConceptModel
from nextconcept.checkpoints.files import load_run
from nextconcept.cli.scripts import run_script
from nextconcept.core.errors import InputError
from nextconcept.nn.chunks import chunk_of_tokens
from nextconcept.tasks import Countdown, LinesTask, Maze, StarGraph, Task
from nextconcept.tasks.datamodule import TaskDataModule

__all__ = ["Countdown", "LinesTask", "Maze", "StarGraph"]  # tasks that --task knows by their short names

FRESH = 1_000_003
"""Seed of the lines, which no training has."""


def probe(states: Tensor, labels: Tensor, count: int) -> float:
    """Return the held-out accuracy of a linear map from (B, D) states to (B,) labels."""
    inputs = F.pad(F.rms_norm(states, states.shape[-1:]), (0, 1), value=1.0).double()
    wanted, known = F.one_hot(labels, count).double(), len(labels) * 2 // 3
    seen = inputs[:known]
    weight = torch.linalg.solve(seen.T @ seen + 0.1 * torch.eye(inputs.shape[1]), seen.T @ wanted[:known])
    return ((inputs[known:] @ weight).argmax(1) == labels[known:]).double().mean().item()


def places(model: NextConceptModel, tokens: Tensor, level: int) -> tuple[Tensor, Tensor]:
    """Return the chunk of a level that each token lies in and its place there, (B, T) each."""
    position = torch.arange(tokens.shape[1]).expand_as(tokens)
    if model.chunker is None:
        span = model.config.hierarchy.span(level)
        return position // span, position % span
    chunks = model.chunker(tokens)
    chunk = chunk_of_tokens(chunks, level)
    start = chunks[1].start
    for upper in range(2, level + 1):
        start = start.gather(1, chunks[upper].first)
    return chunk, position - start.gather(1, chunk)


@torch.no_grad()
def look(model: NextConceptModel, tokens: Tensor, answer: int, level: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return what is known at the anchor at which the answer begins.

    Args:
        model: the model.
        tokens: (B, T) lines.
        answer: position of the first token of the answer.
        level: level whose predictor is probed.

    Returns:
        (S, B, D) states after each pass; (B, T - answer) tokens of the answer, read back from the
        plan; and which of these the plan reaches.
    """
    chunk, place = places(model, tokens, level)
    anchor, rows = chunk[:, answer], torch.arange(len(tokens))
    states: list[Tensor] = []
    shape = model.predictor(level).shape

    def keep(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if inputs[1].shape is shape:  # blocks that levels share run for the tokens, too
            states.append(output[rows, anchor])

    handles = [block.register_forward_hook(keep) for block in model.transformer(level).blocks]
    plan = model(tokens).plans[level][rows, anchor]
    for handle in handles:
        handle.remove()
    step = chunk[:, answer:] - anchor[:, None]
    reached = step < plan.shape[1]
    own = plan.gather(1, step.clamp(max=plan.shape[1] - 1)[..., None].expand(-1, -1, plan.shape[2]))
    read = model.encoder.read_back_at(own, place[:, answer:]).argmax(-1)
    return torch.stack(states), read, reached


def print_edge_order(task: StarGraph, prompts: Tensor, path: Tensor, wrong: Tensor) -> None:
    """Print how often (B,) first branches are wrong, by the order of the edges after them.

    Paths of fewer than three edges have no such order.
    """
    if path.shape[1] < 4:
        return
    edges = prompts[:, :-3].unflatten(1, (-1, 3))

    def index(node: int) -> Tensor:
        source, target = path[:, node, None], path[:, node + 1, None]
        return ((edges[..., 0] == source) & (edges[..., 1] == target)).int().argmax(1)

    before, after = index(1), index(2)
    for name, chosen in (("before", before < after), ("after", before > after)):
        share = wrong[chosen].double().mean()
        print(f"first branch wrong where its next edge stands {name} the edge that follows: {share:.3f}")


def main(ckpt_path: str, task: Task, lines: int = 3000, level: int = 1, batch_size: int = 250) -> None:
    """Print a table with a row per pass and a column per token of the answer.

    Args:
        ckpt_path: a run, a checkpoint or an export with two levels or more.
        task: the task that it was trained on.
        lines: number of lines: newly drawn, or those of the test where training lines repeat.
        level: level whose predictor is probed.
        batch_size: lines at a time.
    """
    model, tokenizer = load_run(ckpt_path)
    if not task.tokenizer.same_tokens(tokenizer) or not 1 <= level < model.config.levels:
        raise InputError(
            f"{ckpt_path} is no run on {type(task).__name__} with these settings that has a level {level} of concepts."
        )
    config = model.config
    data = TaskDataModule(task, config.levels, config.chunk_size, chunking=config.chunking)
    endless = task.num_lines("train") is None
    windows = data.training_windows(FRESH) if endless else data.held_out_windows("test")
    tokens = windows.__getitems__(list(range(lines if endless else min(lines, len(windows))))).tokens[:, :-1]
    start, length = data.layout.answer, task.answer_length
    parts = [look(model, batch, start, level) for batch in tokens.split(batch_size)]
    states = torch.cat([part[0] for part in parts], 1)
    planned, reached = (torch.cat([part[index] for part in parts])[:, :length] for index in (1, 2))
    prompts, truths = tokens[:, data.layout.prompt : start], tokens[:, start : start + length]
    print("pass   " + "".join(f"token {place + 1:<3}" for place in range(length)))
    for index, state in enumerate(states):
        found = [probe(state, truths[:, place], task.tokenizer.vocab_size) for place in range(length)]
        print(f"{index + 1:<7}" + "".join(f"{accuracy:<9.2f}" for accuracy in found))
    right = ((planned == truths) & reached).double().mean(0)
    print("plan   " + "".join(f"{accuracy:<9.3f}" for accuracy in right.tolist()))
    if reached.all():
        verdicts = task.judge(prompts, planned, truths)
        print("plan as an answer: " + ", ".join(f"{name} {one.double().mean():.3f}" for name, one in verdicts.items()))
    if isinstance(task, StarGraph):
        print_edge_order(task, prompts, truths, planned[:, 1] != truths[:, 1])


if __name__ == "__main__":
    run_script(main)
