"""Command ``nextconcept app``: a page on this machine that shows plans and follows changes."""

from nextconcept.checkpoints.files import find_model
from nextconcept.cli.parsers import run_function
from nextconcept.inference.read_back import check_readable
from nextconcept.inference.text import Writer
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.tasks.records import task_of
from nextconcept.tasks.task import Task

__all__ = ["app", "run"]


def run(arguments: list[str]) -> None:
    """Run the command."""
    run_function(app, arguments)


def app(
    ckpt_path: str,
    port: int = 7860,
    encoder: type[ConceptEncoder] = ConceptEncoder,
    task: type[Task] | None = None,
) -> None:
    """Serve a page to this machine alone: write, see the plan, change it, and see the text follow.

    Args:
        ckpt_path: a checkpoint, the folder of a run, a folder of runs (the newest counts), an
            exported model, star-graph, which is packaged, or OWNER/NAME of an export on the Hugging
            Face Hub.
        port: where the page is served; 0 takes a free port.
        encoder: full name of the concept encoder's class, if the model was trained with one of
            your own.
        task: full name of the task's class, if the model was trained on one of your own whose
            answers are to be drawn.

    Raises:
        InputError: if Gradio is not installed, the checkpoint can't be used or has no plan that can
            be put into words, or the port is taken.
    """
    # Pictures load matplotlib, which --help does not need.
    from nextconcept.app.drawings import Drawings
    from nextconcept.app.page import HOST, bind, make_page, serve
    from nextconcept.app.session import PlanSession

    stored = find_model(ckpt_path)
    writer = Writer(*stored.load(encoder))
    check_readable(writer.model)
    known, example = task_of(stored, writer.tokenizer, task), ""
    if known is not None:
        prompts, _ = known.draw("val", 0, [0])
        example = writer.tokenizer.decode(prompts[0].tolist())
    session = PlanSession(writer, None if known is None else Drawings(known, writer.tokenizer))
    config = writer.model.config
    title = f"# What the model plans\n`{ckpt_path}`: {config.levels} levels"
    page = make_page(session, title, example)
    with bind(port) as bound:
        print(f"http://{HOST}:{bound.getsockname()[1]} shows the page; Ctrl+C ends it.", flush=True)
        serve(page, bound)
