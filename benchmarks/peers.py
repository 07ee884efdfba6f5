"""Our GPT beside Hugging Face's GPT-2 and nanoGPT's model of the same shape: training and writing.

    pip install nextconcept[bench]
    python benchmarks/peers.py [--nanogpt PATH] [--steps 20] [--tokens 64]

A peer that is not installed is left out; ``--nanogpt`` names a checkout of nanoGPT. All train with
fused AdamW on the same batch, and those that have a cache write greedily with it. Models
take turns, because machines are noisy; figures are medians.
"""

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextconcept import ModelConfig, NextConceptModel, generate
from nextconcept.cli.scripts import run_script

SHAPES = ((4, 128, 4, 64, 12), (6, 256, 8, 256, 8))
"""Depth, width, heads, context and batch size: nanoGPT's recipe for CPUs, and a larger model."""

VOCABULARY = 256

Peer = tuple[nn.Module, Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, int], Any] | None]
"""A model, its loss for (batch, time) ids and targets, and its continuation of ids by a number."""


def peers(depth: int, width: int, heads: int, context: int, nanogpt: str | None) -> dict[str, Peer]:
    """Return our GPT and those that are installed."""
    ours = NextConceptModel(
        ModelConfig(levels=1, vocab_size=VOCABULARY, depth=depth, width=width, num_heads=heads, context_length=context)
    )
    found: dict[str, Peer] = {
        "nextconcept": (
            ours,
            lambda tokens, targets: _loss(ours(tokens).logits, targets),
            lambda tokens, count: generate(ours, tokens, count, temperature=0.0),
        )
    }
    if importlib.util.find_spec("transformers"):
        found["GPT-2 (transformers)"] = _hugging_face(depth, width, heads, context)
    if nanogpt:
        found["nanoGPT"] = _nanogpt(Path(nanogpt), depth, width, heads, context)
    return found


def _hugging_face(depth: int, width: int, heads: int, context: int) -> Peer:
    from transformers import GPT2Config, GPT2LMHeadModel

    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    shape = {"vocab_size": VOCABULARY, "n_positions": context, "n_embd": width, "n_layer": depth, "n_head": heads}
    ends = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(**shape, **dropout, **ends))

    def write(tokens: Tensor, count: int) -> Any:
        seen = torch.ones_like(tokens)
        return model.generate(tokens, attention_mask=seen, max_new_tokens=count, do_sample=False, use_cache=True)

    return model, lambda tokens, targets: _loss(model(tokens, use_cache=False).logits, targets), write


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def _nanogpt(folder: Path, depth: int, width: int, heads: int, context: int) -> Peer:
    spec = importlib.util.spec_from_file_location("nanogpt_model", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["nanogpt_model"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shape = {"vocab_size": VOCABULARY, "block_size": context, "n_embd": width, "n_layer": depth, "n_head": heads}
    model = module.GPT(module.GPTConfig(**shape, dropout=0.0, bias=False))
    # It writes without a cache, so that it is left out there.
    return model, lambda tokens, targets: model(tokens, targets)[1], None


def training_step(peer: Peer, batch: Tensor) -> Callable[[], None]:
    """Return a function that makes a step on a (batch, time + 1) batch."""
    model, loss, _ = peer
    tokens, targets = batch[:, :-1].contiguous(), batch[:, 1:].contiguous()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        loss(tokens, targets).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def in_turns(contenders: dict[str, Callable[[], Any]], turns: int) -> dict[str, float]:
    """Return the median time of each contender in seconds, without its first turn."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns + 1):
        for name, act in contenders.items():
            started = time.perf_counter()
            act()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def show(title: str, medians: dict[str, float], unit: Callable[[float], str]) -> None:
    """Print a row for each contender."""
    for name, seconds in medians.items():
        print(f"| {title} | {name} | {unit(seconds)} | {medians['nextconcept'] / seconds:.2f} |", flush=True)


def main(nanogpt: str | None = None, steps: int = 20, tokens: int = 64, turns: int = 5) -> None:
    """Print two tables.

    Args:
        nanogpt: folder of a checkout of nanoGPT.
        steps: training steps of each model.
        tokens: tokens that each model writes per turn.
        turns: turns of writing.
    """
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} CPU threads, torch {torch.__version__}, fp32, eager\n")
    print("| training | | ms per step | our time over its |\n|---|---|---|---|")
    for depth, width, heads, context, size in SHAPES:
        batch = torch.randint(VOCABULARY, (size, context + 1))
        found = peers(depth, width, heads, context, nanogpt)
        contenders = {name: training_step(peer, batch) for name, peer in found.items()}
        title = f"{depth} x {width}, {size} windows of {context}"
        show(title, in_turns(contenders, steps), lambda seconds: f"{1e3 * seconds:.1f}")
    depth, width, heads, context, _ = SHAPES[-1]
    found = peers(depth, width, heads, context, None)
    print("\n| writing | | tokens per second | our time over its |\n|---|---|---|---|")
    for size in (1, 32):
        prompt = torch.randint(VOCABULARY, (size, context // 2))
        with torch.no_grad():
            writers = {name: _writer(peer, prompt, tokens) for name, peer in found.items()}
            medians = in_turns(writers, turns)
        show(f"{depth} x {width}, batch {size}", medians, lambda seconds: f"{size * tokens / seconds:.0f}")  # noqa: B023


def _writer(peer: Peer, prompt: Tensor, tokens: int) -> Callable[[], Any]:
    model, _, write = peer
    model.eval()
    assert write is not None
    return lambda: write(prompt, tokens)


if __name__ == "__main__":
    run_script(main)
