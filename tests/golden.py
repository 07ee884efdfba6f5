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
RUNS: dict[str, tuple[str, dict[str, str | int]]] = {
    "shakespeare": ("shakespeare", {}),
    "two_levels": ("two_levels", {}),
    "three_levels": ("three_levels", {}),
    "v11_2": ("v11_2", {}),
    "v11_3": ("v11_3", {}),
    "star_graph": ("star_graph/two_levels_d2_l5", {}),
    "rollout_with_matching": ("two_levels", ROLLOUT),
    "memory_of_states": ("two_levels", {"reader.memory": "states"}),
}
"""Name of each run, its experiment, and what is changed in its model."""


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
            **{f"model.config.{key}": value for key, value in changes.items()},
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
        off = max(abs(a - b) for tag in parts for a, b in zip(parts[tag], found[name][tag], strict=True))
        print(f"{name:<24}{'equal' if off == 0 else f'differs by {off:.2g}'}")
        worst = max(worst, off)
    sys.exit(int(worst > 1e-6))
