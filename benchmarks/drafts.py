"""Speed of generation with and without drafts from the plan, of trained models.

    python benchmarks/drafts.py --ckpt_path RUN --prompt "ROMEO:" [--tokens 400]
    python benchmarks/drafts.py --ckpt_path RUN --arms 2 --path_length 5
    python benchmarks/drafts.py --width 512 --depth 6

Without a run, prints what a pass of an untrained model costs by the length of its draft. Otherwise
prints tokens per pass and the time per token behind the first one, on one thread, for one text and
for 32. The two ways of writing take turns, and medians are printed. Time is that of the process, so
that a machine that does other work too gives the same figures.
"""

import statistics
import time
from collections.abc import Iterator

import torch
from jsonargparse import auto_cli
from torch import Tensor

from nextconcept import ModelConfig, NextConceptModel
from nextconcept.checkpoints.files import load_run
from nextconcept.data.tokenizers import Tokenizer
from nextconcept.inference.draft_acceptance import DraftFigures
from nextconcept.inference.draft_length import DraftLength
from nextconcept.inference.drafts import DraftingGenerator
from nextconcept.inference.generate import generate_tokens
from nextconcept.inference.sampling import Sampling, make_generator
from nextconcept.tasks import StarGraph


def prompts(
    tokenizer: Tokenizer, prompt: str, arms: int | None, path_length: int, batch: int, turns: int
) -> Iterator[Tensor]:
    """Yield a batch of prompts per turn: (batch, T) token ids."""
    for turn in range(turns):
        if arms is None:
            yield torch.from_numpy(tokenizer.encode_prompt(prompt).astype("int64")).expand(batch, -1)
        else:
            task = StarGraph(arms, path_length, len(tokenizer.symbols) - 3)
            lines = range(turn * batch, (turn + 1) * batch)
            yield torch.from_numpy(task.draw("test", 0, lines)[0].astype("int64"))


def write(
    model: NextConceptModel, tokens: Tensor, count: int, temperature: float, draft: str | None, figures: DraftFigures
) -> tuple[float, Tensor]:
    """Continue prompts, and return the seconds per token behind the first one, and the tokens."""
    sampling, generator = Sampling(temperature), make_generator(0, tokens.device)
    writing = generate_tokens(model, tokens, count, sampling, generator, draft=draft, figures=figures)
    written = [next(writing)]
    started = time.process_time()
    written.extend(writing)
    return (time.process_time() - started) / (count - 1) / len(tokens), torch.stack(written, 1)


class FixedLength(DraftLength):
    """Always drafts ``length`` tokens."""

    length = 0

    def best(self, rows: int) -> int:
        """Return the length."""
        return self.length


@torch.no_grad()
def costs(width: int, depth: int, batches: tuple[int, ...], chunks: int = 10) -> None:
    """Print the time of a pass at which a chunk begins, and of the next one, by drafted tokens."""
    config = ModelConfig(vocab_size=256, levels=2, width=width, depth=depth, num_heads=8, context_length=256)
    model = NextConceptModel(config).eval()
    print("| texts | drafted | ms, where a chunk begins | ms, inside a chunk |")
    print("|---|---|---|---|")
    for batch in batches:
        for drafted in range(config.chunk_size):
            generator = DraftingGenerator(model, batch, config.context_length)
            generator.length = FixedLength(config)
            generator.length.length = drafted
            ids, lengths = torch.randint(256, (batch, config.context_length)), torch.full((batch,), 64)
            times: list[list[float]] = [[] for _ in range(config.chunk_size)]
            for _ in range(chunks * config.chunk_size):
                started = time.process_time()
                generator.passes(ids, torch.zeros_like(lengths), lengths, torch.full((batch,), 100))
                times[int(lengths[0]) % config.chunk_size].append((time.process_time() - started) * 1e3)
                lengths = lengths + 1
            begins, inside = (statistics.median(one[1:]) for one in times[:2])  # the first reads the prompt
            print(f"| {batch} | {drafted} | {begins:.2f} | {inside:.2f} |", flush=True)


def main(
    ckpt_path: str | None = None,
    prompt: str = "\n",
    arms: int | None = None,
    path_length: int = 5,
    tokens: int = 400,
    turns: int = 5,
    batches: tuple[int, ...] = (1, 32),
    temperatures: tuple[float, ...] = (0.0, 0.8),
    width: int = 512,
    depth: int = 6,
) -> None:
    """Print a table.

    Args:
        ckpt_path: a run with two levels or more; none for an untrained model.
        prompt: the text to continue.
        arms: of star graphs whose questions are the prompts instead.
        path_length: of the star graphs, whose answers are as long.
        tokens: tokens to write of a text.
        turns: measurements of each way of writing.
        batches: how many texts are written at once.
        temperatures: of the sampling.
        width: width of the untrained model's concepts; tokens have half of it.
        depth: blocks of each of its levels.
    """
    torch.set_num_threads(1)
    if ckpt_path is None:
        costs(width, depth, batches)
        return
    model, tokenizer = load_run(ckpt_path)
    model.eval()
    count = tokens if arms is None else path_length
    print("| texts | temperature | tokens per pass | accepted | ms per token | with drafts | faster | equal |")
    print("|---|---|---|---|---|---|---|---|")
    for batch in batches:
        for temperature in temperatures:
            times: dict[str | None, list[float]] = {None: [], "plan": []}
            figures, equal, total = {None: DraftFigures(), "plan": DraftFigures()}, 0, 0
            for drawn in prompts(tokenizer, prompt, arms, path_length, batch, turns):
                texts = []
                for draft in times:
                    seconds, text = write(model, drawn, count, temperature, draft, figures[draft])
                    times[draft].append(seconds)
                    texts.append(text)
                equal, total = equal + int((texts[0] == texts[1]).all(1).sum()), total + batch
            plain, drafted = (statistics.median(times[draft]) * 1e3 for draft in (None, "plan"))
            found = figures["plan"]
            cells = [f"{found.tokens_per_pass:.2f}", f"{found.accepted / max(1, found.drafted):.2f}"]
            cells += [f"{plain:.3f}", f"{drafted:.3f}", f"{plain / drafted:.2f}", f"{equal} of {total}"]
            print(f"| {batch} | {temperature} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
