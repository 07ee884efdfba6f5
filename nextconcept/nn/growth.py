"""Adding a level on top of a model, and removing the top level.

Growing widens the matrices that levels share along both dimensions and adds the parameters of the
new level. The old weights are the top-left blocks, and the new gates are zero, so the outputs of
the old levels stay equal bit for bit. Shrinking cuts the blocks out again, which gives the old
model back.

Sources: function-preserving widening as in Net2Net (Chen et al., 2016) and HyperCloning (Samragh et
al., 2024); nested blocks as in MatFormer (Devvrit et al., 2023).
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from nextconcept.core.chunking import RuleEntry
from nextconcept.core.config import PER_LEVEL, ModelConfig
from nextconcept.core.errors import InputError
from nextconcept.core.hierarchy import MOST_LEVELS, Hierarchy
from nextconcept.core.suggestions import did_you_mean
from nextconcept.nn.bare_model import bare_model
from nextconcept.nn.model import NextConceptModel

__all__ = ["grow", "grown_config", "shrink", "shrunk_config", "top_left"]

Init = Literal["copy", "random", "zeros"]


def grown_config(
    config: ModelConfig, rule: RuleEntry | None = None, new_level: Mapping[str, Any] | None = None
) -> ModelConfig:
    """Return the configuration with one more level on top.

    With ``nested`` weights the model becomes ``nested.width_ratio`` times as wide, with more heads
    (slicing by heads) or wider heads. Otherwise the new level has the settings of the old top level
    where ``new_level`` gives no others. The context length is rounded up to whole chunks of the new
    level; a ``full`` horizon of an old level keeps its number of steps.

    Args:
        config: the old configuration.
        rule: the chunking rule of the new level, for a model of tokens alone or one whose chunks
            are cut by rules; None for ``chunk_size`` elements.
        new_level: settings per level, such as ``depth`` or ``sliding_window``, and their values at
            the new level; ``width``, ``depth`` and ``num_heads`` take ``separate`` weights.

    Raises:
        InputError: if the model reads plans without gates, its chunks do not go with a rule, or
            ``new_level`` is no mapping, names another setting or holds a value that does not fit
            the model.
    """
    given = {} if new_level is None else new_level
    if not isinstance(given, Mapping):
        raise InputError(f"new_level takes a mapping of settings, such as {{'depth': 2}}, not {new_level!r}.")
    for name in given:
        if name not in PER_LEVEL:
            hint = did_you_mean(str(name), PER_LEVEL) or f"there are {', '.join(PER_LEVEL)}."
            raise InputError(f"a new level has no setting {name!r} of its own: {hint}")
    if rule is not None and config.levels > 1 and not config.hierarchy.rules:
        raise InputError(
            f"a level cut by the rule {rule!r} can't grow on chunks of {config.chunk_size}: the old levels would be "
            "computed in another order. Leave the rule out, or train the model with chunking."
        )
    if not config.reader.gated:
        raise InputError(
            "a model whose reader.gated is false can't grow: without gates that start at zero, a new level would "
            "change what the old levels compute."
        )
    values, rules = config.to_dict(), config.hierarchy.rules
    values["levels"] = config.levels + 1
    values["chunking"] = None
    if rules or rule is not None:
        values["chunking"] = [
            *(config.chunking or [])[: config.levels - 1],
            config.chunk_size if rule is None else rule,
        ]
    hierarchy = Hierarchy.of(config.levels + 1, config.chunk_size, values["chunking"])
    values["context_length"] = hierarchy.round_up(config.window_length)
    if config.levels == 1:
        # A new token encoder would change the function, and so would padding, of which tokens alone
        # need none.
        values["encoder"] |= {"depth": 0, "chunk_alignment": "start"}
    if config.sharing == "nested":
        values["width"] = config.width * config.nested.width_ratio
        values["num_heads"] = config.num_heads * (config.nested.width_ratio if config.nested.slicing == "heads" else 1)
        _slice_heads(values, config.nested.width_ratio, config.nested.slicing)
    for name in PER_LEVEL:
        old = values[name]
        if isinstance(old, list) or name in given:
            below = old if isinstance(old, list) else [old] * (config.levels - (name == "horizon"))
            as_below = below[-1] if below else ModelConfig.horizon  # the tokens have no horizon
            values[name] = [*below, given.get(name, as_below)]
    horizons = [config.horizon_of(level) for level in config.hierarchy.concept_levels]
    if horizons and values["context_length"] != config.window_length and "full" in _listed(config.horizon):
        values["horizon"] = [*horizons, _listed(values["horizon"])[-1]]
    return ModelConfig(**values)


def shrunk_config(config: ModelConfig) -> ModelConfig:
    """Return the configuration without its top level and with the same context length.

    Raises:
        InputError: if there is no level above the tokens, or a token encoder would be left without
            a level that reads what it makes.
    """
    if config.levels == 1:
        raise InputError("a model of tokens alone can't be shrunk: it has no level above them.")
    if config.levels == 2 and config.encoder.depth:
        raise InputError(
            f"a model of tokens alone has no token encoder, so that one whose encoder.depth is {config.encoder.depth} "
            "can't be shrunk to it without computing something else."
        )
    values = config.to_dict()
    values["levels"] = config.levels - 1
    if config.sharing == "nested":
        values["width"], values["num_heads"] = config.widths[-2], config.level_heads[-2]
        for name, below in (("num_kv_heads", config.level_kv_heads), ("head_size", config.level_head_sizes)):
            if values["block"][name] is not None:
                values["block"][name] = below[-2]
    for name in PER_LEVEL:
        if isinstance(values[name], list):
            values[name] = values[name][:-1]
    if values["chunking"] is not None:
        values["chunking"] = values["chunking"][: config.levels - 2] or None
    return ModelConfig.from_dict(values)


def _slice_heads(values: dict[str, Any], ratio: int, slicing: str) -> None:
    """Multiply the heads of keys and values, or the size of heads, of a wider top level."""
    name = "num_kv_heads" if slicing == "heads" else "head_size"
    if values["block"][name] is not None:
        values["block"][name] *= ratio


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def grow(
    model: NextConceptModel,
    init: Init = "copy",
    levels: int = 1,
    rule: RuleEntry | None = None,
    new_level: Mapping[str, Any] | None = None,
) -> NextConceptModel:
    """Add levels on top of a model.

    For the same tokens the logits and the old levels' plans stay equal bit for bit in float32 on
    the CPU; with ``chunk_alignment: end``, for the same offset, since more levels need more
    padding. Parameters that are frozen stay so where they do not become larger.

    Args:
        model: the model to start from, which is not changed.
        init: values of the new blocks: ``copy`` (the new level starts as the old top level on
            duplicated features: copies of the old block along the diagonal, zeros elsewhere),
            ``random`` (as in a new model), or ``zeros``. Matrices that no old one is a block of, as
            those of new modules where weights are ``separate`` or ``shared``, are drawn by
            ``zeros`` as by ``random``.
        levels: number of levels to add.
        rule: the chunking rule of each new level; see :func:`grown_config`.
        new_level: settings of each new level that differ from the old top level's; see
            :func:`grown_config`.

    Raises:
        InputError: if ``model`` is none, ``init`` is unknown, ``levels`` out of range, the model
            reads plans without gates, its chunks do not go with the rule, or ``new_level`` does not
            fit it.
    """
    model = bare_model(model, "grow")
    if init not in ("copy", "random", "zeros"):
        raise InputError(f"unknown init {init!r} of new blocks: choose copy, random or zeros.")
    if not 1 <= levels <= MOST_LEVELS:
        raise InputError(f"levels to add must be 1 to {MOST_LEVELS}, not {levels}.")
    for _ in range(levels):
        model = _grow_once(model, init, grown_config(model.config, rule, new_level))
    return model


@torch.no_grad()
def _grow_once(model: NextConceptModel, init: Init, config: ModelConfig) -> NextConceptModel:
    old, bigger = model.state_dict(), NextConceptModel(config, type(model.encoder))
    bigger.to(model.device, next(model.parameters()).dtype).train(model.training)
    new = model.config.levels
    for name, tensor in bigger.state_dict().items():
        if name.startswith("chunker.") and name not in old:
            continue  # the tables of the new rule
        if ".gates." in name and name not in old:
            continue  # zero: new gates are closed
        source = old.get(name)
        if source is None and init == "copy":
            source = old.get(_name_below(name, new))
        if source is not None and init != "random":
            tensor.copy_(_blocks(source, tensor, init == "copy", gains=name.endswith(".weight")))
        if name in old:
            tensor[top_left(old[name].shape)] = old[name]
    _keep_frozen(model, bigger)
    return bigger


def _keep_frozen(model: NextConceptModel, other: NextConceptModel) -> None:
    """Freeze what is frozen in ``model`` and has the same shape in ``other``."""
    old = dict(model.named_parameters())
    for name, parameter in other.named_parameters():
        if name in old and old[name].shape == parameter.shape:
            parameter.requires_grad_(old[name].requires_grad)


def _name_below(name: str, level: int) -> str:
    """Return the name that a parameter of ``level`` has one concept level below."""
    if level == 1:
        return name  # below are the tokens, which have no predictor
    for part in ("predictors", "transformers"):
        name = name.replace(f"{part}.{level}.", f"{part}.{level - 1}.")
    return name


def top_left(shape: Iterable[int]) -> tuple[slice, ...]:
    """Return the index of the top-left block of a shape, which holds the old weights."""
    return tuple(slice(size) for size in shape)


def _blocks(source: Tensor, like: Tensor, repeat: bool, gains: bool) -> Tensor:
    """Put ``source`` into the top-left corner of a tensor shaped like ``like``.

    With ``repeat``, copies follow along the diagonal, or along the only dimension that grows.
    Outside the copies are zeros, but ones in gains of norms: the weights that are vectors.
    """
    result = torch.ones_like(like) if gains and like.dim() == 1 and not repeat else torch.zeros_like(like)
    grown = [axis for axis in range(like.dim()) if like.shape[axis] > source.shape[axis]]
    times = -(-like.shape[grown[0]] // source.shape[grown[0]]) if grown and repeat else 1
    for time in range(times):
        starts = [time * source.shape[axis] if axis in grown else 0 for axis in range(like.dim())]
        target = tuple(slice(start, start + size) for start, size in zip(starts, source.shape, strict=True))
        result[target] = source[top_left(result[target].shape)]
    return result


@torch.no_grad()
def shrink(model: NextConceptModel) -> NextConceptModel:
    """Return the model without its top level; ``model`` is not changed.

    Raises:
        InputError: if ``model`` is none, there is no level above the tokens, or a token encoder
            would be left without one.
    """
    model = bare_model(model, "shrink")
    big, smaller = model.state_dict(), NextConceptModel(shrunk_config(model.config), type(model.encoder))
    smaller.to(model.device, next(model.parameters()).dtype).train(model.training)
    for name, tensor in smaller.state_dict().items():
        tensor.copy_(big[name][top_left(tensor.shape)])
    _keep_frozen(model, smaller)
    return smaller
