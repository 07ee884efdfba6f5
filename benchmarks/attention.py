"""Speed of attention in a sliding window, both ways, against full attention and its ideal.

    python benchmarks/attention.py [--device cuda --precision bf16]

``blocks`` is the kernel of CPUs, which the kernel of GPUs is checked against too. The ideal is the
time of the counted products, ``14 T W d`` FLOPs a head (2 products forward, 5 backward, 2 FLOPs
each), at the speed of a matrix product of 2048 on the same machine.
"""

import statistics
import time
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nextconcept.cli.scripts import check_device, run_script
from nextconcept.nn.attention_kernels import block_attention, causal_attention

Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]


def seconds(run: Callable[[], object], turns: int, device: str) -> float:
    """Return the median time of a call after two warm-up calls."""
    times = []
    for _ in range(turns + 2):
        started = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:])


def both_ways(kernel: Kernel, parts: list[Tensor]) -> Callable[[], None]:
    """Return a forward and backward pass through the kernel."""

    def run() -> None:
        mixed = kernel(*parts)
        torch.autograd.grad(mixed, parts, torch.ones_like(mixed))

    return run


def main(
    lengths: tuple[int, ...] = (2048, 8192),
    windows: tuple[int, ...] = (32, 128, 256),
    heads: int = 8,
    head_size: int = 64,
    tokens: int = 8192,
    turns: int = 5,
    device: str = "cpu",
    precision: Literal["fp32", "bf16"] = "fp32",
) -> None:
    """Print the table.

    Args:
        lengths: T.
        windows: W.
        heads: of a sequence.
        head_size: d.
        tokens: of a batch.
        turns: timed passes of each.
        device: ``cpu`` or ``cuda``.
        precision: ``fp32`` or ``bf16``.
    """
    check_device(device)
    torch.manual_seed(0)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    square = torch.randn(2048, 2048, device=device, dtype=dtype)
    rate = 2 * 2048**3 / seconds(lambda: square @ square, 4 * turns, device)
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{where}, torch {torch.__version__}, {precision}, products at {rate / 1e9:.0f} GFLOP/s\n")
    print("| T | W | full attention, ms | blocks, ms | sliding window, ms | of its ideal | differs by |")
    print("|---" * 7 + "|")
    for length in lengths:
        shape = (max(1, tokens // length), heads, length, head_size)
        parts = [torch.randn(shape, device=device, dtype=dtype, requires_grad=True) for _ in range(3)]

        def full(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(query, key, value, is_causal=True)

        whole = seconds(both_ways(full, parts), turns, device)
        for window in windows:

            def blocks(query: Tensor, key: Tensor, value: Tensor, window: int = window) -> Tensor:
                return block_attention(query, key, value, window)

            def near(query: Tensor, key: Tensor, value: Tensor, window: int = window) -> Tensor:
                return causal_attention(query, key, value, window)

            plain, ours = (seconds(both_ways(kernel, parts), turns, device) for kernel in (blocks, near))
            with torch.no_grad():
                differs = (near(*parts) - blocks(*parts)).abs().max().item()
            ideal = 14 * length * window * head_size * heads * shape[0] / rate
            cells = [str(length), str(window), f"{whole * 1e3:.2f}", f"{plain * 1e3:.2f}", f"{ours * 1e3:.2f}"]
            cells += [f"{ours / ideal:.1f}", f"{differs:.0e}"]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    run_script(main)
