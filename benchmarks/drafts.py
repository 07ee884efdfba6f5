"""Speed of generation with and without drafts, of trained models.

    python benchmarks/drafts.py --ckpt_path RUN --prompt "ROMEO:" [--tokens 400] [--draft text]
    python benchmarks/drafts.py --ckpt_path RUN --dataset python --prompt_tokens 600
    python benchmarks/drafts.py --ckpt_path RUN --arms 2 --path_length 5 [--gpt GPT]
    python benchmarks/drafts.py --width 512 --depth 6

Without a run, prints what a token of an untrained model takes if so many drafts are right in each
pass. Otherwise prints tokens per pass and the time per token after the first one, on one thread,
for one text and for 32, and the speed of a run of a GPT beside it. The ways of writing take turns,
and medians are printed, of the ratios of neighbouring turns too. Time on a CPU is that of the
process, so that a machine that does other work too gives the same figures; with ``--device cuda``
it is that of the clock.
"""

import statistics
import time
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from nextconcept import ModelConfig, NextConceptModel
from nextconcept.checkpoints.files import load_run
from nextconcept.cli.scripts import check_device, run_script
from nextconcept.data.text import TextDataModule
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.data.windows import ContiguousWindows
from nextconcept.inference.draft_acceptance import DraftFigures
from nextconcept.inference.draft_length import DraftLength
from nextconcept.inference.drafts import DraftingGenerator
from nextconcept.inference.generate import generate_tokens
from nextconcept.inference.sampling import Draws, Sampling, make_generator
from nextconcept.tasks import StarGraph


def held_out(dataset: str, tokenizer: Tokenizer, length: int) -> ContiguousWindows:
    """Return the windows of the validation text of a dataset, as a model's tokenizer reads it."""
    data = TextDataModule(dataset, levels=1, context_length=length)
    data.use_tokenizer(tokenizer)
    data.prepare_data()
    data.setup()
    return data.held_out_windows("val")


def prompts(
    tokenizer: Tokenizer,
    prompt: str,
    arms: int | None,
    path_length: int,
    batch: int,
    turns: int,
    windows: ContiguousWindows | None = None,
) -> Iterator[Tensor]:
    """Yield a batch of prompts per turn: (batch, T) token ids."""
    for turn in range(turns):
        if windows is not None:
            # Spread over the text, and other ones in each turn.
            stride = max(1, len(windows) // (batch * turns))
            yield windows.__getitems__([(turn + row * turns) * stride % len(windows) for row in range(batch)]).tokens
        elif arms is None:
            yield torch.from_numpy(tokenizer.encode_prompt(prompt).astype("int64")).expand(batch, -1)
        else:
            task = StarGraph(arms, path_length, len(tokenizer.symbols) - 3)
            lines = range(turn * batch, (turn + 1) * batch)
            yield torch.from_numpy(task.draw("test", 0, lines)[0].astype("int64"))


def seconds(device: torch.device) -> float:
    """Return the seconds of the process on a CPU, of the clock on a GPU that has done its work."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def write(
    model: NextConceptModel, tokens: Tensor, count: int, temperature: float, draft: str | None, figures: DraftFigures
) -> tuple[float, Tensor]:
    """Continue prompts, and return the seconds per token after the first one, and the tokens."""
    sampling, generator = Sampling(temperature), make_generator(0, tokens.device)
    writing = generate_tokens(model, tokens, count, sampling, generator, draft=draft, figures=figures)
    written = [next(writing)]
    started = seconds(tokens.device)
    written.extend(writing)
    return (seconds(tokens.device) - started) / (count - 1) / len(tokens), torch.stack(written, 1)


class FixedLength(DraftLength):
    """Always drafts ``length`` tokens."""

    length = 0

    def best(self, rows: int, place: int = 0) -> int:
        """Return the length."""
        return self.length


@torch.no_grad()
def costs(config: ModelConfig, batches: tuple[int, ...], plans: int = 5) -> None:
    """Print the time per token if all drafts are right, by their number in a pass."""
    model = NextConceptModel(config).eval()
    planned = config.chunk_size * config.horizon_of(1)
    print("| texts | drafted | ms per token | times as fast |")
    print("|---|---|---|---|")
    for batch in batches:
        plain = 0.0
        for drafted in (count for count in (0, 1, 3, 7, 11, 15) if count < planned):
            draws = Draws(Sampling(0.0), None, torch.zeros(batch, dtype=torch.long))
            generator = DraftingGenerator(model, batch, config.context_length, draws)
            generator.length = FixedLength(config)
            generator.length.length = drafted
            ids, lengths = torch.randint(config.vocab_size, (batch, config.context_length)), torch.full((batch,), 64)
            times, written = [], 0
            for _ in range(1 + plans * planned // (drafted + 1)):
                started = time.process_time()
                one = generator.passes(ids, torch.zeros_like(lengths), lengths, torch.full((batch,), 100))[0]
                times.append(time.process_time() - started)
                lengths, written = lengths + one.width, written + one.width
            each = (
                statistics.mean(times[1:]) / (written - 1) * (len(times) - 1) / batch * 1e3
            )  # the first is the prompt
            plain = plain or each
            print(f"| {batch} | {drafted} | {each:.3f} | {plain / each:.2f} |", flush=True)


def main(
    ckpt_path: str | None = None,
    draft: Literal["plan", "text"] = "plan",
    prompt: str = "\n",
    dataset: str | None = None,
    prompt_tokens: int = 256,
    arms: int | None = None,
    path_length: int = 5,
    gpt: str | None = None,
    tokens: int = 400,
    turns: int = 5,
    batches: tuple[int, ...] = (1, 32),
    temperatures: tuple[float, ...] = (0.0, 0.8),
    width: int = 512,
    depth: int = 6,
    horizon: int = 4,
    device: str = "cpu",
) -> None:
    """Print a table.

    Args:
        ckpt_path: a run with two levels or more; none for an untrained model.
        draft: where drafts come from.
        prompt: the text to continue.
        dataset: text whose validation part is continued instead, at another place in each turn.
        prompt_tokens: tokens of such a prompt.
        arms: of star graphs whose questions are the prompts instead.
        path_length: of the star graphs, whose answers are as long.
        gpt: a run of a GPT for the same prompts, such as one of equal FLOPs.
        tokens: tokens to write of a text.
        turns: measurements of each way of writing.
        batches: how many texts are written at once.
        temperatures: of the sampling.
        width: width of the untrained model's concepts; tokens have half of it.
        depth: blocks of each of its levels.
        horizon: chunks of its plan.
        device: ``cpu`` or ``cuda``, of trained models.
    """
    check_device(device)
    torch.set_num_threads(1)
    if ckpt_path is None:
        config = ModelConfig(
            vocab_size=256, levels=2, width=width, depth=depth, num_heads=8, horizon=horizon, context_length=512
        )
        costs(config, batches)
        return
    model, tokenizer = load_run(ckpt_path)
    ways: dict[str, tuple[NextConceptModel, str | None]] = {"plain": (model, None), "drafts": (model, draft)}
    if gpt is not None:
        # A GPT has no plan, but what it has written.
        ways["gpt"] = (load_run(gpt)[0], draft if draft == "text" else None)
    for writer, _ in ways.values():
        writer.eval().to(device)
    count = tokens if arms is None else path_length
    windows = None if dataset is None else held_out(dataset, tokenizer, prompt_tokens)
    titles = "ms per token | with drafts | times as fast | than the GPT | GPT, ms | equal"
    print(f"| texts | temperature | tokens per pass | accepted | {titles} |")
    print("|---" * 10 + "|")
    for batch in batches:
        for temperature in temperatures:
            times: dict[str, list[float]] = {way: [] for way in ways}
            figures, equal, total = {way: DraftFigures() for way in ways}, 0, 0
            for turn, drawn in enumerate(prompts(tokenizer, prompt, arms, path_length, batch, turns + 1, windows)):
                texts = {}
                for way in list(ways)[:: 1 if turn % 2 else -1]:
                    writer, source = ways[way]
                    each, texts[way] = write(writer, drawn.to(device), count, temperature, source, figures[way])
                    if turn:  # the first one warms up
                        times[way].append(each * 1e3)
                equal, total = equal + int((texts["plain"] == texts["drafts"]).all(1).sum()), total + batch

            def faster(way: str, times: dict[str, list[float]] = times) -> str:
                pairs = zip(times[way], times["drafts"], strict=True) if way in times else []
                return f"{statistics.median([slow / fast for slow, fast in pairs]):.2f}" if way in times else ""

            medians = {way: f"{statistics.median(found):.3f}" for way, found in times.items()}
            found = figures["drafts"]
            cells = [f"{found.tokens_per_pass:.2f}", f"{found.accepted / max(1, found.drafted):.2f}"]
            cells += [medians["plain"], medians["drafts"], faster("plain"), faster("gpt"), medians.get("gpt", "")]
            print(f"| {batch} | {temperature} | {' | '.join([*cells, f'{equal} of {total}'])} |", flush=True)


if __name__ == "__main__":
    run_script(main)
