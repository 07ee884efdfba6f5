"""Command ``nextconcept grow``: a trained model with a level more."""

from typing import Any, Literal

from nextconcept.checkpoints.complete_files import complete
from nextconcept.checkpoints.files import StoredRun, find_checkpoint
from nextconcept.checkpoints.hub import save_pretrained
from nextconcept.checkpoints.packaged import local_export
from nextconcept.cli.outputs import new_folder
from nextconcept.cli.parsers import run_function
from nextconcept.core.chunking import RuleEntry
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.nn.growth import grow as grow_model
from nextconcept.nn.model import NextConceptModel
from nextconcept.tasks.records import task_record
from nextconcept.training.warm_start import TrainingState

__all__ = ["grow", "run"]


def run(arguments: list[str]) -> None:
    """Run the command."""
    run_function(grow, arguments)


def grow(
    source: str,
    output: str,
    init: Literal["copy", "random", "zeros"] = "copy",
    levels: int = 1,
    rule: RuleEntry | None = None,
    new_level: dict[str, Any] | None = None,
    encoder: type[ConceptEncoder] = ConceptEncoder,
) -> None:
    """Add levels on top of a trained model.

    Training continues with ``nextconcept fit --model.init_from OUTPUT``.

    Args:
        source: a checkpoint, the folder of a run (its last checkpoint), a folder of runs (the
            newest), or an exported model.
        output: a new folder: what ``export`` writes, and for a checkpoint also the optimizer's
            moments and the progress of training.
        init: content of the new blocks of the matrices.
        levels: how many levels to add.
        rule: the chunking rule of each new level, as in ``model.config.chunking``, for a model of
            tokens alone or one whose chunks are cut by rules; default: ``chunk_size`` elements.
        new_level: settings of each new level that differ from the old top level's, such as
            ``--new_level '{depth: 2, sliding_window: null}'``; ``width``, ``depth`` and
            ``num_heads`` may differ with ``sharing: separate``.
        encoder: full name of the concept encoder's class, if the model was trained with one of
            your own.

    Raises:
        InputError: if there is no checkpoint, ``output`` exists or can't be written, or an option
            is out of range.
    """
    folder = new_folder(output)
    stored = local_export(source) or StoredRun(find_checkpoint(source, ("last.ckpt", "best.ckpt")))
    model, tokenizer = stored.load(encoder)
    grown = grow_model(model, init, levels, rule, new_level)
    if grown.chunker is not None:
        grown.chunker.read_as(tokenizer.token_bytes())
    training = None
    if isinstance(stored, StoredRun):
        training = TrainingState.of(stored.checkpoint, model, stored.path).grown(grown)
    record, task = stored.record() | {"measured": {}}, task_record(stored)
    with complete(folder) as partial:
        save_pretrained(grown, tokenizer, partial, record, task)
        if training is not None:
            training.save(partial)
    print(f"grew {_size(model)} to {_size(grown)}; wrote {output}")


def _size(model: NextConceptModel) -> str:
    widths, parameters = model.config.widths, model.num_parameters
    levels = f"1 level of width {widths[0]}" if len(widths) == 1 else f"{len(widths)} levels of widths {widths}"
    return f"{levels} ({parameters / 1e6:.2f} M parameters)"
