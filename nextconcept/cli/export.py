"""Command ``nextconcept export``: a run as safetensors with a model card."""

from nextconcept.checkpoints.complete_files import complete
from nextconcept.checkpoints.files import StoredRun, find_checkpoint
from nextconcept.checkpoints.hub import save_pretrained
from nextconcept.cli.outputs import new_folder
from nextconcept.cli.parsers import run_function
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.tasks.records import task_record

__all__ = ["export", "run"]


def run(arguments: list[str]) -> None:
    """Run the command."""
    run_function(export, arguments)


def export(ckpt_path: str, output: str, encoder: type[ConceptEncoder] = ConceptEncoder) -> None:
    """Write a trained model as safetensors, with its configuration, tokenizer, task and model card.

    Args:
        ckpt_path: a checkpoint, the folder of a run, or a folder of runs (the newest counts).
        output: a new folder.
        encoder: full name of the concept encoder's class, if the model was trained with one of
            your own.

    Raises:
        InputError: if there is no checkpoint, or ``output`` exists or can't be written.
    """
    folder = new_folder(output)
    run = StoredRun(find_checkpoint(ckpt_path))
    model, tokenizer = run.load(encoder)
    task = task_record(run)
    with complete(folder) as partial:
        save_pretrained(model, tokenizer, partial, run.record(), task)
    files = ["model.safetensors", "config.json", "tokenizer.json", *(["task.json"] if task else [])]
    print(f"wrote {', '.join(files)} and README.md, a model card, to {output}")
