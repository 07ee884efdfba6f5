"""A sample of generated text at each validation."""

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from nextconcept.data.datamodule import ConceptDataModule
from nextconcept.inference.generate import generate
from nextconcept.training.access import data_of, module_of

__all__ = ["WritingSamples"]


class WritingSamples(L.Callback):
    """Continues a prompt after each validation, shown in TensorBoard's tab "Text" as ``sample``.

    Without a :class:`~nextconcept.ConceptDataModule` nothing is shown.

    Args:
        prompt: the text to continue; by default the beginning of the validation split, up to its
            first token that is to be learnt.
        max_new_tokens: number of tokens to generate.
        temperature: of the sampling.
        seed: of the sampling, equal at each validation.
    """

    def __init__(
        self, prompt: str | None = None, max_new_tokens: int = 200, temperature: float = 0.8, seed: int = 0
    ) -> None:
        self.prompt, self.max_new_tokens, self.temperature, self.seed = prompt, max_new_tokens, temperature, seed

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Generate on the first process."""
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if trainer.sanity_checking or not trainer.is_global_zero or not boards or not self.max_new_tokens:
            return
        data = data_of(trainer)
        if data is None:
            return
        tokenizer = data.tokenizer
        ids = self._prompt(data).to(pl_module.device)
        generator = torch.Generator(pl_module.device).manual_seed(self.seed)
        written = generate(module_of(pl_module).model, ids, self.max_new_tokens, self.temperature, generator=generator)
        text = tokenizer.decode(written[0].tolist())
        for board in boards:
            # Four spaces make a code block, which keeps line breaks.
            board.experiment.add_text("sample", "    " + text.replace("\n", "\n    "), trainer.global_step)

    def _prompt(self, data: ConceptDataModule) -> torch.Tensor:
        if self.prompt is not None:
            return torch.from_numpy(data.tokenizer.encode_prompt(self.prompt).astype("int64"))[None]
        tokens, mask = data.val_dataloader().dataset[0]
        return tokens[:, : max(1, int(mask[0].int().argmax()))]
