"""Which nodes of a star graph's path are known after each pass through a predictor's blocks.

    python benchmarks/plan_depth.py --ckpt_path RUN --arms 2 --path_length 8

For each pass and node, a linear probe (Alain & Bengio, 2017) reads the state of the anchor at which
the answer begins. It is fitted by ridge regression on two thirds of the lines and evaluated on the
rest. Below the probes: the accuracy of the finished plan, and how often the first branch is wrong,
by the order of two edges in the question.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jsonargparse import auto_cli
from torch import Tensor, nn

from nextconcept.checkpoints.files import load_run
from nextconcept.core.errors import InputError
from nextconcept.tasks.star_graph import StarGraph, draw_lines, star_graph_tokenizer


def probe(states: Tensor, nodes: Tensor, labels: int) -> float:
    """Return the held-out accuracy of a linear map from (B, D) states to (B,) nodes."""
    inputs = F.pad(F.rms_norm(states, states.shape[-1:]), (0, 1), value=1.0).double()
    wanted, known = F.one_hot(nodes, labels).double(), len(nodes) * 2 // 3
    seen = inputs[:known]
    weight = torch.linalg.solve(seen.T @ seen + 0.1 * torch.eye(inputs.shape[1]), seen.T @ wanted[:known])
    return ((inputs[known:] @ weight).argmax(1) == nodes[known:]).double().mean().item()


def edge_index(question: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Return (B,) indices of the edges from ``source`` to ``target`` in (B, P) questions."""
    edges = question[:, :-3].unflatten(1, (-1, 3))
    return ((edges[..., 0] == source[:, None]) & (edges[..., 1] == target[:, None])).int().argmax(1)


@torch.no_grad()
def main(ckpt_path: str, lines: int = 3000, arms: int = 2, path_length: int = 5) -> None:
    """Print a table with a row per pass and a column per node.

    Args:
        ckpt_path: a run on the star graph with two levels or more.
        lines: number of lines, newly drawn.
        arms: arms of the star graph.
        path_length: nodes of each arm.
    """
    model, tokenizer = load_run(ckpt_path)
    if not isinstance(tokenizer, star_graph_tokenizer) or model.config.levels < 2:
        raise InputError(f"{ckpt_path} is no run on the star graph with two levels or more.")
    graph = StarGraph(arms, path_length, tokenizer.nodes)
    drawn = torch.from_numpy(draw_lines(graph, 3, range(lines)))
    question, path = drawn[:, : graph.question], drawn[:, graph.question :]
    states: list[Tensor] = []
    shape = model.predictor(1).shape

    def keep(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if inputs[1].shape is shape:  # blocks that levels share run for the tokens, too
            states.append(output[:, -1])

    handles = [block.register_forward_hook(keep) for block in model.transformer(1).blocks]
    plan = model(question).plans[1][:, -1]
    for handle in handles:
        handle.remove()
    print("pass   " + "".join(f"node {node + 1:<4}" for node in range(path_length)))
    for index, state in enumerate(states):
        found = [probe(state, path[:, node], tokenizer.nodes) for node in range(path_length)]
        print(f"{index + 1:<7}" + "".join(f"{accuracy:<9.2f}" for accuracy in found))
    planned = model.encoder.read_back(plan, 1).argmax(-1).flatten(1)[:, :path_length]
    right = planned == path[:, : planned.shape[1]]
    print("plan   " + "".join(f"{accuracy:<9.3f}" for accuracy in right.double().mean(0).tolist()))
    wrong = ~right[:, 1]
    before, after = (edge_index(question, path[:, node], path[:, node + 1]) for node in (1, 2))
    for name, chosen in (("before", before < after), ("after", before > after)):
        share = wrong[chosen].double().mean()
        print(f"first branch wrong where its next edge stands {name} the edge that follows: {share:.3f}")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
