"""Groups of rarer settings of a model."""

import math
from dataclasses import dataclass
from typing import Literal

from nextconcept.core.errors import InputError
from nextconcept.core.settings import check_types, from_dict

__all__ = [
    "REDUCTIONS",
    "BlockConfig",
    "EncoderConfig",
    "MatchingConfig",
    "NestedConfig",
    "PlannerConfig",
    "ReaderConfig",
]

REDUCTIONS = ("sum", "mean", "max")
OPERATIONS = (*REDUCTIONS, "linear", "mlp", "geglu", "norm")


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
        check_types(self, "planner.matching.")
        if self.top_k < 1 or self.beam < 1 or not 0 <= self.temperature < math.inf:
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
        check_types(self, "encoder.")
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

    @property
    def reads_places(self) -> bool:
        """Whether the elements of a concept can be read back each at its own place."""
        return self.additive and self.position_binding


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
        end_state: add a linear map of the state of the token that ends each chunk, zero at first,
            to the input of the predictor; with ``encoder.depth`` this is the state of the token
            encoder, which has read what came before.
        detach: stop gradients where a plan is read, by the level below or by the next step of a
            rollout.
        draft_width: hidden features of the draft head, which reads the tokens of a plan one after
            the other, each given the ones before it, for faster drafts; 0 for none. The concept
            loss ``draft`` trains it, and no gradient of it reaches anything else.
        matching: matching of predicted concepts in rollouts, or None.

    Raises:
        InputError: if ``noise_width`` or ``draft_width`` is negative, or matching is asked for
            without rollouts.
    """

    mode: Literal["parallel", "rollout"] = "parallel"
    plan_head: Literal["linear", "mlp", "geglu"] = "linear"
    noise_width: int = 0
    shift: bool = False
    end_state: bool = False
    detach: bool = False
    draft_width: int = 0
    matching: MatchingConfig | None = None

    def __post_init__(self) -> None:
        if isinstance(self.matching, dict):
            self.matching = from_dict(MatchingConfig, self.matching, "planner.matching.")
        check_types(self, "planner.")
        for name in ("noise_width", "draft_width"):
            if getattr(self, name) < 0:
                raise InputError(f"planner.{name} must be 0 or more, not {getattr(self, name)}.")
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
        memory: what a level also reads of the chunks before its own: ``none``; by cross-attention
            their ``concepts``, or the predictor's hidden ``states``; or through a linear map the
            state of the ``anchor`` alone at which its plan was made.
        pointers: earlier chunks, most like the own one by the state of the predictor at their
            anchors, that each token position also reads at its own place; 0 for none.
        gated: whether gates, zero at first, scale what is read. Without gates a block reads at full
            strength from the first step, ``block.post_norm`` also normalises what is read, and the
            model can't grow.
        rotated: whether cross-attention to plan and memory uses rotary positions; without them a
            plan is read as a set.
        order: whether a block reads ``after`` or ``before`` its self-attention; a ``prefix`` is
            part of self-attention.

    Raises:
        InputError: if ``pointers`` is negative.
    """

    plan_conditioning: Literal["cross", "prefix", "unbind"] = "cross"
    memory: Literal["none", "concepts", "states", "anchor"] = "none"
    pointers: int = 0
    gated: bool = True
    rotated: bool = True
    order: Literal["after", "before"] = "after"

    def __post_init__(self) -> None:
        check_types(self, "reader.")
        if self.pointers < 0:
            raise InputError(f"reader.pointers must be 0 or more, not {self.pointers}.")


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
            activations; not those of a predictor with ``planner.mode: rollout``.

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
        check_types(self, "block.")
        for name in ("feed_forward_ratio", "rope_base", "num_kv_heads", "head_size"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < math.inf:
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
        check_types(self, "nested.")
        if self.width_ratio < 1:
            raise InputError(f"nested.width_ratio must be 1 or more, not {self.width_ratio}.")
