"""Speed and memory of training: experiments and nested models against GPTs of equal FLOPs.

    python benchmarks/training.py [--rows '[two_levels, tunes/bars, nested_512]'] [--compile true]
    [--device cuda --precision bf16]

The two models of a row take turns, because machines are noisy, and their medians are compared. The
GPT has the depth of the row's level 0, its token encoder included, and its sliding windows, and the
width at which the training FLOPs per token, those of the losses included, agree best. On a GPU the
table also has MFU, the share of ``--peak_tflops`` that the counted FLOPs make up. All models read
the predictor's states besides the plan, which is the most expensive memory, unless an experiment
says otherwise.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from nextconcept import ModelConfig, NextConceptModel
from nextconcept.cli.scripts import check_device, run_script
from nextconcept.training.losses import LossConfig, compute_losses, training_flops_per_token
from nextconcept.training.optim import OptimizerConfig, make_optimizer

EXPERIMENTS = Path(__file__).parents[1] / "experiments"

ROWS = ["shakespeare", "two_levels", "three_levels", "text/thin_top", "tunes/bars", "nested_256", "nested_512"]


def row_of(name: str, context: int) -> tuple[ModelConfig, LossConfig]:
    """Return an experiment by its name, or ``nested_WIDTH``."""
    if name.startswith("nested_"):
        model: dict[str, Any] = {"config": {"levels": 3, "width": int(name[7:]), "depth": 4, "num_heads": 8}}
    else:
        model = yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text())["model"]
    config = {"reader": {"memory": "states"}} | model["config"] | {"context_length": context}
    return ModelConfig(**config), LossConfig(**model.get("loss", {}))


def training_flops(config: ModelConfig, loss: LossConfig, context: int) -> float:
    """Return the FLOPs of training, per token."""
    with torch.device("meta"):
        model = NextConceptModel(config)
    return training_flops_per_token(loss, model, context)


def equal_gpt(config: ModelConfig, loss: LossConfig, context: int) -> ModelConfig:
    """Return the GPT whose training FLOPs per token are closest."""
    wanted = training_flops(config, loss, context)
    common = {
        "levels": 1,
        "sharing": "separate",
        "depth": config.token_encoder_depth + config.depths[0],
        "num_heads": 4,
        "sliding_window": [config.block_windows(0)],
    }
    common |= {name: getattr(config, name) for name in ("vocab_size", "block")}
    candidates = [
        ModelConfig(width=width, context_length=context, **common) for width in range(32, 2 * max(config.widths), 8)
    ]
    return min(candidates, key=lambda one: abs(training_flops(one, loss, context) - wanted))


def passes_of(
    config: ModelConfig, loss: LossConfig, batch: Tensor, compiled: bool, precision: str
) -> tuple[Callable[[], None], Callable[[], None], NextConceptModel]:
    """Return functions that make the passes and the optimizer's step, and their model."""
    model = NextConceptModel(config).to(batch.device)
    optimizer, mask = make_optimizer(OptimizerConfig(), model), torch.ones_like(batch, dtype=torch.bool)
    if compiled:
        model.compile()

    def passes() -> None:
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=precision == "bf16"):
            losses = compute_losses(loss, model, model(batch[:, :-1]), batch, mask)
        losses.total.backward()
        if batch.is_cuda:
            torch.cuda.synchronize()

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad()
        if batch.is_cuda:
            torch.cuda.synchronize()

    return passes, update, model


def memory(step: Callable[[], None], model: NextConceptModel, device: str) -> float:
    """Return the GiB of a step: measured on a GPU, otherwise weights, moments and saved tensors."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() / 2**30
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    weights = sum(parameter.numel() for parameter in model.parameters())
    return (16 * weights + sum(saved.values())) / 2**30


def main(
    rows: list[str] | None = None,
    context: int = 256,
    batch_size: int = 16,
    steps: int = 6,
    compile: bool = False,
    device: str = "cpu",
    precision: str = "fp32",
    peak_tflops: float = 989.0,
) -> None:
    """Print the table.

    Args:
        rows: experiments by name, or ``nested_WIDTH`` for three levels.
        context: tokens.
        batch_size: windows.
        steps: timed steps of each.
        compile: compile both models.
        device: ``cpu`` or ``cuda``.
        precision: ``fp32`` or ``bf16`` (autocast).
        peak_tflops: of the GPU, for MFU; 989 is an H100's or H200's in bfloat16 without sparsity.
    """
    check_device(device)
    torch.manual_seed(0)
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(
        f"{where}, torch {torch.__version__}, {precision}, "
        f"{'compiled' if compile else 'eager'}, {batch_size} x {context} tokens\n"
    )
    extra = " MFU |" if device == "cuda" else ""
    print(
        f"| | parameters | training MFLOPs per token | tokens/s | GPT: width | tokens/s "
        f"| ratio at equal FLOPs | of the passes | GiB | GPT: GiB |{extra}"
    )
    print("|---" * (10 + bool(extra)) + "|")
    for name in rows or ROWS:
        torch.compiler.reset()  # or earlier models count against the limit of recompilations
        config, loss = row_of(name, context)
        contenders = [(config, loss), (equal_gpt(config, loss, context), loss)]
        batch = torch.randint(config.vocab_size, (batch_size, context + 1), device=device)
        made = [passes_of(*one, batch, compile, precision) for one in contenders]
        times: list[list[tuple[float, float]]] = [[], []]
        for turn in range(steps + 2):
            for index, (passes, update, _) in enumerate(made):
                started = time.perf_counter()
                passes()
                between = time.perf_counter()
                update()
                if turn >= 2:
                    times[index].append((between - started, time.perf_counter() - started))
        rates, step_rates = (
            [batch_size * context / statistics.median(value[part] for value in values) for values in times]
            for part in (0, 1)
        )
        flops = [training_flops(*one, context) for one in contenders]
        ratios = [both[0] * flops[0] / (both[1] * flops[1]) for both in (step_rates, rates)]
        used = [f"{memory(passes, model, device):.2f}" for passes, _, model in made]
        size = sum(parameter.numel() for parameter in made[0][2].parameters()) / 1e6
        cells = [name, f"{size:.2f} M", f"{flops[0] / 1e6:.2f}", f"{step_rates[0]:.0f}", str(contenders[1][0].width)]
        cells += [f"{step_rates[1]:.0f}", *(f"{ratio:.2f}" for ratio in ratios), *used]
        if extra:
            cells.append(f"{flops[0] * step_rates[0] / (peak_tflops * 1e12):.1%}")
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    run_script(main)
