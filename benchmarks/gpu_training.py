"""Speed, MFU and memory of training on a GPU: a GPT beside two and three levels.

    python benchmarks/gpu_training.py --width 1024 --contexts '[2048, 8192]' [--compile true]

The hierarchies are the GPT with its blocks divided between the token encoder and the decoder, and
thinner levels above. MFU is the share of ``--peak_tflops`` that the counted training FLOPs make up,
in the time of the forward and backward pass. The time of the optimizer's step depends on the
parameters alone, and weighs less the more tokens a step has.
"""

import statistics
import time
from typing import Any

import torch
from training import memory, passes_of

from nextconcept import ModelConfig
from nextconcept.cli.scripts import check_device, run_script
from nextconcept.training.losses import LossConfig

LOSS = LossConfig(terms={"cosine": 1.0}, level_weight=0.1)


def configs_of(width: int, depth: int, context: int, window: int | None) -> dict[str, ModelConfig]:
    """Return a GPT of ``depth`` blocks, and hierarchies with as many blocks over tokens."""
    common: dict[str, Any] = {
        "sharing": "separate",
        "width": width,
        "num_heads": width // 64,
        "context_length": context,
    }
    below = depth // 2
    encoder = {"depth": depth - below, "position_binding": False}

    def windows(levels: int) -> list[int | None]:
        return [window] + [None] * (levels - 1)

    return {
        "GPT": ModelConfig(levels=1, depth=depth, sliding_window=window, **common),
        "2 levels": ModelConfig(
            levels=2, chunk_size=8, depth=[below, depth // 2], encoder=encoder, sliding_window=windows(2), **common
        ),
        "3 levels": ModelConfig(
            levels=3,
            chunk_size=4,
            depth=[below, depth // 2, depth // 2],
            encoder=encoder,
            sliding_window=windows(3),
            **common,
        ),
    }


def main(
    width: int = 1024,
    depth: int = 12,
    contexts: tuple[int, ...] = (2048,),
    window: int | None = None,
    tokens: int = 65536,
    steps: int = 8,
    compile: bool = False,
    device: str = "cuda",
    precision: str = "bf16",
    peak_tflops: float = 989.0,
) -> None:
    """Print the table.

    Args:
        width: of all levels; heads have 64 features.
        depth: blocks over tokens.
        contexts: tokens of a window, one part of the table each.
        window: sliding window of the tokens.
        tokens: of a batch, at least one window.
        steps: timed steps of each model, after three that are not.
        compile: compile the models.
        device: ``cuda`` or ``cpu``.
        precision: ``bf16`` (autocast) or ``fp32``.
        peak_tflops: of the GPU, for MFU; 989 is an H100's or H200's in bfloat16 without sparsity.
    """
    check_device(device)
    torch.manual_seed(0)
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    mode = "compiled" if compile else "eager"
    print(f"{where}, torch {torch.__version__}, {precision}, {mode}, {tokens} tokens a step, sliding window {window}\n")
    print(
        "| context | | parameters | MFLOPs per token | passes, ms | optimizer, ms | tokens/s "
        "| MFU of the passes | of the GPT's | GiB | first step, s |"
    )
    print("|---" * 11 + "|")
    for context in contexts:
        reference = None
        for name, config in configs_of(width, depth, context, window).items():
            torch.compiler.reset()  # or earlier models count against the limit of recompilations
            rows = max(1, tokens // context)
            batch = torch.randint(config.vocab_size, (rows, context + 1), device=device)
            passes, update, model = passes_of(config, LOSS, batch, compile, precision)
            times: list[list[float]] = [[], []]
            for _ in range(steps + 3):
                for part, run in zip(times, (passes, update), strict=True):
                    started = time.perf_counter()
                    run()
                    part.append(time.perf_counter() - started)
            seconds, updating = (statistics.median(part[3:]) for part in times)
            flops = model.flops_per_token(context)
            used = 3 * flops * rows * context / seconds / (peak_tflops * 1e12)
            reference = reference or used
            size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
            cells = [
                str(context),
                name,
                f"{size:.1f} M",
                f"{flops / 1e6:.1f}",
                f"{seconds * 1e3:.1f}",
                f"{updating * 1e3:.1f}",
            ]
            cells += [f"{rows * context / (seconds + updating):.0f}", f"{used:.1%}", f"{used / reference:.2f}"]
            cells += [f"{memory(passes, model, device):.1f}", f"{times[0][0]:.0f}"]
            print(f"| {' | '.join(cells)} |", flush=True)
            del passes, update, model


if __name__ == "__main__":
    run_script(main)
