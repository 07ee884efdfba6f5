"""A sample of writing at each validation."""

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from nextconcept.inference.generate import generate
from nextconcept.training.callbacks.parts import data_of, module_of

__all__ = ["WritingSamples"]


class WritingSamples(L.Callback):
    """Continues a prompt after each validation and shows it in TensorBoard's "Text" tab as ``sample``.

    Args:
        prompt: the text to continue; by default the beginning of the validation split, up to what is to be learnt there.
        max_new_tokens: tokens to write; 0 writes none.
        temperature: of the sampling.
        seed: of the sampling, the same at each validation.
    """

    def __init__(
        self, prompt: str | None = None, max_new_tokens: int = 200, temperature: float = 0.8, seed: int = 0
    ) -> None:
        self.prompt, self.max_new_tokens, self.temperature, self.seed = prompt, max_new_tokens, temperature, seed

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write, on one process, with the bare model."""
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if trainer.sanity_checking or not trainer.is_global_zero or not boards or not self.max_new_tokens:
            return
        tokenizer = data_of(trainer).tokenizer
        ids = self._prompt(trainer).to(pl_module.device)
        generator = torch.Generator(pl_module.device).manual_seed(self.seed)
        written = generate(module_of(pl_module).model, ids, self.max_new_tokens, self.temperature, generator=generator)
        text = tokenizer.decode(written[0].tolist())
        for board in boards:
            # Four spaces make a code block, which keeps line breaks.
            board.experiment.add_text("sample", "    " + text.replace("\n", "\n    "), trainer.global_step)

    def _prompt(self, trainer: L.Trainer) -> torch.Tensor:
        if self.prompt is not None:
            return torch.from_numpy(data_of(trainer).tokenizer.encode_prompt(self.prompt).astype("int64"))[None]
        tokens, mask = data_of(trainer).val_dataloader().dataset[0]
        return tokens[:, : max(1, int(mask[0].int().argmax()))]
