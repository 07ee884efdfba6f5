"""Time of a training step: three nested levels against a GPT of equal counted FLOPs.

    python benchmarks/training_step.py [--width 1024] [--context 256] [--batch_size 16] [--steps 6]

The two take turns, because machines are noisy; medians are compared. The GPT's width is chosen so that
``flops_per_token`` agrees.
"""

import statistics
import time

import torch
from jsonargparse import auto_cli

from nextconcept import ModelConfig, NextConceptModel
from nextconcept.losses import LossConfig, compute_losses
from nextconcept.optim import OptimizerConfig, make_optimizer


def step_of(model: NextConceptModel, batch_size: int, context: int):
    """Return a function that makes one training step."""
    optimizer, config = make_optimizer(OptimizerConfig(), model), LossConfig()
    tokens = torch.randint(256, (batch_size, context + 1))
    mask = torch.ones_like(tokens, dtype=torch.bool)

    def step() -> None:
        losses = compute_losses(config, model, model(tokens[:, :-1]), tokens, mask)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()

    return step


def main(width: int = 1024, depth: int = 4, context: int = 256, batch_size: int = 16, steps: int = 6) -> None:
    """Print both times and their ratio.

    Args:
        width: of the top level; tokens have a quarter of it.
        depth: blocks per level, and of the GPT.
        context: tokens.
        batch_size: windows.
        steps: timed steps of each.
    """
    torch.manual_seed(0)
    nested = NextConceptModel(ModelConfig(levels=3, width=width, depth=depth, heads=8, context=context))
    wanted = nested.flops_per_token(context)
    gpts = (
        NextConceptModel(ModelConfig(levels=1, width=w, depth=depth, heads=4, context=context))
        for w in range(32, width, 8)
    )
    gpt = min(gpts, key=lambda model: abs(model.flops_per_token(context) - wanted))
    contenders = {"3 levels, nested": nested, f"GPT, width {gpt.config.width}": gpt}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    made = {name: step_of(model, batch_size, context) for name, model in contenders.items()}
    for turn in range(steps + 2):
        for name, step in made.items():
            started = time.perf_counter()
            step()
            if turn >= 2:
                times[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, model in contenders.items():
        flops = model.flops_per_token(context)
        print(f"{name}: {medians[name] * 1e3:.0f} ms per step, {flops / 1e6:.3f} MFLOPs per token forward")
    first, second = medians.values()
    per_flop = (first / wanted) / (second / gpt.flops_per_token(context))
    print(f"ratio at equal FLOPs: {per_flop:.2f} ({torch.get_num_threads()} threads, torch {torch.__version__})")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
