"""The architecture of a model: a dozen common settings, and small groups for the rest."""

from dataclasses import asdict, dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from nextconcept.core.errors import InputError
from nextconcept.core.hierarchy import Hierarchy
from nextconcept.core.suggestions import did_you_mean

__all__ = [
    "REDUCTIONS",
    "BlockConfig",
    "EncoderConfig",
    "MatchingConfig",
    "ModelConfig",
    "NestedConfig",
    "PlannerConfig",
    "ReaderConfig",
]

REDUCTIONS = ("sum", "mean", "max")
OPERATIONS = (*REDUCTIONS, "linear", "mlp", "geglu", "norm")
PER_LEVEL = ("width", "depth", "num_loops", "num_heads", "sliding_window", "horizon")
"""Settings that may be a list with one value per level."""


@dataclass
class MatchingConfig:
    """Matching in rollouts: a rollout continues from reachable concepts, near the predicted ones.

    Args:
        top_k: candidate tokens per position of the chunk.
        beam: partial compositions kept by the beam search.
        temperature: 0 takes the nearest composition. Above 0, training samples from the beam with
            probability ``softmax(cosine / temperature)``; evaluation still takes the nearest.

    Raises:
        InputError: if a number is out of range.
    """

    top_k: int = 8
    beam: int = 8
    temperature: float = 0.0

    def __post_init__(self) -> None:
        _check_types(self, "planner.matching.")
        if self.top_k < 1 or self.beam < 1 or self.temperature < 0:
            raise InputError(
                f"planner.matching: top_k {self.top_k} and beam {self.beam} must be 1 or more and temperature "
                f"{self.temperature} 0 or more."
            )


@dataclass
class EncoderConfig:
    """How concepts are composed from tokens.

    Args:
        composition: a chain of operations joined by ``->``, such as ``mlp->sum->mlp->norm``.
            ``sum``, ``mean`` or ``max`` reduces a chunk to one vector; ``linear``, ``mlp`` and
            ``geglu`` (a gated MLP as wide as the feed-forward layers) map the elements before it or
            the vector after it. Without a reduction, the last ``linear`` or ``mlp`` maps all
            elements of the chunk together. A chain without ``norm`` ends in one.
        flat: compose every level from the embeddings of all tokens under a concept, instead of the
            concepts of the level below. The composition must have a reduction.
        position_binding: rotate each element by its position in the chunk before the composition,
            so that the order of the elements can be read back.
        depth: blocks of a causal token encoder below the composition; 0 composes token embeddings.
        chunk_alignment: ``start`` counts chunks from the first token; ``end`` puts a learned
            padding vector in front of the text, so that the last chunk ends with the text.
        class_name: class of a user's own concept encoder; filled in by the model. Loading never
            imports a class by this name: whoever loads the model passes the class.

    Raises:
        InputError: if the composition is malformed, ``flat`` without a reduction, or ``depth`` is
            negative.
    """

    composition: str = "sum"
    flat: bool = False
    position_binding: bool = True
    depth: int = 0
    chunk_alignment: Literal["start", "end"] = "start"
    class_name: str = ""

    def __post_init__(self) -> None:
        _check_types(self, "encoder.")
        if self.depth < 0:
            raise InputError(f"encoder.depth must be 0 or more, not {self.depth}.")
        unknown = [name for name in self.chain if name not in OPERATIONS]
        reductions = [name for name in self.chain if name in REDUCTIONS]
        learned = [name for name in self.chain if name in ("linear", "mlp")]
        if unknown or len(reductions) > 1 or not (reductions or learned):
            raise InputError(
                f"encoder.composition {self.composition!r} must be a chain of {', '.join(OPERATIONS)} joined by '->' "
                "that has one of sum, mean and max, or ends in linear or mlp."
            )
        if self.flat and not reductions:
            raise InputError(
                f"encoder.flat needs a composition with sum, mean or max, not {self.composition!r}: a map of a whole "
                "chunk has a matrix per element of one level alone."
            )

    @property
    def chain(self) -> list[str]:
        """The operations of the composition, in order."""
        return [name.strip() for name in self.composition.split("->")]

    @property
    def additive(self) -> bool:
        """Whether a concept is a normalised sum, from which its elements can be read back."""
        return set(self.chain) <= {"sum", "mean", "norm"}


@dataclass
class PlannerConfig:
    """How a concept predictor makes its plan.

    Args:
        mode: ``parallel`` predicts every step of the horizon from the anchor's hidden state;
            ``rollout`` is autoregressive: each step attends to the true prefix and to the anchor's
            own earlier predictions.
        plan_head: ``linear``, ``mlp`` or ``geglu`` (a gated MLP as wide as the feed-forward
            layers), from a hidden state to predicted concepts.
        noise_width: size of the noise vector that the plan head receives beside the state, for the
            ``energy`` loss; 0 for none.
        shift: add a linear map of the concept before, zero at first, to each input of the
            predictor, so that a single layer of attention can find what followed a concept last
            time (as the shifted keys of Fu et al., 2023).
        detach: stop gradients where a plan is read, by the level below or by the next step of a
            rollout.
        matching: matching of predicted concepts in rollouts, or None.

    Raises:
        InputError: if ``noise_width`` is negative, or matching is asked for without rollouts.
    """

    mode: Literal["parallel", "rollout"] = "parallel"
    plan_head: Literal["linear", "mlp", "geglu"] = "linear"
    noise_width: int = 0
    shift: bool = False
    detach: bool = False
    matching: MatchingConfig | None = None

    def __post_init__(self) -> None:
        if isinstance(self.matching, dict):
            self.matching = _from_dict(MatchingConfig, self.matching, "planner.matching.")
        _check_types(self, "planner.")
        if self.noise_width < 0:
            raise InputError(f"planner.noise_width must be 0 or more, not {self.noise_width}.")
        if self.matching and self.mode != "rollout":
            raise InputError(
                "planner.matching replaces what a rollout continues from: set planner.mode to 'rollout' or drop "
                "planner.matching."
            )


@dataclass
class ReaderConfig:
    """How a level reads the level above.

    Args:
        plan_conditioning: ``cross`` attention to the plan; ``prefix``: self-attention sees the plan
            vectors as further positions; or ``unbind``: each position reads what the plan's first
            step says about the element that it predicts.
        memory: what a level also reads of the chunks before its own: ``none`` (the default, best
            per FLOP on text; see results/LOG.md), their ``concepts``, or the predictor's hidden
            ``states``.
        gated: whether gates, zero at first, scale what is read. Without gates a block reads at full
            strength from the first step, ``block.post_norm`` also normalises what is read, and the
            model can't grow.
        rotated: whether cross-attention to plan and memory uses rotary positions; without them a
            plan is read as a set.
        order: whether a block reads ``after`` or ``before`` its self-attention; a ``prefix`` is
            part of self-attention.
    """

    plan_conditioning: Literal["cross", "prefix", "unbind"] = "cross"
    memory: Literal["none", "concepts", "states"] = "none"
    gated: bool = True
    rotated: bool = True
    order: Literal["after", "before"] = "after"

    def __post_init__(self) -> None:
        _check_types(self, "reader.")


@dataclass
class BlockConfig:
    """The transformer blocks of all levels.

    Args:
        feed_forward: ``swiglu`` or ``geglu``, gated by SiLU or GELU (Shazeer, 2020), or ``gelu``.
        feed_forward_ratio: hidden width of the feed-forward layer over the width of its level.
        feed_forward_bias: whether the maps of feed-forward layers, and of ``geglu`` in compositions
            and plan heads, have biases.
        num_kv_heads: heads of keys and values, each shared by equally many query heads
            (grouped-query attention, Ainslie et al., 2023); None for as many as query heads. It
            holds for self-attention and for attention to plan and memory. ``nested``: of the top
            level; with ``nested.slicing: heads`` a lower level with fewer heads has fewer heads of
            keys and values in the same proportion, at least one, so that a query head uses the
            keys that it uses at the top.
        head_size: features of a head; None for the width over the number of heads. ``nested``: of
            the top level; with ``nested.slicing: head_size`` it shrinks with the width.
        norm: ``rms``, ``layer`` or ``cosine``.
        norm_affine: whether the norms learn a gain.
        post_norm: also normalise what attention and feed-forward layers add to the residual stream.
        rope_base: base of the rotary position frequencies (Su et al., 2021).
        gradient_checkpointing: recompute blocks in the backward pass instead of storing their
            activations.

    Raises:
        InputError: if a number is not positive.
    """

    feed_forward: Literal["swiglu", "geglu", "gelu"] = "swiglu"
    feed_forward_ratio: float = 8 / 3
    feed_forward_bias: bool = False
    num_kv_heads: int | None = None
    head_size: int | None = None
    norm: Literal["rms", "layer", "cosine"] = "rms"
    norm_affine: bool = True
    post_norm: bool = False
    rope_base: float = 10_000.0
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        _check_types(self, "block.")
        for name in ("feed_forward_ratio", "rope_base", "num_kv_heads", "head_size"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise InputError(f"block.{name} must be positive, not {getattr(self, name)}.")

    def hidden_width(self, width: int) -> int:
        """Hidden width of the feed-forward layer of a level of this width, a multiple of 8."""
        return max(8, round(self.feed_forward_ratio * width / 8) * 8)


@dataclass
class NestedConfig:
    """How the weights of the levels nest, for ``sharing: nested``.

    Args:
        width_ratio: width of a level over the width of the level below.
        slicing: a narrower level has fewer ``heads`` of the same size, or as many heads of a
            smaller ``head_size``.

    Raises:
        InputError: if ``width_ratio`` is below 1.
    """

    width_ratio: int = 2
    slicing: Literal["heads", "head_size"] = "heads"

    def __post_init__(self) -> None:
        _check_types(self, "nested.")
        if self.width_ratio < 1:
            raise InputError(f"nested.width_ratio must be 1 or more, not {self.width_ratio}.")


@dataclass
class ModelConfig:
    """Architecture of a :class:`~nextconcept.NextConceptModel`.

    Settings per level may be a list with one value per level, tokens first (``horizon``: level 1
    first). With ``nested`` or ``shared`` weights, which the levels have in common, ``width``,
    ``depth`` and ``num_heads`` are single numbers.

    With ``levels: 1`` the model is a plain GPT: lists count with their first value, and
    ``chunk_size``, ``horizon`` and the groups ``encoder``, ``planner``, ``reader`` and ``nested``
    have no effect.

    Args:
        vocab_size: number of token ids.
        levels: number of levels, tokens included; 1 is a plain GPT.
        chunk_size: elements composed into one element of the next level.
        chunking: rules that cut the chunks of each concept level instead of ``chunk_size``, the
            lowest level first; each a number of elements, the name of a rule, or the settings of a
            :class:`~nextconcept.core.chunking.ChunkingConfig`.
        width: width of the residual stream. ``nested``: of the top level; each level below is
            ``nested.width_ratio`` times narrower.
        depth: transformer blocks of a level.
        num_loops: passes of a level through its blocks, with the same weights (Universal
            Transformer, Dehghani et al., 2019).
        num_heads: attention heads. ``nested``: of the top level; with ``nested.slicing: heads``
            lower levels have fewer heads of the same size, at least one, which then becomes
            narrower.
        horizon: H, concepts in a plan; ``full``: all concepts of a window.
        sharing: ``nested`` (level l uses the top-left block of each matrix), ``shared`` (one
            transformer, one width) or ``separate`` (a transformer per level).
        context_length: tokens in a training window; generation slides beyond it by whole top-level
            chunks. Default: 256, rounded up to whole top-level chunks.
        sliding_window: positions that self-attention reaches back, per level; None for all. A
            level's value may be a list with one value per block, at level 0 those of the token
            encoder first: ``[[32, 32, 128, null], null]``. The widest of a level also bounds how
            far the level below reads its memory.
        dropout: probability of dropping a feature of a residual branch in training.
        tie_embeddings: use the token embedding as the output matrix.
        scale_embeddings: read token embeddings times the square root of their width, so that they
            are as large as concepts. It has no effect on tied embeddings, which would then first
            of all predict their own token, with ``norm_embeddings`` or with ``scale_inputs``.
        norm_embeddings: normalise token embeddings, by ``block.norm`` without a gain, where level 0
            reads them and where they are the output matrix. Concepts are composed from the
            embeddings as they are.
        scale_inputs: multiply the inputs of every level by the square root of its width (Vaswani et
            al., 2017).
        encoder: how concepts are composed.
        planner: how plans are made.
        reader: how a level reads the level above.
        block: the transformer blocks.
        nested: how nested weights are sliced.

    Raises:
        InputError: if the values are out of range or do not fit each other.
    """

    vocab_size: int = 256
    levels: int = 2
    chunk_size: int = 4
    chunking: list[int | str | dict[str, Any]] | None = None
    width: int | list[int] = 256
    depth: int | list[int] = 6
    num_loops: int | list[int] = 1
    num_heads: int | list[int] = 4
    horizon: int | Literal["full"] | list[int | Literal["full"]] = 4
    sharing: Literal["nested", "shared", "separate"] = "nested"
    context_length: int | None = None
    sliding_window: int | list[int | list[int | None] | None] | None = None
    dropout: float = 0.0
    tie_embeddings: bool = False
    scale_embeddings: bool = True
    norm_embeddings: bool = False
    scale_inputs: bool = False
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    planner: PlannerConfig = field(default_factory=PlannerConfig)
    reader: ReaderConfig = field(default_factory=ReaderConfig)
    block: BlockConfig = field(default_factory=BlockConfig)
    nested: NestedConfig = field(default_factory=NestedConfig)

    def __post_init__(self) -> None:
        for name, group in _GROUPS.items():
            value = getattr(self, name)
            if isinstance(value, dict):
                setattr(self, name, _from_dict(group, value, f"{name}."))
        _check_types(self)
        self._read_chunking()
        hierarchy = self.hierarchy
        if self.levels == 1:
            for name in PER_LEVEL:
                value = getattr(self, name)
                if isinstance(value, list) and value:
                    # Of the windows of blocks, those of a token encoder are left out with it.
                    setattr(self, name, [value[0][-_first(self.depth) :]] if isinstance(value[0], list) else value[0])
        if self.context_length is None:
            self.context_length = -(-256 // hierarchy.alignment) * hierarchy.alignment
        hierarchy.check_context(self.context_length)
        self._check_numbers()
        self._check_lists()
        self._check_widths()
        self._check_heads()
        if self.planner.matching and not self.encoder.additive:
            raise InputError(
                f"planner.matching needs a composition that is a sum or mean, not {self.encoder.composition!r}."
            )

    def _read_chunking(self) -> None:
        """Check the chunking rules; equal numbers for all levels are a ``chunk_size``."""
        hierarchy = Hierarchy.of(self.levels, self.chunk_size, self.chunking)
        self.chunk_size = hierarchy.chunk_size
        if not hierarchy.rules:
            self.chunking = self.chunking if self.levels == 1 else None
            return
        learnt = not set(REDUCTIONS) & set(self.encoder.chain)
        for wrong, what in (
            (learnt, f"encoder.composition {self.encoder.composition!r}, whose map needs chunks of one length"),
            (self.encoder.flat, "encoder.flat"),
            (self.encoder.chunk_alignment == "end", "encoder.chunk_alignment 'end'"),
            (self.planner.matching is not None, "planner.matching"),
        ):
            if wrong:
                raise InputError(f"chunking by rules does not go with {what}: leave out one of the two.")

    def _check_numbers(self) -> None:
        for name in ("vocab_size", *PER_LEVEL):
            value = getattr(self, name)
            numbers = [v for v in _flattened(value) if v not in ("full", None)]
            if any(v <= 0 for v in numbers):
                raise InputError(f"{name} must be positive, not {value}.")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout must be at least 0 and below 1, not {self.dropout}.")

    def _check_lists(self) -> None:
        for name in PER_LEVEL:
            value = getattr(self, name)
            if not isinstance(value, list):
                continue
            if self.sharing != "separate" and name in ("width", "depth", "num_heads"):
                raise InputError(f"{name} must be one number when sharing is {self.sharing!r}, not {value}.")
            expected = self.levels - 1 if name == "horizon" else self.levels
            if len(value) != expected:
                raise InputError(f"{name} has {len(value)} values where {self.levels} levels need {expected}: {value}.")
        for level, windows in enumerate(self._per_level(self.sliding_window)):
            blocks = self.depths[level] + (self.token_encoder_depth if level == 0 else 0)
            if isinstance(windows, list) and len(windows) != blocks:
                raise InputError(
                    f"sliding_window of level {level} has {len(windows)} values where its {blocks} blocks need one "
                    f"each: {windows}."
                )

    def _check_widths(self) -> None:
        ratio = self.nested.width_ratio ** (self.levels - 1)
        if self.sharing == "nested" and self.width % ratio:
            raise InputError(
                f"width {self.width} is not divisible by {ratio} = nested.width_ratio {self.nested.width_ratio} to the "
                f"power of {self.levels - 1}: nested weights are {self.nested.width_ratio} times narrower at every "
                "level below the top."
            )
        for level, (width, heads) in enumerate(zip(self.widths, self.level_heads, strict=True)):
            if width == 0 or width % (2 if self.block.head_size else 2 * heads):
                divisor = "even" if self.block.head_size else f"divisible by twice its {heads} heads"
                raise InputError(
                    f"width {width} of level {level} must be {divisor}, "
                    "because rotary positions rotate pairs of features."
                )

    def _check_heads(self) -> None:
        ratio = self.nested.width_ratio ** (self.levels - 1)
        sliced = self.sharing == "nested" and self.nested.slicing == "head_size"
        if self.block.head_size and self.block.head_size % (2 * (ratio if sliced else 1)):
            raise InputError(
                f"block.head_size {self.block.head_size} must be divisible by {2 * (ratio if sliced else 1)}, because "
                "rotary positions rotate pairs of features at every level."
            )
        if self.block.num_kv_heads is None:
            return
        for level, (heads, shared) in enumerate(zip(self.level_heads, self._shared_keys, strict=True)):
            if shared == 0 or (heads > shared and heads % shared):
                raise InputError(
                    f"block.num_kv_heads {self.block.num_kv_heads} does not fit the {heads} attention heads of level "
                    f"{level}: equally many heads must share each head of keys and values."
                )

    @property
    def hierarchy(self) -> Hierarchy:
        """The grid of levels."""
        return Hierarchy.of(self.levels, self.chunk_size, self.chunking)

    @property
    def widths(self) -> list[int]:
        """Width of each level, tokens first."""
        if self.sharing == "nested":
            return [self.width // self.nested.width_ratio**above for above in reversed(range(self.levels))]
        return self._per_level(self.width)

    @property
    def level_heads(self) -> list[int]:
        """Attention heads of each level, tokens first."""
        if self.sharing == "nested" and self.nested.slicing == "heads":
            ratio = self.nested.width_ratio
            return [max(1, self.num_heads // ratio**above) for above in reversed(range(self.levels))]
        return self._per_level(self.num_heads)

    @property
    def _shared_keys(self) -> list[int]:
        """Query heads that share a head of keys and values, per level; 0 where they can't."""
        kv_heads = self.block.num_kv_heads
        if kv_heads is None:
            return [1] * self.levels
        # Levels that share weights have the proportion of the top level.
        whole = self.level_heads if self.sharing == "separate" else [self.level_heads[-1]] * self.levels
        return [0 if heads % kv_heads else heads // kv_heads for heads in whole]

    @property
    def level_kv_heads(self) -> list[int]:
        """Heads of keys and values of each level, tokens first."""
        pairs = zip(self.level_heads, self._shared_keys, strict=True)
        return [max(1, heads // shared) for heads, shared in pairs]

    @property
    def level_head_sizes(self) -> list[int]:
        """Features per head of each level, tokens first."""
        size = self.block.head_size
        if size is None:
            return [width // heads for width, heads in zip(self.widths, self.level_heads, strict=True)]
        if self.sharing == "nested" and self.nested.slicing == "head_size":
            return [size // self.nested.width_ratio**above for above in reversed(range(self.levels))]
        return [size] * self.levels

    @property
    def query_widths(self) -> list[int]:
        """Features of all query heads of each level, tokens first."""
        return [heads * size for heads, size in zip(self.level_heads, self.level_head_sizes, strict=True)]

    @property
    def key_widths(self) -> list[int]:
        """Features of all heads of keys or values of each level, tokens first."""
        return [heads * size for heads, size in zip(self.level_kv_heads, self.level_head_sizes, strict=True)]

    @property
    def depths(self) -> list[int]:
        """Transformer blocks of each level, tokens first."""
        return self._per_level(self.depth)

    @property
    def level_loops(self) -> list[int]:
        """Passes of each level through its blocks, tokens first."""
        return self._per_level(self.num_loops)

    def block_windows(self, level: int) -> list[int | None]:
        """Sliding window of each block of a level, at level 0 those of the token encoder first."""
        windows = self._per_level(self.sliding_window)[level]
        if isinstance(windows, list):
            return list(windows)
        return [windows] * (self.depths[level] + (self.token_encoder_depth if level == 0 else 0))

    def memory_window(self, level: int) -> int | None:
        """Elements of ``level`` that the level below reaches back: the widest window of a block."""
        windows = self.block_windows(level)
        return None if None in windows else max(window for window in windows if window is not None)

    @property
    def window_length(self) -> int:
        """Tokens in a training window: ``context_length``, or its default."""
        assert self.context_length is not None  # since __post_init__
        return self.context_length

    @property
    def token_encoder_depth(self) -> int:
        """Blocks of the token encoder; a model without concepts has none."""
        return self.encoder.depth if self.levels > 1 else 0

    def padding(self, time: int) -> int:
        """Tokens of padding in front of a text of ``time`` tokens.

        With ``encoder.chunk_alignment: end`` as many as make the last top-level chunk end with the
        text; otherwise, and with one level, none.
        """
        aligned_to_end = self.levels > 1 and self.encoder.chunk_alignment == "end"
        return -time % self.hierarchy.top_span if aligned_to_end else 0

    def horizon_of(self, level: int) -> int:
        """Steps of the plan of a concept level."""
        horizon = self.horizon[level - 1] if isinstance(self.horizon, list) else self.horizon
        return self.hierarchy.length(self.window_length, level) if horizon == "full" else horizon

    def _per_level(self, value: Any) -> list[Any]:
        return list(value) if isinstance(value, list) else [value] * self.levels

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values, as stored in checkpoints and ``config.json``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Rebuild a configuration from :meth:`to_dict`.

        Raises:
            InputError: if ``values`` holds names that this version does not know, describes an
                untied model of version 0.2, which this version would read at another scale, or a
                chunking rule of the user's own that was never built.
        """
        if "scale_embeddings" not in values and not values.get("tie_embeddings", True):
            raise InputError(
                "the model has tie_embeddings false and comes from nextconcept 0.2, which read embeddings at another "
                "scale: train it again with this version, or use nextconcept 0.2."
            )
        config = _from_dict(cls, values)
        if any(rule.of_text and not rule.known and not rule.num_states for rule in config.hierarchy.rules):
            raise InputError(
                "the stored chunking names a rule of somebody's own without the number of its states: a stored model "
                "must hold its tables, because loading imports nothing by name."
            )
        return config


_GROUPS: dict[str, type] = {
    "encoder": EncoderConfig,
    "planner": PlannerConfig,
    "reader": ReaderConfig,
    "block": BlockConfig,
    "nested": NestedConfig,
}
Group = TypeVar("Group")


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


def _flattened(value: Any) -> list[Any]:
    return [one for part in value for one in _flattened(part)] if isinstance(value, list) else [value]


def _from_dict(cls: type[Group], values: dict[str, Any], prefix: str = "") -> Group:
    assert is_dataclass(cls)
    unknown = sorted(str(name) for name in set(values) - {one.name for one in fields(cls)})
    if unknown:
        hint = did_you_mean(unknown[0], [one.name for one in fields(cls)])
        raise InputError(
            f"unknown model settings {', '.join(prefix + name for name in unknown)}: "
            + (f"{hint} " if hint else "")
            + "A stored model with such settings comes from another version of nextconcept: train it again with this "
            "one, or load it with the version that made it."
        )
    return cls(**values)


def _check_types(config: Any, prefix: str = "") -> None:
    """Check the type of every field, because a file may hold any value."""
    for name, hint in get_type_hints(type(config)).items():
        if not _fits(getattr(config, name), hint):
            choices = ", ".join(map(str, _choices(hint)))
            raise InputError(
                f"{prefix}{name} can't be {getattr(config, name)!r}: "
                + (f"choose from {choices}." if choices else f"see the docstring of {type(config).__name__}.")
            )


def _choices(hint: Any) -> list[Any]:
    """Return the literal values that a type allows, if any."""
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [value for part in get_args(hint) for value in _choices(part)]


def _fits(value: Any, hint: Any) -> bool:
    """Whether ``value`` has the type ``hint``; integers fit a float, truth values no number."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if kind is Literal:
        return value in parts
    if kind is list:
        return isinstance(value, list) and all(_fits(one, parts[0]) for one in value)
    if kind is dict:
        return isinstance(value, dict)
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    return isinstance(value, (int, float) if hint is float else hint)
