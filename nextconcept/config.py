"""The shape of a model, checked once, before anything is built."""

from dataclasses import asdict, dataclass, fields
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from nextconcept.errors import InputError
from nextconcept.hierarchy import Hierarchy

__all__ = ["MatchConfig", "ModelConfig"]

REDUCTIONS = ("sum", "mean", "max")
OPERATIONS = (*REDUCTIONS, "linear", "mlp", "norm")


@dataclass
class MatchConfig:
    """Matching in rollouts: a predicted concept is replaced by a reachable one before it is fed back.

    Args:
        top_k: candidates per place of the chunk.
        beam: partial compositions kept.
        temperature: 0 takes the nearest composition; above, training draws one of the beam by
            ``softmax(cosine / temperature)``, and evaluation still takes the nearest.

    Raises:
        InputError: if a number is out of range.
    """

    top_k: int = 8
    beam: int = 8
    temperature: float = 0.0

    def __post_init__(self) -> None:
        if self.top_k < 1 or self.beam < 1 or self.temperature < 0:
            raise InputError(
                f"match: top_k {self.top_k} and beam {self.beam} must be 1 or more and temperature {self.temperature} 0 or more."
            )


def _fits(value: Any, hint: Any) -> bool:
    """Whether ``value`` is of the type ``hint``, where an integer will do as a float and a truth value is no number."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if kind is Literal:
        return value in parts
    if kind is list:
        return isinstance(value, list) and all(_fits(one, parts[0]) for one in value)
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


@dataclass
class ModelConfig:
    """Architecture of a :class:`~nextconcept.NextConceptModel`.

    A list holds one value per level, tokens first (``horizon``: level 1 first); with ``nested`` or ``shared`` weights,
    which all levels have in common, ``width``, ``depth`` and ``heads`` are single numbers.

    Args:
        vocab_size: number of token ids.
        levels: number of levels, tokens included; 1 is a plain GPT.
        chunk_size: elements composed into one element of the next level.
        width: width of the residual stream. ``nested``: of the top level; each level below is ``split`` times narrower.
        depth: transformer blocks of a level.
        loops: times that a level runs through its blocks, with the same weights each time (the Universal Transformer of Dehghani et
            al., 2019): for steps of reasoning that are alike.
        heads: attention heads. ``nested``: of the top level; with ``slicing: heads`` lower levels have fewer heads of the
            same size, down to one head, which then narrows.
        horizon: concepts that a plan holds, H; ``full``: as many as a window of ``context`` tokens has.
        plan_mode: ``parallel`` (a head per horizon step on the anchor's state) or ``rollout`` (autoregressive: each step
            attends to the true prefix and to the anchor's own earlier predictions).
        entry: how a plan enters the level below: ``cross`` attention, or ``prefix`` (plan vectors as attended positions).
        past: what a level also reads of the chunks before its own: ``none`` (the default: on text it does best for its operations,
            results/LOG.md), their ``concepts``, or the predictor's hidden ``states``.
        detach_plan: stop the gradient of whoever reads a plan, the next step of a rollout included.
        match: replace predicted concepts by reachable ones before a rollout goes on from them.
        sharing: ``nested`` (level l uses the top-left block of each matrix), ``shared`` (one transformer, one width) or
            ``separate`` (a transformer of its own per level).
        split: ``nested``: ratio of the widths of neighbouring levels.
        slicing: ``nested``: levels differ in ``heads`` or in ``head_size``.
        window: positions that self-attention reaches back, per level; None for all. A level's window also bounds how far
            the level below reads its past.
        context: tokens in a training window; generation slides beyond it by whole top-level chunks. Default: 256,
            rounded up to whole top-level chunks.
        grid: ``start``: chunks are counted from the first token; ``end``: a learned padding vector in front makes the grid
            end with the text.
        composition: a chain of ``sum``, ``mean`` or ``max`` over the chunk (or a last ``linear`` or ``mlp`` over all of its
            elements together), ``linear`` and ``mlp`` before or after it, and ``norm``, as in ``mlp->sum->mlp->norm``; a
            chain without ``norm`` ends in one.
        position_binding: rotate each element by its place before it is composed.
        encoder_depth: blocks of the causal token encoder before the composition; 0 composes embeddings.
        head: ``linear`` or ``mlp``, from an anchor's state to the plan.
        noise_width: size of the noise vector that the head gets beside the state, for the energy loss; 0 for none.
        feed_forward: ``swiglu`` (Shazeer, 2020) or ``gelu``.
        feed_forward_ratio: hidden width of the feed-forward layer over the width of its level.
        norm: ``rms``, ``layer`` or ``cosine``.
        norm_affine: whether the norms of the transformers learn a gain.
        post_norm: also normalise what attention and feed-forward add.
        tie_embeddings: use the token embedding as the output matrix too.
        dropout: probability of dropping a feature of a residual branch in training.
        rope_base: base of the rotary position frequencies (Su et al., 2021).
        gradient_checkpointing: recompute blocks in the backward pass instead of keeping their activations.
        encoder_class: name of a concept encoder of one's own, which the model fills in. Nothing is imported by it: whoever loads
            the model gives the class.

    Raises:
        InputError: if the values do not fit each other.
    """

    vocab_size: int = 256
    levels: int = 2
    chunk_size: int = 4
    width: int | list[int] = 256
    depth: int | list[int] = 6
    loops: int | list[int] = 1
    heads: int | list[int] = 4
    horizon: int | Literal["full"] | list[int | Literal["full"]] = 4
    plan_mode: Literal["parallel", "rollout"] = "parallel"
    entry: Literal["cross", "prefix"] = "cross"
    past: Literal["none", "concepts", "states"] = "none"
    detach_plan: bool = False
    match: MatchConfig | None = None
    sharing: Literal["nested", "shared", "separate"] = "nested"
    split: int = 2
    slicing: Literal["heads", "head_size"] = "heads"
    window: int | list[int | None] | None = None
    context: int | None = None
    grid: Literal["start", "end"] = "start"
    composition: str = "sum"
    position_binding: bool = True
    encoder_depth: int = 0
    head: Literal["linear", "mlp"] = "linear"
    noise_width: int = 0
    feed_forward: Literal["swiglu", "gelu"] = "swiglu"
    feed_forward_ratio: float = 8 / 3
    norm: Literal["rms", "layer", "cosine"] = "rms"
    norm_affine: bool = True
    post_norm: bool = False
    tie_embeddings: bool = True
    dropout: float = 0.0
    rope_base: float = 10_000.0
    gradient_checkpointing: bool = False
    encoder_class: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.match, dict):  # out of config.json
            self.match = MatchConfig(**self.match)
        self._check_types()
        hierarchy = self.hierarchy
        if self.context is None:
            self.context = -(-256 // hierarchy.top_span) * hierarchy.top_span
        hierarchy.check_context(self.context)
        self._check_numbers()
        self._check_lists()
        self._check_widths()
        self._check_composition()

    def _check_types(self) -> None:
        """A file may hold anything; what the command line gives has been checked."""
        for name, hint in get_type_hints(type(self)).items():
            if not _fits(getattr(self, name), hint):
                raise InputError(f"{name} can't be {getattr(self, name)!r}: see the docstring of ModelConfig.")

    def _check_numbers(self) -> None:
        names = (
            "vocab_size",
            "width",
            "depth",
            "loops",
            "heads",
            "horizon",
            "split",
            "window",
            "feed_forward_ratio",
            "rope_base",
        )
        for name in names:
            value = getattr(self, name)
            numbers = [v for v in (value if isinstance(value, list) else [value]) if v not in ("full", None)]
            if any(v <= 0 for v in numbers):
                raise InputError(f"{name} must be positive, not {value}.")
        if self.encoder_depth < 0 or self.noise_width < 0:
            raise InputError(
                f"encoder_depth must be 0 or more, and so must noise_width, not {self.encoder_depth} and {self.noise_width}."
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout must be at least 0 and below 1, not {self.dropout}.")

    def _check_lists(self) -> None:
        for name in ("width", "depth", "loops", "heads", "window", "horizon"):
            value = getattr(self, name)
            if not isinstance(value, list):
                continue
            if self.sharing != "separate" and name not in ("loops", "window", "horizon"):
                raise InputError(f"{name} must be one number when sharing is {self.sharing!r}, not {value}.")
            expected = self.levels - 1 if name == "horizon" else self.levels
            if len(value) != expected:
                raise InputError(f"{name} has {len(value)} values where {self.levels} levels need {expected}: {value}.")

    def _check_widths(self) -> None:
        ratio = self.split ** (self.levels - 1)
        if self.sharing == "nested" and self.width % ratio:
            raise InputError(
                f"width {self.width} is not divisible by {ratio} = split {self.split} to the power of "
                f"{self.levels - 1}: nested weights are {self.split} times narrower at every level below the top."
            )
        for level, (width, heads) in enumerate(zip(self.widths, self.level_heads, strict=True)):
            if width == 0 or width % (2 * heads):
                raise InputError(
                    f"width {width} of level {level} must be divisible by twice its {heads} heads, "
                    "because rotary positions turn pairs of features."
                )

    def _check_composition(self) -> None:
        unknown = [name for name in self.composition_chain if name not in OPERATIONS]
        reductions = [name for name in self.composition_chain if name in REDUCTIONS]
        learned = [name for name in self.composition_chain if name in ("linear", "mlp")]
        if unknown or len(reductions) > 1 or not (reductions or learned):
            raise InputError(
                f"composition {self.composition!r} must be a chain of {', '.join(OPERATIONS)} joined by '->' that has one of "
                "sum, mean and max, or ends in linear or mlp."
            )
        if self.match and not self.additive:
            raise InputError(f"match needs a composition that is a sum or mean, not {self.composition!r}.")
        if self.match and self.plan_mode != "rollout":
            raise InputError("match replaces what a rollout goes on from: set plan_mode to 'rollout' or drop match.")

    @property
    def composition_chain(self) -> list[str]:
        """The operations of the composition, in order."""
        return [name.strip() for name in self.composition.split("->")]

    @property
    def additive(self) -> bool:
        """Whether a concept is the normalised sum of its elements, so that they can be read back out of it."""
        return set(self.composition_chain) <= {"sum", "mean", "norm"}

    @property
    def hierarchy(self) -> Hierarchy:
        """The grid of levels."""
        return Hierarchy(self.levels, self.chunk_size)

    @property
    def widths(self) -> list[int]:
        """Width of each level, tokens first."""
        if self.sharing == "nested":
            return [self.width // self.split ** (self.levels - 1 - level) for level in range(self.levels)]
        return self._per_level(self.width)

    @property
    def level_heads(self) -> list[int]:
        """Attention heads of each level, tokens first."""
        if self.sharing == "nested" and self.slicing == "heads":
            return [max(1, self.heads // self.split ** (self.levels - 1 - level)) for level in range(self.levels)]
        return self._per_level(self.heads)

    @property
    def depths(self) -> list[int]:
        """Transformer blocks of each level, tokens first."""
        return self._per_level(self.depth)

    @property
    def level_loops(self) -> list[int]:
        """Times that each level runs through its blocks, tokens first."""
        return self._per_level(self.loops)

    @property
    def windows(self) -> list[int | None]:
        """Attention window of each level, tokens first."""
        return self._per_level(self.window)

    @property
    def context_length(self) -> int:
        """Tokens in a training window, whether given or by default."""
        assert self.context is not None  # since __post_init__
        return self.context

    def horizon_of(self, level: int) -> int:
        """Steps of the plan of a concept level."""
        horizon = self.horizon[level - 1] if isinstance(self.horizon, list) else self.horizon
        return self.hierarchy.length(self.context_length, level) if horizon == "full" else horizon

    def _per_level(self, value: Any) -> list[Any]:
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
