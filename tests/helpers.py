"""What several tests need: small models, random configurations, two processes."""

import itertools
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

from nextconcept import ModelConfig, NextConceptModel
from nextconcept.cli.main import main
from nextconcept.data.datamodule import ConceptDataModule
from nextconcept.data.text import TextDataModule
from nextconcept.data.token_cache import SplitConfig
from nextconcept.data.tokenizers import ByteTokenizer, SymbolTokenizer
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.tasks.task import Task
from nextconcept.training.losses import LossConfig
from nextconcept.training.module import ConceptModule
from nextconcept.training.optim import OptimizerConfig


def nested_settings(flat: dict[str, object]) -> dict[str, object]:
    """Turn ``{"planner__mode": "rollout"}`` into ``{"planner": {"mode": "rollout"}}``."""
    result: dict[str, object] = {}
    for name, value in flat.items():
        group, _, setting = name.rpartition("__")
        if group:
            result.setdefault(group, {})[setting] = value
        else:
            result[name] = value
    return result


def small_config(**changes: object) -> ModelConfig:
    """A model of a few thousand parameters that reads plan and memory.

    Settings of a group are named as in ``planner__mode``.
    """
    small = {"vocab_size": 64, "width": 32, "depth": 2, "num_heads": 4, "horizon": 3, "reader__memory": "states"}
    return ModelConfig(**nested_settings(small | changes))


def open_model(config: ModelConfig, encoder: type[ConceptEncoder] = ConceptEncoder) -> NextConceptModel:
    """A model in eval mode in which nothing is zero that is at first, so that plans matter."""
    torch.manual_seed(1)
    model = NextConceptModel(config, encoder).eval()
    for name, parameter in model.named_parameters():
        if ".gates." in name:
            torch.nn.init.normal_(parameter)
        elif name.endswith(("shift.weight", "end.weight")):
            torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    return model


class Doubling(ConceptEncoder):
    """Composes twice of everything."""

    def forward(self, tokens: torch.Tensor) -> dict[int, torch.Tensor]:
        return {level: 2 * concepts for level, concepts in super().forward(tokens).items()}


RULES: list[list] = [
    ["words"],
    ["words", 3],
    ["words", "sentences"],
    [4, "sentences"],
    [{"ends": " eto", "max_length": 5, "mean_length": 3}, 2, {"ends": ".\n"}],
]
"""Chunking of models with two to four levels."""

RULE_TEXT = b"the quick brown fox. jumps over!  the lazy\n\ndog and 123 more words to read here ok"


def rule_grid() -> list[dict]:
    """Configurations whose chunks are cut by rules, with every way of making and reading a plan."""
    draw, draw_more, draw_last = (random.Random(seed) for seed in (2, 3, 5))
    ways = itertools.product(
        ("cross", "prefix", "unbind"), ("none", "concepts", "states", "anchor"), ("parallel", "rollout"), RULES
    )
    grid: list[dict] = [
        {
            "levels": len(rules) + 1,
            "chunking": rules,
            "sharing": draw.choice(["nested", "shared", "separate"]),
            "vocab_size": 256,
            "width": 32,
            "num_heads": 8,
            "depth": 1,
            "context_length": 96,
            "horizon": draw.choice([1, 2]),
            "sliding_window": draw.choice([None, 5]),
            "encoder__depth": draw.choice([0, 1]),
            "encoder__composition": draw.choice(["sum", "mean", "max", "mlp->sum->norm"]),
            "encoder__position_binding": draw.choice([True, True, False]),
            "reader__plan_conditioning": conditioning,
            "reader__memory": memory,
            "planner__mode": mode,
            "planner__shift": draw.choice([True, False]),
            "planner__end_state": draw.choice([True, False]),
        }
        for conditioning, memory, mode, rules in ways
    ]
    for index, options in enumerate(grid):
        options["encoder__flat"] = draw_more.random() < 0.3
        if draw_more.random() < 0.3 and not options["encoder__flat"]:
            options["encoder__composition"] = draw_more.choice(["linear", "mlp", "norm->linear->mlp"])
        readable = options["encoder__composition"] in ("sum", "mean") and options["encoder__position_binding"]
        # A search at level 2 takes a search at level 1 for each element of the longest chunk.
        if options["planner__mode"] == "rollout" and readable and options["chunking"][0] == "words":
            options["planner__matching"] = {"top_k": 3, "beam": 2} if options["levels"] == 2 else None
        options["planner__draft_width"] = 8 * (readable and index % 2)
        options["reader__pointers"] = draw_last.choice([0, 0, 2, 40])
    short = [{"ends": " ", "max_length": 3, "mean_length": 2}, {"ends": ".\n", "max_length": 3, "mean_length": 2}]
    deep = {"chunking": short, "levels": 3, "planner__matching": {"top_k": 3, "beam": 2}, "horizon": 2}
    first = next(one for one in grid if one["planner__mode"] == "rollout")
    grid.append(
        first | deep | {"encoder__composition": "mean", "encoder__flat": False} | {"encoder__position_binding": True}
    )
    return grid


def option_grid() -> list[dict]:
    """Configurations that between them combine any two options, for 1 to 4 levels."""
    draw, draw_more, draw_last = (random.Random(seed) for seed in (0, 1, 4))
    structure = list(
        itertools.product(
            (2, 3, 4), ("nested", "shared", "separate"), ("parallel", "rollout"), ("cross", "prefix", "unbind")
        )
    )
    choices = {
        "reader__memory": ["none", "concepts", "states", "anchor"],
        "sliding_window": [None, 3, 8, [5, None, 2, 1], [[2], [4], None, [3]]],
        "encoder__composition": ["sum", "mean", "max", "linear", "mlp", "mlp->sum->mlp->norm", "norm->linear->mean"],
        "encoder__position_binding": [True, False],
        "encoder__depth": [0, 0, 1],
        "chunk_size": [2, 3],
        "horizon": [1, 3, "full"],
        "block__norm": ["rms", "layer", "cosine"],
        "block__norm_affine": [True, False],
        "block__post_norm": [False, True],
        "planner__plan_head": ["linear", "mlp"],
        "planner__noise_width": [0, 4],
        "planner__detach": [False, True],
        "nested__slicing": ["heads", "head_size"],
        "block__feed_forward": ["swiglu", "gelu"],
        "tie_embeddings": [True, False],
        "encoder__chunk_alignment": ["start", "end"],
        "planner__matching": [None, {"top_k": 3, "beam": 2}],
    }
    more = {
        "block__num_kv_heads": [None, 1, 2],
        "block__head_size": [None, None, 16],
        "block__feed_forward_bias": [False, True],
        "encoder__flat": [False, True],
        "reader__rotated": [True, False],
        "reader__order": ["after", "before"],
        "norm_embeddings": [False, True],
        "scale_inputs": [False, True],
        "planner__shift": [False, True],
        "planner__end_state": [False, True],
    }
    gated = {"block__feed_forward": "geglu", "planner__plan_head": "geglu"}
    grid: list[dict] = [
        {"levels": 1},
        {"levels": 1, "block__num_kv_heads": 2, "block__head_size": 6, "block__feed_forward_bias": True} | gated,
        {"levels": 1, "sliding_window": 3},
        {"levels": 1, "depth": 3, "sliding_window": [[2, 5, None]]},
        {"levels": 1, "block__norm": "layer", "block__post_norm": True},
    ]
    for levels, sharing, mode, entry in structure:
        for _ in range(6):
            options = {name: draw.choice(values) for name, values in choices.items()}
            if isinstance(options["sliding_window"], list):
                windows = options["sliding_window"][:levels]
                if isinstance(windows[0], list) and options["encoder__depth"]:
                    windows[0] = [3, *windows[0]]
                options["sliding_window"] = windows
            if mode == "parallel" or not {"sum", "mean", "norm"} >= set(options["encoder__composition"].split("->")):
                options["planner__matching"] = None
            options |= {name: draw_more.choice(values) for name, values in more.items()}
            if not {"sum", "mean", "max"} & set(options["encoder__composition"].split("->")):
                options["encoder__flat"] = False
            if draw_more.random() < 0.3:
                options |= gated
                options["encoder__composition"] = options["encoder__composition"].replace("mlp->sum", "geglu->sum")
            grid.append(
                options
                | {
                    "levels": levels,
                    "sharing": sharing,
                    "planner__mode": mode,
                    "reader__plan_conditioning": entry,
                    "depth": 1,
                    "reader__pointers": draw_last.choice([0, 0, 2, 40]),
                }
                | {
                    "width": 64 if sharing == "nested" else 24,
                    "context_length": 2 * options["chunk_size"] ** (levels - 1),
                }
            )
    own = {"width": [16, 48], "depth": [1, 3], "num_heads": [2, 3]}
    grid.append(
        {"levels": 2, "sharing": "separate", **own, "reader__plan_conditioning": "prefix", "planner__mode": "rollout"}
    )
    grid.append(
        {
            "levels": 2,
            "sharing": "separate",
            **own,
            "num_loops": [2, 3],
            "sliding_window": [[3, 5], [2, None, 1]],
            "encoder__depth": 1,
        }
    )
    for sharing, mode, entry in itertools.product(
        ("nested", "shared"), ("parallel", "rollout"), ("cross", "prefix", "unbind")
    ):
        grid.append(
            {
                "levels": 3,
                "sharing": sharing,
                "planner__mode": mode,
                "reader__plan_conditioning": entry,
                "num_loops": [2, 1, 3],
                "chunk_size": 2,
            }
        )
        ungated = {"reader__gated": False, "reader__order": draw_more.choice(["after", "before"])}
        ungated["reader__pointers"] = draw_last.choice([0, 2])
        more = {
            "reader__memory": draw_more.choice(["none", "states", "anchor"]),
            "block__post_norm": draw_more.random() < 0.5,
        }
        grid.append(grid[-1] | ungated | more | {"reader__rotated": False, "block__num_kv_heads": 1, "num_loops": 1})
    return grid


GRID = option_grid()


def data_of(corpus: Path, **options: object) -> ConceptDataModule:
    split = SplitConfig("contiguous", 0.1, 0.1)
    options = {"context_length": 32, "batch_size": 4} | options
    return TextDataModule(str(corpus), split=split, seed=0, **options)


def module_of(**changes: object) -> ConceptModule:
    torch.manual_seed(0)
    config = small_config(vocab_size=256, context_length=32, horizon=2, **changes)
    return ConceptModule(config, LossConfig(), OptimizerConfig(lr=3e-3, warmup_steps=2))


def trainer_of(folder: Path, steps: int, **options: object) -> L.Trainer:
    defaults = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "accelerator": "cpu",
        "num_sanity_val_steps": 0,
    }
    return L.Trainer(default_root_dir=folder, max_steps=steps, **(defaults | options))


def weights_after(trainer: L.Trainer, module: ConceptModule, data: ConceptDataModule, path: Path | None = None) -> dict:
    trainer.fit(module, data, ckpt_path=path, weights_only=True)
    return {name: value.clone() for name, value in module.state_dict().items()}


class Reverse(Task):
    """Write four letters backwards: a task as a user would write one."""

    prompt_length, answer_length = 5, 4
    tokenizer = SymbolTokenizer([*"abcdef", "="], separator="=")

    def num_lines(self, split: str) -> int | None:
        return None if split == "train" else 30

    def draw(self, split: str, seed: int, indices: list[int]) -> tuple[np.ndarray, np.ndarray]:
        key = {"train": 3 * seed, "val": 1, "test": 2}[split]
        letters = np.array([np.random.default_rng([key, index]).integers(6, size=4) for index in indices])
        return np.pad(letters, ((0, 0), (0, 1)), constant_values=6), letters[:, ::-1]


class StopAt(L.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step == self.step:
            trainer.should_stop = True


def write_sums(path: Path) -> Path:
    """Write lines of a task: sums of two numbers."""
    path.write_text("".join(f"{a}+{b}={a + b}\n" for a in range(20) for b in range(20)))
    return path


def fails(capsys: pytest.CaptureFixture, *args: str) -> str:
    """Run a command that must exit with code 2 and one sentence, and return the sentence."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    assert stopped.value.code == 2
    printed = capsys.readouterr().err
    lines = [line for line in printed.splitlines() if line.startswith("nextconcept: error: ")]
    assert len(lines) == 1, printed
    assert "Traceback" not in printed
    return lines[0]


def run_record(entry: str, seed: int, loss: float, **final: float) -> dict:
    """The record of a finished run of a comparison."""
    finals = {"val/loss/tokens": loss, "val/loss/tokens_shuffled": loss + 0.5} | final
    return {
        "entry": entry,
        "learning_rate": 1e-3,
        "seed": seed,
        "key": f"{entry}{seed}",
        "machine": "2 cores",
        "versions": {"torch": "1"},
        "steps": 10,
        "parameters": 2_500_000,
        "flops_per_token": 3e6,
        "stages": [[0, 1e12]],
        "tokens_per_second": 1234.0,
        "final": finals,
        "curves": {"val/loss/tokens": [[4, loss + 1], [9, loss]]},
    }


class FixedData(ConceptDataModule):
    """Serves the given windows of bytes as every split."""

    def __init__(self, windows: object) -> None:
        super().__init__(context_length=64)
        self.windows = windows

    vocab_size = property(lambda self: 256)
    tokenizer = property(lambda self: ByteTokenizer())

    def training_windows(self, seed: int) -> object:
        return self.windows

    def held_out_windows(self, split: str) -> object:
        return self.windows

    def describe(self) -> dict[str, object]:
        return {"dataset": "fixed"}


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file can be larger than ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
