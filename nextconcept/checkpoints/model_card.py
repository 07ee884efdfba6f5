"""The card of an exported model: what it is, what it read, how well it does.

A card is Markdown with a YAML head that the Hugging Face Hub reads, made out of what
:class:`~nextconcept.training.callbacks.StoreModelMetadata` keeps in each checkpoint.
"""

from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from nextconcept.core.config import ModelConfig

__all__ = ["RECORD", "model_card"]

RECORD = "record"
"""Where a checkpoint keeps ``data`` (its settings), ``measured`` (metrics of the last validation, its ``step`` and ``batches``), and
``version``."""

TEMPLATE = """---
{{ card_data }}
---

# {{ title }}

A next-concept model of {{ levels }}: {{ parameters }} parameters, {{ config.sharing }} weights.
{%- if config.levels > 1 %} Chunks of {{ config.chunk_size }} tokens (and of concepts)
are added up into concepts; predictors plan the next concepts, and a decoder writes tokens while it reads that plan.{% endif %}

```python
from nextconcept import NextConceptModel
model = NextConceptModel.from_pretrained("FOLDER_OR_REPOSITORY")
```

```
nextconcept generate --ckpt_path FOLDER --prompt "Once"
nextconcept plan --ckpt_path FOLDER --prompt "Once"
```

## Training

{% for name, value in training.items() -%}
- {{ name }}: {{ value }}
{% endfor %}
## Measured
{% if measured %}
On {{ batches }} batches of the validation split, at step {{ step }}. `zero` and `shuffled`: with the plan taken away,
or another text's in its place.

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
        config: its shape.
        parameters: how many it has.
        record: what its checkpoint keeps under :data:`RECORD`, and under ``spent`` what training took.
    """
    data = record.get("data", {})
    measured = {name: value for name, value in record.get("measured", {}).items() if _is_shown(name)}
    dataset = "star graph" if data.get("star_graph") else str(data.get("dataset", "unknown"))
    results = [
        EvalResult(
            "text-generation", dataset, dataset, name.removeprefix("val/"), round(value, 4), dataset_split="validation"
        )
        for name, value in measured.items()
        if name in ("val/loss/tokens", "val/bits_per_byte", "val/path/exact")
    ]
    title = f"{'-'.join(map(str, config.widths))}, {_levels(config)}"
    head = ModelCardData(
        library_name="nextconcept",
        tags=["next-concept-prediction"],
        pipeline_tag="text-generation",
        model_name=title if results else None,
        eval_results=results or None,
    )
    defaults = ModelConfig().to_dict()
    card: ModelCard = ModelCard.from_template(
        head,
        template_str=TEMPLATE,
        title=title,
        levels=_levels(config),
        parameters=f"{parameters / 1e6:.2f} M",
        config=config,
        training=data | {"dataset": dataset} | record.get("spent", {}),
        measured=measured,
        step=record.get("step"),
        batches=record.get("batches"),
        settings={
            name: value
            for name, value in config.to_dict().items()
            if value != defaults[name] or name in ("levels", "width")
        },
    )
    return card


def _levels(config: ModelConfig) -> str:
    if config.levels == 1:
        return "tokens alone (a plain GPT)"
    concepts = config.levels - 1
    return f"tokens and {concepts} level{'s' * (concepts > 1)} of concepts"


def _is_shown(name: str) -> bool:
    return name.startswith(("val/loss/tokens", "val/bits_per_byte", "val/path/"))
