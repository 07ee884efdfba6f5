"""Kills training runs at random and compares them with an uninterrupted run.

    python tests/soak.py [--kills 200] [--seed 0]

Each attempt is ``nextconcept fit --ckpt_path last`` in a process of its own, killed with SIGKILL
after a random time, while it writes a checkpoint, or while it encodes the corpus. A run that
reaches its end is compared bit for bit (weights, moments, position in the data, curves), and the
next one begins. Prints the number of kills and of runs compared.
"""

import logging
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from jsonargparse import auto_cli
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nextconcept.checkpoints.atomic import AtomicCheckpointIO
from nextconcept.cli.main import main as nextconcept
from nextconcept.data.tokenizers import ByteTokenizer
from nextconcept.training.callbacks import LastCheckpoint

STEPS = 40


def arguments(name: str) -> list[str]:
    """A run of a few seconds that validates and saves often."""
    values = {
        "model.config": "{levels: 3, chunk_size: 2, width: 32, depth: 1, num_heads: 2, horizon: 2, "
        "context_length: 32, dropout: 0.1}",
        "model.optimizer.warmup_steps": 5,
        "data.dataset": "corpus.txt",
        "data.batch_size": 2,
        "data.eval_batch_size": 8,
        "data.split": "{by: contiguous, val: 0.1, test: 0.1}",
        "data.cache_dir": f"cache_{name}",
        "sample.max_new_tokens": 0,
        "plan_view.windows": 0,
        "last.every_n_train_steps": 3,
        "trainer.accelerator": "cpu",
        "trainer.max_steps": STEPS,
        "trainer.log_every_n_steps": 1,
        "trainer.val_check_interval": 10,
        "trainer.limit_val_batches": 1,
        "trainer.check_val_every_n_epoch": "null",
        "trainer.num_sanity_val_steps": 0,
        "trainer.logger": "lightning.pytorch.loggers.TensorBoardLogger",
        "trainer.logger.save_dir": "logs",
        "trainer.logger.name": name,
        "trainer.logger.default_hp_metric": "false",
        "ckpt_path": "last",
    }
    return ["fit", *(part for key, value in values.items() for part in (f"--{key}", str(value)))]


def attempt(name: str, kind: str, moment: float) -> bool:
    """Run until the end or until killed; return whether the run reached its end.

    Args:
        name: of the run.
        kind: ``time``, ``checkpoint``, ``encoding``, or ``never``.
        moment: seconds, or which write or call of the encoder is the last.
    """
    child = os.fork()
    if child == 0:
        _run(name, kind, int(moment))
    deadline = time.monotonic() + (moment if kind == "time" else 300)
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status) != 0:
                raise SystemExit(f"a run failed by itself:\n{Path(f'{name}.log').read_text()[-3000:]}")
            return not os.WIFSIGNALED(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def _run(name: str, kind: str, count: int) -> None:
    """Train in the child process, and die at the given moment."""
    output = os.open(f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    torch.set_num_threads(1)
    left = [count]

    def dying(function: object) -> object:
        def counted(*args: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args)

        return counted

    if kind == "checkpoint":
        # Before the partial file is complete, before it is renamed, and at the start of a step.
        functions = {0: (os, "fsync"), 1: (AtomicCheckpointIO, "commit"), 2: (LastCheckpoint, "on_train_batch_start")}
        owner, called = functions[count % 3]
        setattr(owner, called, dying(getattr(owner, called)))
    if kind == "encoding":
        ByteTokenizer.encode = dying(ByteTokenizer.encode)
    code = 1
    try:
        nextconcept(arguments(name))
        code = 0
    finally:
        sys.stdout.flush()
        os._exit(code)


def outcome(name: str) -> tuple[dict, dict[str, list[tuple[int, float]]]]:
    """Return the last checkpoint of a run, and its curves without those of speed."""
    newest = max(Path("logs", name).glob("version_*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
    checkpoint = torch.load(newest, weights_only=True)
    events = EventAccumulator(str(newest.parents[1]), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if "per_second" not in tag]
    curves = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}
    return {key: checkpoint[key] for key in ("state_dict", "optimizer_states", "lr_schedulers", "loops")}, curves


def differences(first: object, second: object, place: str = "") -> list[str]:
    """Return where two nested structures differ in any bit."""
    if isinstance(first, torch.Tensor):
        return [] if torch.equal(first, second) else [place]
    if isinstance(first, dict) and isinstance(second, dict):
        if first.keys() != second.keys():
            return [f"{place}: {sorted(map(str, first.keys() ^ second.keys()))}"]
        return [one for key in first for one in differences(first[key], second[key], f"{place}/{key}")]
    if isinstance(first, list) and len(first) == len(second):
        pairs = enumerate(zip(first, second, strict=True))
        return [one for index, (a, b) in pairs for one in differences(a, b, f"{place}/{index}")]
    return [] if first == second else [f"{place}: {first} and {second}"]


def compare(name: str) -> None:
    """Compare a run with the uninterrupted one."""
    for whole, part, what in zip(outcome("whole"), outcome(name), ("checkpoint", "curves"), strict=True):
        # Each process counts validation batches from 0; nothing depends on the count.
        found = [place for place in differences(whole, part) if "val_loop" not in place]
        if found:
            raise SystemExit(f"{name}: the {what} differs: {found[:5]}")


def main(kills: int = 200, seed: int = 0) -> None:
    """Kill and compare.

    Args:
        kills: how many runs are killed.
        seed: of the moments.
    """
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it reports resumed curves
        text = "".join(f"Line {i}: the quick brown fox jumps over the lazy dog.\n" for i in range(110))
        Path("corpus.txt").write_text(text)
        began = time.monotonic()
        attempt("whole", "never", 0)
        length = time.monotonic() - began
        killed, run, compared = Counter(), 0, 0
        while sum(killed.values()) < kills:
            kind = draw.choice(("time", "time", "checkpoint", "encoding"))
            moment = draw.uniform(0, length) if kind == "time" else draw.randrange(8 if kind == "checkpoint" else 3)
            if attempt(f"run_{run}", kind, moment):
                compare(f"run_{run}")
                run, compared = run + 1, compared + 1
            else:
                killed[kind] += 1
        attempt(f"run_{run}", "never", 0)
        compare(f"run_{run}")
        print(f"{sum(killed.values())} kills ({dict(killed)}), {compared + 1} runs compared, all equal", flush=True)
        os.chdir("/")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
