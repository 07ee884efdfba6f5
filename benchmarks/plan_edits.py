"""How far editing the plan steers what is written.

    python benchmarks/plan_edits.py --ckpt_path RUN [--prompts 200]

For each prompt one planned concept is replaced by another, and the text is continued greedily with and without the edit. Counted: how often
the edited tokens stand in their place. On a run of the star graph the first planned chunk is replaced by the first nodes of a wrong arm; on
text, the first whole chunk ahead by a chunk from another prompt's continuation.
"""

import torch
from jsonargparse import auto_cli
from torch import Tensor

from nextconcept import NextConceptModel, generate
from nextconcept.checkpoints.files import load_run
from nextconcept.data.datamodule import ConceptDataModule
from nextconcept.inference.generate import PlanEdit
from nextconcept.tasks.star_graph import StarGraph, draw_lines, star_graph_tokenizer


def star_graph_prompts(graph: StarGraph, count: int) -> tuple[Tensor, Tensor]:
    """Questions (B, P), and for each the beginning (B, 3) of the path to the end of a wrong arm."""
    lines = torch.from_numpy(draw_lines(graph, 2, range(count)))
    question, path = lines[:, : graph.question], lines[:, graph.question :]
    edges = question[:, : 3 * graph.edges].view(count, graph.edges, 3)

    def after(node: Tensor, avoid: Tensor) -> Tensor:
        found = (edges[:, :, 0] == node[:, None]) & (edges[:, :, 1] != avoid[:, None])
        return edges[torch.arange(count), found.int().argmax(1), 1]

    second = after(path[:, 0], path[:, 1])
    third = after(second, path[:, 1])
    return question, torch.stack((path[:, 0], second, third), 1)


def text_prompts(model: NextConceptModel, dataset: str, count: int, length: int) -> tuple[Tensor, Tensor]:
    """Prompts (B, length) from the validation split, and the chunk that follows another of them."""
    chunk = model.config.chunk_size
    data = ConceptDataModule(
        dataset, context_length=model.config.context_length, levels=model.config.levels, chunk_size=chunk
    )
    data.prepare_data()
    data.setup()
    windows = data.val_dataloader().dataset
    stride = max(1, len(windows) // (count + 1))
    tokens = windows.__getitems__([index * stride for index in range(count)]).tokens
    return tokens[:, :length], tokens[:, length : length + chunk].roll(1, 0)


def main(
    ckpt_path: str,
    prompts: int = 200,
    dataset: str = "shakespeare",
    length: int = 64,
    arms: int = 2,
    path_length: int = 5,
) -> None:
    """Print the share of edits that are written.

    Args:
        ckpt_path: a run with two levels or more.
        prompts: how many.
        dataset: text to take prompts from.
        length: tokens of a prompt of text.
        arms: of the star graph.
        path_length: of the star graph.
    """
    model, tokenizer = load_run(ckpt_path)
    if isinstance(tokenizer, star_graph_tokenizer):
        graph = StarGraph(arms, path_length, tokenizer.nodes)
        given, wanted = star_graph_prompts(graph, prompts)
    else:
        given, wanted = text_prompts(model, dataset, prompts, length)
    edit = PlanEdit(1, 0, model.compose(wanted))
    print(f"{prompts} prompts, level 1, step 0 replaced")
    for name, edits in (("unedited", None), ("edited", [edit])):
        written = generate(model, given, wanted.shape[1], temperature=0.0, edits=edits)[:, given.shape[1] :]
        same = written == wanted
        print(f"{name:<9} whole chunk {same.all(1).double().mean():.3f}, single tokens {same.double().mean():.3f}")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
