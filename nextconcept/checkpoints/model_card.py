"""The card of an exported model: its architecture, its data, its training and its metrics.

A card is Markdown with a YAML head that the Hugging Face Hub reads. Its content comes from the
record that :class:`~nextconcept.training.callbacks.StoreModelMetadata` keeps in each checkpoint.
"""

from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from nextconcept.core.config import ModelConfig
from nextconcept.core.settings import flat

__all__ = ["RECORD", "model_card"]

RECORD = "record"
"""Key of the record in a checkpoint: ``data`` (plain values that describe the data, ``dataset``
among them), ``measured`` (metrics of the last validation), its ``step`` and ``batches``, and
``version``."""

SHOWN = ("val/loss/tokens", "val/bits_per_byte", "val/answer/")
"""Beginnings of the metrics that other models can be compared by."""

TEMPLATE = """---
{{ card_data }}
---

# {{ title }}

A next-concept model of {{ levels }}: {{ parameters }} parameters, {{ config.sharing }} weights.
{%- if config.levels > 1 %}
Chunks of {{ chunks }} are composed into concepts.
Predictors plan the next concepts, and a decoder writes tokens while it reads that plan.
{%- endif %}

```python
import nextconcept
{%- if config.encoder.class_name %}
from YOUR_MODULE import {{ config.encoder.class_name }}
writer = nextconcept.load("FOLDER_OR_REPOSITORY", encoder={{ config.encoder.class_name }})
{%- else %}
writer = nextconcept.load("FOLDER_OR_REPOSITORY")
{%- endif %}
print(writer.write("PROMPT"))
{%- if config.levels > 1 %}
print(writer.plan("PROMPT"))
{%- endif %}
```

```
nextconcept generate --ckpt_path FOLDER --prompt "PROMPT"{{ encoder }}
{%- if config.levels > 1 %}
nextconcept plan --ckpt_path FOLDER --prompt "PROMPT"{{ encoder }}
{%- endif %}
```

## Training

{% for name, value in training.items() -%}
- {{ name }}: {{ value }}
{% endfor %}
## Measured
{% if measured %}
On {{ batches }} batch{{ "" if batches == 1 else "es" }} of the validation split, at step {{ step }}.
`zero` and `shuffled`: without the plan, and with the plan of another text.

| metric | value |
|---|---|
{% for name, value in measured.items() -%}
| `{{ name }}` | {{ "%.4f" | format(value) }} |
{% endfor %}
{%- else %}
Nothing yet.
{% endif %}
## Architecture

| setting | value |
|---|---|
{% for name, value in settings.items() -%}
| `{{ name }}` | {{ value }} |
{% endfor %}
"""


def model_card(config: ModelConfig, parameters: int, record: dict[str, Any]) -> ModelCard:
    """Write the card of a model.

    Args:
        config: the architecture of the model.
        parameters: number of its parameters.
        record: what a checkpoint keeps under :data:`RECORD`, and under ``spent`` what the training
            took.

    Returns:
        The card.
    """
    data = record.get("data", {})
    dataset = str(data.get("dataset", "unknown"))
    measured = {name: value for name, value in record.get("measured", {}).items() if name.startswith(SHOWN)}
    results = [
        EvalResult(
            "text-generation", dataset, dataset, name.removeprefix("val/"), round(value, 4), dataset_split="validation"
        )
        for name, value in measured.items()
        if name in ("val/loss/tokens", "val/bits_per_byte", "val/answer/exact")
    ]
    title = f"{'-'.join(map(str, config.widths))}, {_levels(config)}"
    head = ModelCardData(
        library_name="nextconcept",
        tags=["next-concept-prediction"],
        pipeline_tag="text-generation",
        model_name=title if results else None,
        eval_results=results or None,
    )
    defaults = dict(flat(ModelConfig().to_dict()))
    trained_on = flat(data | {"dataset": dataset} | record.get("spent", {}))
    card: ModelCard = ModelCard.from_template(
        head,
        template_str=TEMPLATE,
        title=title,
        levels=_levels(config),
        parameters=f"{parameters / 1e6:.2f} M",
        config=config,
        encoder=f" --encoder YOUR_MODULE.{own}" if (own := config.encoder.class_name) else "",
        chunks=_chunks(config),
        training={name: value for name, value in trained_on if value is not None},
        measured=measured,
        step=record.get("step"),
        batches=record.get("batches"),
        settings={
            name: value
            for name, value in flat(config.to_dict())
            if value not in (None, defaults.get(name)) or name in ("levels", "width")
        },
    )
    return card


def _levels(config: ModelConfig) -> str:
    if config.levels == 1:
        return "tokens alone (a plain GPT)"
    concepts = config.levels - 1
    return f"tokens and {concepts} level{'s' * (concepts > 1)} of concepts"


def _chunks(config: ModelConfig) -> str:
    """Say what chunks consist of."""
    rules = config.hierarchy.rules
    if not rules:
        return f"{config.chunk_size} tokens{' (and of concepts)' * (config.levels > 2)}"
    names = [f"up to one of {rule.ends!r}" if rule.ends else f"cut by {rule.rule}" for rule in rules]
    return f"tokens {', then '.join(names)}"
