"""The shape of a model, checked once, before anything is built."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from nextconcept.errors import InputError
from nextconcept.hierarchy import Hierarchy

__all__ = ["ModelConfig"]


@dataclass
class ModelConfig:
    """Architecture of a :class:`~nextconcept.NextConceptModel`.

    A list holds one value per level, tokens first; with ``nested`` or ``shared`` weights, which all levels have in
    common, ``width``, ``depth`` and ``heads`` are single numbers.

    Args:
        vocab_size: number of token ids.
        levels: number of levels, tokens included; 1 is a plain GPT.
        chunk_size: elements composed into one element of the next level.
        width: width of the residual stream. ``nested``: of the top level; each level below is ``split`` times narrower.
        depth: transformer blocks of a level.
        heads: attention heads. ``nested``: of the top level; lower levels have fewer heads of the same size, down to one
            head, which then narrows.
        horizon: concepts that a plan holds, H.
        sharing: ``nested`` (level l uses the top-left block of each matrix), ``shared`` (one transformer, one width) or
            ``separate`` (a transformer of its own per level).
        split: ``nested``: ratio of the widths of neighbouring levels.
        context: tokens in a training window; generation slides beyond it by whole top-level chunks. Default: 256,
            rounded up to whole top-level chunks.
        position_binding: rotate each element by its place before it is summed into a concept.
        encoder_depth: blocks of the causal token encoder before the composition; 0 composes embeddings.
        past: what a level also reads of the chunks before its own: ``none``, their ``concepts``, or the predictor's
            hidden ``states``.
        detach_plan: stop the gradient from the reader of a plan to its predictor.
        feed_forward: ``swiglu`` (Shazeer, 2020) or ``gelu``.
        feed_forward_ratio: hidden width of the feed-forward layer over the width of its level.
        tie_embeddings: use the token embedding as the output matrix too.
        dropout: probability of dropping a feature of a residual branch in training.
        rope_base: base of the rotary position frequencies (Su et al., 2021).

    Raises:
        InputError: if the values do not fit each other.
    """

    vocab_size: int = 256
    levels: int = 2
    chunk_size: int = 4
    width: int | list[int] = 256
    depth: int | list[int] = 6
    heads: int | list[int] = 4
    horizon: int = 4
    sharing: Literal["nested", "shared", "separate"] = "nested"
    split: int = 2
    context: int | None = None
    position_binding: bool = True
    encoder_depth: int = 0
    past: Literal["none", "concepts", "states"] = "states"
    detach_plan: bool = False
    feed_forward: Literal["swiglu", "gelu"] = "swiglu"
    feed_forward_ratio: float = 8 / 3
    tie_embeddings: bool = True
    dropout: float = 0.0
    rope_base: float = 10_000.0

    def __post_init__(self) -> None:
        hierarchy = self.hierarchy
        if self.context is None:
            self.context = -(-256 // hierarchy.top_span) * hierarchy.top_span
        hierarchy.check_context(self.context)
        self._check_numbers()
        for name in ("width", "depth", "heads"):
            value = getattr(self, name)
            if isinstance(value, list):
                if self.sharing != "separate":
                    raise InputError(f"{name} must be one number when sharing is {self.sharing!r}, not {value}.")
                if len(value) != self.levels:
                    raise InputError(f"{name} has {len(value)} values for {self.levels} levels: {value}.")
        if self.sharing == "nested":
            ratio = self.split ** (self.levels - 1)
            if self.width % ratio:
                raise InputError(
                    f"width {self.width} is not divisible by {ratio} = split {self.split} to the power of "
                    f"{self.levels - 1}: nested weights are {self.split} times narrower at every level below the top."
                )
        for level in range(self.levels):
            width, heads = self.widths[level], self.level_heads[level]
            if width == 0 or width % (2 * heads):
                raise InputError(
                    f"width {width} of level {level} must be divisible by twice its {heads} heads, "
                    "because rotary positions turn pairs of features."
                )

    def _check_numbers(self) -> None:
        for name in ("vocab_size", "width", "depth", "heads", "horizon", "split", "feed_forward_ratio"):
            value = getattr(self, name)
            if any(v <= 0 for v in (value if isinstance(value, list) else [value])):
                raise InputError(f"{name} must be positive, not {value}.")
        if self.encoder_depth < 0:
            raise InputError(f"encoder_depth must be 0 or more, not {self.encoder_depth}.")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout must be at least 0 and below 1, not {self.dropout}.")

    @property
    def hierarchy(self) -> Hierarchy:
        """The grid of levels."""
        return Hierarchy(self.levels, self.chunk_size)

    @property
    def widths(self) -> list[int]:
        """Width of each level, tokens first."""
        if self.sharing == "nested":
            assert isinstance(self.width, int)
            return [self.width // self.split ** (self.levels - 1 - level) for level in range(self.levels)]
        return self._per_level(self.width)

    @property
    def level_heads(self) -> list[int]:
        """Attention heads of each level, tokens first."""
        if self.sharing == "nested":
            assert isinstance(self.heads, int)
            return [max(1, self.heads // self.split ** (self.levels - 1 - level)) for level in range(self.levels)]
        return self._per_level(self.heads)

    @property
    def depths(self) -> list[int]:
        """Transformer blocks of each level, tokens first."""
        return self._per_level(self.depth)

    def _per_level(self, value: int | list[int]) -> list[int]:
        return list(value) if isinstance(value, list) else [value] * self.levels

    def hidden_width(self, width: int) -> int:
        """Hidden width of the feed-forward layer of a level, in whole multiples of 8."""
        return max(8, round(self.feed_forward_ratio * width / 8) * 8)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored in checkpoints and ``config.json``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Rebuild a configuration from :meth:`to_dict`.

        Raises:
            InputError: if ``values`` holds names that this version does not know.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise InputError(f"unknown model settings {', '.join(unknown)}: they come from another version.")
        return cls(**values)
