"""The architecture of a model: a dozen common settings, and small groups for the rest."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from nextconcept.core.chunking import RuleEntry
from nextconcept.core.config_groups import (
    BlockConfig,
    EncoderConfig,
    NestedConfig,
    PlannerConfig,
    ReaderConfig,
)
from nextconcept.core.errors import InputError
from nextconcept.core.hierarchy import DEFAULT_CONTEXT_LENGTH, Hierarchy
from nextconcept.core.settings import check_types, from_dict

__all__ = ["OF_TRAINING", "PER_LEVEL", "ModelConfig"]

PER_LEVEL = ("width", "depth", "num_loops", "num_heads", "sliding_window", "horizon")
"""Settings that may be a list with one value per level."""

OF_TRAINING = ("dropout", "planner.detach", "block.gradient_checkpointing")
"""Settings that say how a model is trained, not what it computes: they may change later."""


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
    chunking: list[RuleEntry] | None = None
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
                setattr(self, name, from_dict(group, value, f"{name}."))
        check_types(self)
        self._read_chunking()
        hierarchy = self.hierarchy
        if self.levels == 1:
            if empty := [name for name in PER_LEVEL if name != "horizon" and getattr(self, name) == []]:
                raise InputError(f"{empty[0]} has no value, where the level of tokens needs one.")
            for name in PER_LEVEL:
                value = getattr(self, name)
                if isinstance(value, list) and value:
                    # Of the windows of blocks, those of a token encoder are left out with it.
                    setattr(self, name, [value[0][-_first(self.depth) :]] if isinstance(value[0], list) else value[0])
        if self.context_length is None:
            self.context_length = hierarchy.round_up(DEFAULT_CONTEXT_LENGTH)
        hierarchy.check_context(self.context_length)
        self._check_numbers()
        self._check_lists()
        self._check_widths()
        self._check_heads()
        if self.planner.matching and not self.encoder.additive:
            raise InputError(
                f"planner.matching needs a composition that is a sum or mean, not {self.encoder.composition!r}."
            )
        if self.planner.draft_width and not self.encoder.reads_places:
            raise InputError(
                "planner.draft_width reads tokens back from planned concepts, which takes encoder.position_binding and "
                f"a composition of sum or mean, not {self.encoder.composition!r}: leave it out."
            )

    def _read_chunking(self) -> None:
        """Check the chunking rules; equal numbers for all levels are a ``chunk_size``."""
        hierarchy = Hierarchy.of(self.levels, self.chunk_size, self.chunking)
        self.chunk_size = hierarchy.chunk_size
        if not hierarchy.rules:
            self.chunking = self.chunking if self.levels == 1 else None
            return
        matching = self.planner.matching is not None
        for wrong, what, why in (
            (
                self.encoder.chunk_alignment == "end",
                "encoder.chunk_alignment 'end'",
                "padding in front moves chunks of one length, but the text alone says where a rule ends them",
            ),
            (
                matching and not self.encoder.position_binding,
                "planner.matching without encoder.position_binding",
                "whether a rule ends a chunk depends on the order of its tokens",
            ),
            (
                matching and self.encoder.flat and self.levels > 2,
                "planner.matching and encoder.flat above level 1",
                "a search by levels needs concepts that are composed by levels",
            ),
        ):
            if wrong:
                raise InputError(f"chunking by rules does not go with {what}, because {why}: leave out one of them.")

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
        config = from_dict(cls, values)
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


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


def _flattened(value: Any) -> list[Any]:
    return [one for part in value for one in _flattened(part)] if isinstance(value, list) else [value]
