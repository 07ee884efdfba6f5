"""What a step of ``nextconcept fit`` takes more than a bare loop of model, loss and optimizer.

    python benchmarks/fit_overhead.py [--steps 200] [--options '[--model.config.width, "256"]']

The bare loop makes a step after each step of the fit, on a model and a batch of the same shape, so
that both see the same machine. The fit has its data, logger, progress bar and callbacks, but no
validation. Times are those of the wall and of the processor, which other programs disturb less.
"""

import statistics
import tempfile
import time
from typing import Any

import lightning as L
import torch

from nextconcept import NextConceptModel
from nextconcept.cli.lightning_cli import ConceptCLI
from nextconcept.cli.scripts import run_script
from nextconcept.training.losses import compute_losses
from nextconcept.training.module import ConceptModule
from nextconcept.training.optim import make_optimizer

WARM_UP = 20
"""Steps that are not counted."""

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


class SideBySide(L.Callback):
    """Makes a bare step after each step of a fit, and notes the times of both.

    Attributes:
        times: per clock, seconds of each step of the fit, and of the bare loop.
    """

    def __init__(self) -> None:
        self.times: dict[str, list[tuple[float, float]]] = {name: [] for name in CLOCKS}
        self._ended: dict[str, float] = {}
        self._bare: Any = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the step that ends here, make a bare one, and note that."""
        now = {name: clock() for name, clock in CLOCKS.items()}
        assert isinstance(pl_module, ConceptModule)
        self._bare = self._bare or bare_step(pl_module, batch.tokens.clone())
        started = {name: clock() for name, clock in CLOCKS.items()}
        self._bare()
        for name, clock in CLOCKS.items():
            if self._ended and trainer.global_step > WARM_UP:
                self.times[name].append((now[name] - self._ended[name], clock() - started[name]))
        self._ended = {name: clock() for name, clock in CLOCKS.items()}


def bare_step(module: ConceptModule, tokens: torch.Tensor) -> Any:
    """Return a function that makes a training step with a model like that of ``module``."""
    model = NextConceptModel(module.config)
    optimizer, mask = make_optimizer(module.optimizer_config, model), torch.ones_like(tokens, dtype=torch.bool)

    def step() -> None:
        compute_losses(module.loss, model, model(tokens[:, :-1]), tokens, mask).total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


class TimedCLI(ConceptCLI):
    """The command line with one more callback, behind all others.

    Attributes:
        timer: the callback.
    """

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Build the trainer, and add the callback."""
        trainer = super().instantiate_trainer(**kwargs)
        self.timer = SideBySide()
        trainer.callbacks.append(self.timer)  # type: ignore[attr-defined]
        return trainer


def main(config: str = "nanogpt_cpu", steps: int = 200, options: list[str] | None = None) -> None:
    """Print the milliseconds of a step.

    Args:
        config: an experiment; its text is Shakespeare's plays.
        steps: steps of each.
        options: more options of ``nextconcept fit``.
    """
    with tempfile.TemporaryDirectory() as folder:
        cli = TimedCLI(
            [
                *("fit", "--config", config, "--data.dataset", "shakespeare", "--trainer.accelerator", "cpu"),
                *("--trainer.max_steps", str(WARM_UP + steps), "--trainer.limit_val_batches", "0"),
                *("--trainer.logger.init_args.save_dir", folder, *(options or [])),
            ]
        )
    print(f"\n{torch.get_num_threads()} CPU threads, torch {torch.__version__}, {config}, ms per step:\n")
    print("| clock | | bare loop | fit | more |\n|---|---|---|---|---|")
    for name, pairs in cli.timer.times.items():
        for kind, middle in (("mean", statistics.mean), ("median", statistics.median)):
            fit, bare = (1e3 * middle(values) for values in zip(*pairs, strict=True))
            print(f"| {name} | {kind} | {bare:.2f} | {fit:.2f} | {fit - bare:.2f} |")


if __name__ == "__main__":
    run_script(main)
