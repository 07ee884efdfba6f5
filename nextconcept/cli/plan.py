"""``nextconcept plan``."""

from json import dumps

import torch

from nextconcept.checkpoints.files import load_run
from nextconcept.cli.parsers import run_function
from nextconcept.cli.prompts import read_prompt
from nextconcept.core.errors import InputError
from nextconcept.inference.generate import generate
from nextconcept.inference.plans import PlanStep, compare_plan, first_visible, parse_edit, plans_at_end
from nextconcept.inference.text import batch_prompts
from nextconcept.nn.concept_encoder import ConceptEncoder

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
    encoder: type[ConceptEncoder] = ConceptEncoder,
) -> None:
    """Print what the model plans after a prompt, and what it then writes.

    Args:
        ckpt_path: a checkpoint, the folder of a run, a folder of runs (the newest counts), or an
            exported model.
        prompt: the text to continue.
        prompt_file: a file with the text to continue; - reads standard input.
        edit: LEVEL:STEP=TEXT: replace this planned concept by the composition of TEXT and continue
            from the edited plan; may be given several times.
        max_new_tokens: tokens to write; by default as many as the longest plan is about.
        temperature: of the sampling; 0 takes the likeliest token.
        seed: of the sampling.
        json: print one JSON object instead of tables.
        encoder: full name of the concept encoder's class, if the model was trained with one of
            your own.

    Raises:
        InputError: if the checkpoint, the prompt, an edit or an option can't be used.
    """
    text = read_prompt(prompt, prompt_file)
    model, tokenizer = load_run(ckpt_path, encoder)
    if model.config.levels == 1:
        raise InputError(f"the model in {ckpt_path} has tokens alone, and no plan: train one with more levels.")
    edits = [parse_edit(model, tokenizer, one) for one in edit or []]
    (tokens,), _ = batch_prompts(tokenizer, [text])
    hierarchy = model.config.hierarchy
    if max_new_tokens is None:
        max_new_tokens = max(
            model.config.horizon_of(level) * hierarchy.span(level) for level in hierarchy.concept_levels
        )
    start = first_visible(model, len(tokens))
    generator = torch.Generator().manual_seed(seed)
    whole = generate(model, tokens[None], max_new_tokens, temperature, generator=generator, edits=edits)[0]
    plans = plans_at_end(model, tokens[start:])
    steps = compare_plan(model, tokenizer, whole[start:], len(tokens) - start, plans, edits)
    written = tokenizer.decode(whole[len(tokens) :].tolist())
    (_print_json if json else _print_tables)(text, written, steps)


def _print_json(prompt: str, written: str, steps: list[PlanStep]) -> None:
    print(dumps({"prompt": prompt, "written": written, "plan": [step.to_dict() for step in steps]}, indent=1))


def _quoted(text: str | None) -> str:
    return "-" if text is None else dumps(text, ensure_ascii=False)


def _print_tables(prompt: str, written: str, steps: list[PlanStep]) -> None:
    print(f"prompt   {_quoted(prompt)}\nwritten  {_quoted(written)}")
    for level in dict.fromkeys(step.level for step in steps):
        rows = [step for step in steps if step.level == level]
        cells = [("step", "planned", "written", "cosine", "")]
        for row in rows:
            cosine = "-" if row.cosine is None else f"{row.cosine:.2f}"
            marks = ["edited"] * row.edited + ["differs"] * (row.written not in (None, row.planned))
            cells.append((str(row.step), _quoted(row.planned), _quoted(row.written), cosine, ", ".join(marks)))
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        print(f"\nlevel {level}")
        for line in cells:
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        parted = next((row.step for row in rows if row.written not in (None, row.planned)), None)
        print("plan and text agree" if parted is None else f"plan and text part at step {parted}")
