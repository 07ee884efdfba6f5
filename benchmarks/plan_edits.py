"""How often an edit of the plan is written.

    python benchmarks/plan_edits.py --ckpt_path RUN [--prompts 200]

For each prompt one planned concept is replaced by another, and the text is continued greedily with
and without the edit. Counted is how often the tokens of the edit are written at their position. On
a run of the star graph the first planned chunk is replaced by the first nodes of a wrong arm; on
text, the first whole chunk ahead is replaced by a chunk that follows another prompt.
"""

import torch
from jsonargparse import auto_cli
from torch import Tensor

from nextconcept import NextConceptModel, generate
from nextconcept.checkpoints.files import load_run
from nextconcept.data.text import TextDataModule
from nextconcept.data.tokenizers import SymbolTokenizer
from nextconcept.inference.generate import PlanEdit
from nextconcept.tasks.datamodule import TaskDataModule
from nextconcept.tasks.star_graph import StarGraph


def star_graph_prompts(model: NextConceptModel, graph: StarGraph, count: int) -> tuple[Tensor, Tensor]:
    """Return prompts (B, T), and for each the beginning (B, 3) of the path along a wrong arm."""
    data = TaskDataModule(graph, model.config.levels, model.config.chunk_size)
    windows = data.held_out_windows("test").__getitems__(list(range(count))).tokens
    layout = data.layout
    path = windows[:, layout.answer : layout.answer + graph.path_length]
    edges = windows[:, layout.prompt : layout.prompt + 3 * graph.edges].view(count, graph.edges, 3)

    def after(node: Tensor, avoid: Tensor) -> Tensor:
        found = (edges[:, :, 0] == node[:, None]) & (edges[:, :, 1] != avoid[:, None])
        return edges[torch.arange(count), found.int().argmax(1), 1]

    second = after(path[:, 0], path[:, 1])
    third = after(second, path[:, 1])
    return windows[:, : layout.answer], torch.stack((path[:, 0], second, third), 1)


def text_prompts(model: NextConceptModel, dataset: str, count: int, length: int) -> tuple[Tensor, Tensor]:
    """Return validation prompts (B, length), and for each the chunk that follows another."""
    config = model.config
    data = TextDataModule(
        dataset, context_length=config.context_length, levels=config.levels, chunk_size=config.chunk_size
    )
    data.prepare_data()
    data.setup()
    windows = data.held_out_windows("val")
    stride = max(1, len(windows) // (count + 1))
    tokens = windows.__getitems__([index * stride for index in range(count)]).tokens
    return tokens[:, :length], tokens[:, length : length + config.chunk_size].roll(1, 0)


def main(
    ckpt_path: str,
    prompts: int = 200,
    dataset: str = "shakespeare",
    length: int = 64,
    arms: int = 2,
    path_length: int = 5,
) -> None:
    """Print how often edits are written.

    Args:
        ckpt_path: a run with two levels or more, of text or of the star graph.
        prompts: number of prompts.
        dataset: text to take prompts from.
        length: tokens of a prompt of text.
        arms: arms of the star graph.
        path_length: nodes on a path of the star graph.
    """
    model, tokenizer = load_run(ckpt_path)
    if isinstance(tokenizer, SymbolTokenizer):
        nodes = len(tokenizer.symbols) - 3  # the symbols are the nodes and three signs
        tokens, wanted = star_graph_prompts(model, StarGraph(arms, path_length, nodes), prompts)
    else:
        tokens, wanted = text_prompts(model, dataset, prompts, length)
    edit = PlanEdit(1, 0, model.compose(wanted))
    print(f"{prompts} prompts, level 1, step 0 replaced")
    for name, edits in (("unedited", None), ("edited", [edit])):
        written = generate(model, tokens, wanted.shape[1], temperature=0.0, edits=edits)[:, tokens.shape[1] :]
        equal = written == wanted
        print(f"{name:<9} whole chunk {equal.all(1).double().mean():.3f}, single tokens {equal.double().mean():.3f}")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
