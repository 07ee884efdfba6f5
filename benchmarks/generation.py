"""Speed of generation with and without the cache, early and late in a text, and against GPTs.

    python benchmarks/generation.py [--width 1024] [--depth 6] [--context 8192] [--tokens 48]

The GPTs take as many FLOPs per token. Models are untrained, because the time does not depend on the
text. Models take turns, because machines are noisy; medians are printed. The lower level reads a
memory of the predictor's states besides the plan, the most expensive option.
"""

import statistics
import time
from collections.abc import Callable

import torch

from nextconcept import ModelConfig, NextConceptModel
from nextconcept.cli.scripts import check_device, run_script
from nextconcept.core.config_groups import ReaderConfig
from nextconcept.inference.generate import generate_tokens
from nextconcept.inference.sampling import Sampling

Clock = Callable[[], float]


def writing(
    model: NextConceptModel, batch: int, position: int, tokens: int, turns: int, use_cache: bool = True
) -> Clock:
    """Read a prompt of ``position`` tokens, and return a clock.

    Each call of the clock generates ``tokens`` more and returns the mean time of one.
    """
    device = next(model.parameters()).device
    prompt = torch.randint(256, (batch, position), device=device)
    writer = generate_tokens(model, prompt, turns * tokens + 1, Sampling(0.0), use_cache=use_cache)
    next(writer)

    def clock() -> float:
        started = time.perf_counter()
        for _ in range(tokens):
            next(writer)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - started) / tokens

    return clock


def in_turns(contenders: dict[str, Clock], turns: int) -> dict[str, float]:
    """Return the median of each contender's times."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, measure in contenders.items():
            times[name].append(measure())
    return {name: statistics.median(values) for name, values in times.items()}


def equal_flops(wanted: float, context: int, candidates: list[ModelConfig]) -> NextConceptModel:
    """Return a model of the candidate whose FLOPs per token are nearest to ``wanted``."""

    def distance(config: ModelConfig) -> float:
        with torch.device("meta"):
            return abs(NextConceptModel(config).flops_per_token(context) - wanted)

    return NextConceptModel(min(candidates, key=distance)).eval()


def main(
    width: int = 1024,
    depth: int = 6,
    heads: int = 8,
    context: int = 8192,
    window: int = 256,
    tokens: int = 48,
    turns: int = 5,
    device: str = "cpu",
) -> None:
    """Print three tables.

    Args:
        width: width of the concepts; tokens have half of it.
        depth: blocks per level.
        heads: heads of the concept level.
        context: greatest number of tokens that the models see.
        window: sliding window of all levels, in the second table.
        tokens: tokens generated per measurement.
        turns: measurements of each contender.
        device: ``cpu`` or ``cuda``.
    """
    check_device(device)
    torch.manual_seed(0)
    torch.set_default_device(device)
    common = {"width": width, "depth": depth, "num_heads": heads, "context_length": context}
    common |= {"levels": 2, "reader": ReaderConfig(memory="states")}
    model = NextConceptModel(ModelConfig(**common)).eval()
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{where}, torch {torch.__version__}")
    print(f"2 levels, widths {model.config.widths}, depth {depth}")

    few = max(2, turns // 2)
    clocks = {
        "cached": writing(model, 1, 1000, 24 // few, few),
        "uncached": writing(model, 1, 1000, 2, few, use_cache=False),
    }
    medians = in_turns(clocks, few)
    print(f"\nat position 1000 to 1024, batch 1: {medians['cached'] * 1e3:.2f} ms per token cached,")
    print(f"{medians['uncached'] * 1e3:.0f} ms uncached: {medians['uncached'] / medians['cached']:.0f} times faster")

    windowed = NextConceptModel(ModelConfig(sliding_window=window, **common)).eval()
    medians = in_turns({str(start): writing(windowed, 1, start, tokens, turns) for start in (512, 4096)}, turns)
    print(f"\nwith sliding windows of {window}: {medians['512'] * 1e3:.2f} ms per token at 512,")
    print(f"{medians['4096'] * 1e3:.2f} at 4096, ratio {medians['4096'] / medians['512']:.2f}")

    measured = 1024
    flops, token_width = model.flops_per_token(measured), model.config.widths[0]
    gpt = {"levels": 1, "num_heads": heads // 2, "context_length": context}
    step = 2 * gpt["num_heads"]
    wider = [ModelConfig(width=w // step * step, depth=depth, **gpt) for w in range(token_width, width + 1, step)]
    deeper = [ModelConfig(width=token_width, depth=d, **gpt) for d in range(depth, 4 * depth)]
    contenders = {"2 levels": model} | {
        "GPT, wider": equal_flops(flops, measured, wider),
        "GPT, deeper": equal_flops(flops, measured, deeper),
    }
    print(f"\n| tokens per second, position {measured} | width | depth | MFLOPs per token | batch 1 | batch 32 |")
    print("|---|---|---|---|---|---|")
    rates = {}
    for batch in (1, 32):
        each = tokens if batch == 1 else tokens // 4
        medians = in_turns(
            {name: writing(one, batch, measured, each, turns) for name, one in contenders.items()}, turns
        )
        rates[batch] = {name: batch / median for name, median in medians.items()}
    for name, one in contenders.items():
        cells = [f"{rates[batch][name]:.0f} ({rates[batch]['2 levels'] / rates[batch][name]:.2f})" for batch in (1, 32)]
        mflops = one.flops_per_token(measured) / 1e6
        print(f"| {name} | {one.config.widths[0]} | {one.config.depths[0]} | {mflops:.1f} | {' | '.join(cells)} |")
    print("\nIn brackets: the speed of the 2-level model over that of the row.")


if __name__ == "__main__":
    run_script(main)
