"""Training losses that a change of the code must not change.

    python tests/golden.py            compare 30 steps of every run with golden.json
    python tests/golden.py --record   write golden.json anew

Losses are compared in float32 on one thread. They depend on the version of torch and on the
processor, so that another machine may differ in the last bits.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nextconcept.cli.main import main

FILE = Path(__file__).with_name("golden.json")
STEPS = 30
ROLLOUT = {"planner.mode": "rollout", "horizon": 2, "planner.matching": "{top_k: 4, beam: 4}"}


def earlier_preset(level_weight: str, **changes: str | int) -> dict[str, str | int]:
    """Settings that the presets v11_2 and v11_3 had when their losses were recorded."""
    config = {
        "levels": 3,
        "depth": 3,
        "num_heads": 4,
        "context_length": 128,
        "dropout": 0.0,
        "norm_embeddings": "false",
        "scale_inputs": "false",
        "reader": "{plan_conditioning: cross, memory: none, gated: true, rotated: true, order: after}",
    }
    training = {
        "model.loss.level_weight": level_weight,
        "model.loss.horizon": "null",
        "model.optimizer.lr": "1.0e-3",
        "model.optimizer.weight_decay": 0.1,
        "model.optimizer.betas": "[0.9, 0.95]",
        "model.optimizer.warmup_steps": 100,
        "model.optimizer.decay": "cosine",
        "model.optimizer.min_lr_ratio": 0.1,
        "data.batch_size": 8,
        "trainer.gradient_clip_val": 1.0,
    }
    block = "feed_forward: gelu, feed_forward_ratio: 4.0, feed_forward_bias: false"
    heads = "num_kv_heads: null, head_size: null, rope_base: 10000.0"
    norm = changes.pop("norm")
    return config | training | changes | {"block": f"{{{norm}, {block}, {heads}}}"}


V11_2 = earlier_preset(
    "[0.5, 0.25]",
    norm="norm: cosine, norm_affine: true, post_norm: true",
    width=256,
    horizon="full",
    planner="{mode: rollout, plan_head: linear, matching: null}",
    encoder="{composition: sum, flat: false, position_binding: false, chunk_alignment: start}",
)
V11_3 = earlier_preset(
    "[0.3, 0.3]",
    norm="norm: layer, norm_affine: true, post_norm: false",
    width=128,
    horizon=4,
    planner="{mode: rollout, plan_head: mlp}",
    encoder="{composition: mlp->sum->mlp->norm, flat: false, position_binding: false, chunk_alignment: start}",
)
WIDE_STAR_GRAPH: dict[str, str | int] = {
    "width": 128,
    "depth": "[2, 4]",
    "num_loops": "[1, 1]",
    "num_heads": 4,
    "sliding_window": "null",
}
"""The model with which the losses of the star graph were recorded."""

RUNS: dict[str, tuple[str, dict[str, str | int]]] = {
    "shakespeare": ("shakespeare", {}),
    "two_levels": ("two_levels", {}),
    "three_levels": ("three_levels", {}),
    "v11_2": ("v11_2", V11_2),
    "v11_3": ("v11_3", V11_3),
    "star_graph": ("star_graph/two_levels", WIDE_STAR_GRAPH),
    "rollout_with_matching": ("two_levels", ROLLOUT),
    "memory_of_states": ("two_levels", {"reader.memory": "states"}),
}
"""Name of each run, its experiment, and what is changed in its model or its training."""


def losses(name: str, steps: int) -> dict[str, list[float]]:
    """Losses of the first optimizer steps of a run, all parts of them."""
    experiment, changes = RUNS[name]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "trainer.max_steps": steps,
            "trainer.val_check_interval": steps + 1,
            "trainer.log_every_n_steps": 1,
            "trainer.accelerator": "cpu",
            "trainer.enable_progress_bar": "false",
            "trainer.logger.init_args.save_dir": folder,
            **{
                key if key.startswith(("model.", "data.", "trainer.")) else f"model.config.{key}": value
                for key, value in changes.items()
            },
        }
        settings = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        main(["fit", "--config", experiment, *settings])
        (events,) = Path(folder).glob("*/version_0")
        board = EventAccumulator(str(events)).Reload()
        tags = [tag for tag in board.Tags()["scalars"] if tag.startswith("train/loss")]
        return {tag: [event.value for event in board.Scalars(tag)] for tag in tags}


if __name__ == "__main__":
    found = {name: losses(name, STEPS) for name in RUNS}
    if "--record" in sys.argv:
        FILE.write_text(json.dumps({"torch": torch.__version__, "runs": found}, indent=1) + "\n")
        sys.exit()
    kept = json.loads(FILE.read_text())["runs"]
    worst = 0.0
    for name, parts in kept.items():
        pairs = [pair for tag in parts for pair in zip(parts[tag], found[name][tag], strict=True)]
        # Relative, because neighbouring float32 numbers near a loss of 12 are 1e-6 apart.
        off = max(abs(a - b) / max(1.0, abs(a)) for a, b in pairs)
        print(f"{name:<24}{'equal' if off == 0 else f'differs by {off:.2g} of its value'}")
        worst = max(worst, off)
    sys.exit(int(worst > 1e-6))
