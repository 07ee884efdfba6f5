"""A sample of generated text at each validation."""

import lightning as L
import torch

from nextconcept.core.errors import InputError
from nextconcept.data.datamodule import ConceptDataModule
from nextconcept.inference.generate import generate
from nextconcept.inference.sampling import Sampling, check_seed, make_generator
from nextconcept.training.access import data_of, module_of
from nextconcept.training.callbacks.media import media_of

__all__ = ["WritingSamples"]


class WritingSamples(L.Callback):
    """Continues a prompt after each validation, and shows the text as ``sample``.

    TensorBoard, W&B and MLflow show the text; for other loggers it becomes a file in the folder
    ``samples`` of the run. Without a :class:`~nextconcept.ConceptDataModule` nothing is shown.

    Args:
        prompt: the text to continue; by default the beginning of the validation split, up to its
            first token that is to be learnt.
        max_new_tokens: number of tokens to generate.
        temperature: of the sampling.
        seed: of the sampling, equal at each validation.

    Raises:
        InputError: if a setting is out of range; when training starts, if the prompt can't be
            encoded.
    """

    def __init__(
        self, prompt: str | None = None, max_new_tokens: int = 200, temperature: float = 0.8, seed: int = 0
    ) -> None:
        if prompt == "":
            raise InputError("the prompt of the writing samples is empty: give at least one character as prompt.")
        if max_new_tokens < 0:
            raise InputError(f"max_new_tokens of the writing samples must be 0 or more, not {max_new_tokens}.")
        Sampling(temperature)
        check_seed(seed)
        self.prompt, self.max_new_tokens, self.temperature, self.seed = prompt, max_new_tokens, temperature, seed

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Encode the prompt once, so that one that can't be encoded stops the run at its start."""
        data = data_of(trainer)
        if stage == "fit" and data is not None and self.prompt is not None and self.max_new_tokens:
            self._prompt(data)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Generate on the first process."""
        data, media = data_of(trainer), media_of(trainer)
        if trainer.sanity_checking or not media or not self.max_new_tokens or data is None:
            return
        if not module_of(pl_module).objective.writes_alone:
            return
        tokenizer = data.tokenizer
        ids = self._prompt(data).to(pl_module.device)
        generator = make_generator(self.seed, pl_module.device)
        written = generate(module_of(pl_module).model, ids, self.max_new_tokens, self.temperature, generator=generator)
        text = tokenizer.decode(written[0].tolist())
        for one in media:
            one.text("sample", text, trainer.global_step)

    def _prompt(self, data: ConceptDataModule) -> torch.Tensor:
        if self.prompt is not None:
            try:
                return torch.from_numpy(data.tokenizer.encode_prompt(self.prompt).astype("int64"))[None]
            except InputError as error:
                raise InputError(f"the prompt of the writing samples, --sample.prompt: {error}") from None
        tokens, mask = data.held_out_windows("val")[0][:2]
        return tokens[:, : max(1, int(mask[0].int().argmax()))]
