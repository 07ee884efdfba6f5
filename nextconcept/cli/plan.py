"""Command ``nextconcept plan``: what a model plans after a text, beside what it writes."""

import sys
from json import dumps

from nextconcept.checkpoints.complete_files import complete
from nextconcept.checkpoints.files import find_model
from nextconcept.cli.outputs import new_page
from nextconcept.cli.parsers import run_function
from nextconcept.cli.prompts import read_prompt
from nextconcept.core.errors import InputError
from nextconcept.inference.plan_page import plan_page
from nextconcept.inference.text import Writer
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.tasks.records import task_of
from nextconcept.tasks.task import Task

__all__ = ["plan", "run"]


def run(arguments: list[str]) -> None:
    """Run the command."""
    run_function(plan, arguments)


def plan(
    ckpt_path: str,
    prompt: str | None = None,
    prompt_file: str | None = None,
    edit: list[str] | None = None,
    max_new_tokens: int | None = None,
    temperature: float = 0.0,
    seed: int = 0,
    json: bool = False,
    html: str | None = None,
    encoder: type[ConceptEncoder] = ConceptEncoder,
    task: type[Task] | None = None,
) -> None:
    """Print what the model plans after a prompt, and what it then writes.

    Args:
        ckpt_path: a checkpoint, the folder of a run, a folder of runs (the newest counts), an
            exported model, star-graph, which is packaged, or OWNER/NAME of an export on the Hugging
            Face Hub.
        prompt: the text to continue.
        prompt_file: a file with the text to continue; - reads standard input.
        edit: LEVEL:STEP=TEXT: replace this planned concept by the composition of TEXT and continue
            from the edited plan; may be given several times.
        max_new_tokens: tokens to write; by default as many as the longest plan covers.
        temperature: of the sampling; 0 takes the likeliest token.
        seed: of the sampling.
        json: print one JSON object instead of tables.
        html: a file to write as well, such as plan.html: a page with all plans over the text, for
            any browser.
        encoder: full name of the concept encoder's class, if the model was trained with one of
            your own.
        task: full name of the task's class, if the model was trained on one of your own whose
            answers the page is to draw.

    Raises:
        InputError: if the checkpoint, the prompt, an edit or an option can't be used.
    """
    if task is not None and html is None:
        raise InputError("--task is for the drawing on the page: give --html FILE too, or leave --task out.")
    page = None if html is None else new_page(html)
    text = read_prompt(prompt, prompt_file)
    stored = find_model(ckpt_path)
    writer = Writer(*stored.load(encoder))
    report = writer.plan(text, edit, max_new_tokens, temperature, seed)
    known = None if page is None else task_of(stored, writer.tokenizer, task)
    print(dumps(report.to_dict(), indent=1) if json else report)
    if page is not None:
        pictures = ""
        if known is not None:
            # Loads matplotlib, which nothing else here needs.
            from nextconcept.app.drawings import Drawings

            pictures = Drawings(known, writer.tokenizer).html(report)
        content = plan_page(
            report.levels, report.steps, report.prompt, report.written, pictures=pictures, tokens=report.tokens
        )
        with complete(page) as partial:
            partial.write_text(content, encoding="utf-8")
        print(f"wrote {page}", file=sys.stderr)
