"""The whole model: tokens -> concepts -> plan -> logits.

Shapes: B batch, T tokens, V vocabulary, A anchors, H horizon, D width of a level.
"""

import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from nextconcept.core.chunking import RuleEntry
from nextconcept.core.config import ModelConfig
from nextconcept.core.errors import InputError
from nextconcept.nn.chunk_pointers import ChunkPointers
from nextconcept.nn.chunks import Chunker, Chunks
from nextconcept.nn.concept_encoder import PADDING, ConceptEncoder, takes_chunks
from nextconcept.nn.concept_predictor import ConceptPredictor, Prediction
from nextconcept.nn.draft_head import DraftHead
from nextconcept.nn.flops import flops_per_token
from nextconcept.nn.hub_model import HubModel
from nextconcept.nn.matched_inputs import matched_input
from nextconcept.nn.model_output import Encoding, ModelOutput
from nextconcept.nn.places import EvenPlaces, Places, Unbind, UnevenPlaces
from nextconcept.nn.plan_choice import PlanChoice, check_choice, choose_plan
from nextconcept.nn.plan_input import PlanInput
from nextconcept.nn.prefill import PrefillState
from nextconcept.nn.token_decoder import TokenDecoder
from nextconcept.nn.transformer import Transformer

__all__ = ["NextConceptModel"]


class NextConceptModel(HubModel, library_name="nextconcept", tags=["next-concept-prediction"]):
    """A language model that plans in concepts and writes in tokens.

    Given the number of tokens, ``logits[:, t]`` is a function of ``tokens[:, :t+1]`` alone and
    ``plans[l][:, m]`` of the tokens before ``m c^l`` alone, for every plan source but ``oracle``.
    ``save_pretrained`` and ``from_pretrained`` write and read a folder with safetensors and
    ``config.json``.

    Args:
        config: the architecture.
        encoder: class of the concept encoder; the name of a user's own class is kept in
            ``config.encoder.class_name``.

    Attributes:
        transformers: the transformer that all levels share, or with ``sharing: separate`` one per
            level, tokens first.

    Raises:
        InputError: if the configuration is no ModelConfig, or that of a model with another encoder.
    """

    def __init__(self, config: ModelConfig, encoder: type[ConceptEncoder] = ConceptEncoder) -> None:
        super().__init__()
        if not isinstance(config, ModelConfig):
            raise InputError(f"a model takes a ModelConfig, not {type(config).__name__}: use ModelConfig.from_dict.")
        if not (isinstance(encoder, type) and issubclass(encoder, ConceptEncoder)):
            raise InputError(f"the encoder of a model is a subclass of ConceptEncoder, not {encoder!r}.")
        name = "" if encoder is ConceptEncoder else encoder.__qualname__
        if config.encoder.class_name not in ("", name):
            raise InputError(
                f"the model composes concepts with an encoder of its own, {config.encoder.class_name}, not "
                f"{encoder.__qualname__}: give its class (in Python encoder=, on the command line --encoder or "
                "--model.encoder, and its full name)."
            )
        config = copy.deepcopy(config)  # or a setting that is changed later would change other models too
        config = dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, class_name=name))
        chunker = Chunker(config) if config.hierarchy.rules else None
        if chunker is not None:
            rules: list[RuleEntry] = [dataclasses.asdict(rule) for rule in chunker.hierarchy.rules]
            config = dataclasses.replace(config, chunking=rules)
        self.config = self._hub_mixin_config = config
        levels, shared = range(config.levels), config.sharing != "separate"
        self.transformers = nn.ModuleList()
        if shared:
            self.transformers.append(Transformer(config, levels))
        self.encoder = encoder(config)
        if chunker is not None and not takes_chunks(self.encoder):
            raise InputError(
                f"{encoder.__qualname__}.forward takes tokens alone, but rules cut the chunks of this model: give it a "
                "second argument chunks (docs/extending.md), or train a model without chunking."
            )
        self.predictors = nn.ModuleDict()
        for level in levels[1:]:
            if not shared:
                self.transformers.append(Transformer(config, [level]))
            self.predictors[str(level)] = ConceptPredictor(config, level)
        if not shared:
            # Made last, so that a seed draws the same weights as in earlier versions.
            self.transformers.insert(0, Transformer(config, [0]))
        self.decoder = TokenDecoder(config)
        # Its random weights are drawn last: the other parts are the same with and without it.
        self.draft_head = DraftHead(config) if config.levels > 1 and config.planner.draft_width else None
        self.pointers = ChunkPointers(config) if config.levels > 1 and config.reader.pointers else None
        self.chunker = chunker
        self._level_flops: dict[int, dict[int, float]] = {}

    def forward(
        self,
        tokens: Tensor,
        plan: PlanChoice = "predicted",
        offset: int | None = None,
        prefill: PrefillState | None = None,
        like: ModelOutput | None = None,
    ) -> ModelOutput:
        """Predict the next token after each prefix, and the next concepts after each chunk.

        Args:
            tokens: (B, T) int64, T >= 1.
            plan: what the lower levels read: ``predicted``; ``zero``; ``shuffled`` (another row's,
                which takes two rows); ``oracle`` (the true future as far as the window holds it;
                leaks, diagnostic only); a dictionary with one of these or a tensor (B, A, H, D) per
                level, other levels being ``predicted``; or a function that maps a level and its
                predicted plan to the plan to read.
            offset: padding vectors in front of the tokens, below ``c^(levels - 1)``; by default
                :meth:`ModelConfig.padding`.
            prefill: receives what generation continues from, beside the output.
            like: the output for the same tokens and the ``predicted`` plan, of which everything is
                taken over that does not depend on the plan: the concepts, and what the levels
                predict down to the first one that reads another plan.

        Raises:
            InputError: if ``tokens`` is no tensor of ids, there is no token, an id is outside the
                vocabulary (on the CPU), there is no such plan, no second row to shuffle with, or no
                padding vector for an offset.
        """
        # Generation puts the padding in front itself.
        padded = offset == 0 and self.encoder.padding is not None
        self._check_ids(tokens, PADDING if padded else 0)
        if tokens.dim() != 2 or tokens.shape[1] < 1:
            raise InputError(f"tokens must have shape (batch, time) with time >= 1, not {tuple(tokens.shape)}.")
        check_choice(plan, self.config.hierarchy)
        offset = self._offset(tokens.shape[1], offset)
        caches = prefill.caches if prefill else {}
        ids = nn.functional.pad(tokens, (offset, 0), value=PADDING)
        encoding = self._encode(ids, prefill) if like is None else like.encoding
        states, inputs, chunks = encoding.states, encoding.inputs, encoding.chunks
        predictions: dict[int, Prediction] = {}
        plan_input = None
        for level in reversed(self.config.hierarchy.concept_levels):
            predictor, transformer = self.predictor(level), self.transformer(level)
            if like is not None:
                predicted = like.predictions[level]
            else:
                predicted = predictor(transformer, inputs[level], plan_input, self.feed_back(level), caches.get(level))
            memory = None if self.config.reader.memory == "none" else predicted.states
            if self.config.reader.memory == "concepts":
                memory = predictor.start(inputs[level])
            own = None if chunks is None else chunks[level]
            source = choose_plan(plan, level, predicted.plan, encoding.concepts[level], own)
            if source is not predicted.plan:
                like = None  # the levels below read another plan
            plan_input = self.plan_input(level, source, memory, chunks)
            predictions[level] = predicted
            if prefill:
                prefill.plan_inputs[level] = plan_input
        if self.pointers is not None and plan_input is not None:
            read, pointed_at = self.pointers(states, predictions[1].states, plan_input.places)
            states = states + plan_input.gates.pointer_gate() * read
            if prefill:
                prefill.pointers = pointed_at
        embedding = self.encoder.embedding.weight
        decoded = self.decoder(self.transformer(0), states, embedding, plan_input, caches.get(0))
        logits, last, trunk = (part[:, offset:] if offset else part for part in decoded)
        return ModelOutput(logits, predictions, encoding, offset, last, trunk)

    def _encode(self, ids: Tensor, prefill: PrefillState | None) -> Encoding:
        """Encode (B, P) ids, the padding in front included."""
        states = self.encoder.states(self.encoder.embed(ids, 0), prefill.token_encoder if prefill else None)
        chunks = None if self.chunker is None else self.chunker(ids)
        # A user's own encoder may know nothing of chunks.
        concepts = self.encoder(ids) if chunks is None else self.encoder(ids, chunks)
        inputs = self.encoder.inputs(ids, states, concepts, chunks)
        if self.config.planner.end_state:
            for level, composed in inputs.items():
                ends = self.encoder.end_states(states, level, chunks)
                inputs = inputs | {level: self.predictor(level).with_end(composed, ends)}
        return Encoding(states, concepts, inputs, chunks)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.encoder.embedding.weight.device

    @property
    def num_parameters(self) -> int:
        """Number of weights; those that parts share count once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def transformer(self, level: int) -> Transformer:
        """Return the transformer that runs at a level."""
        return cast(Transformer, self.transformers[min(level, len(self.transformers) - 1)])

    def set_gate_scale(self, level: int, value: float) -> None:
        """Scale the gates through which the level below reads ``level``, pointers included.

        A curriculum engages levels one after another with this factor. It is 1 at first and not
        part of the state dict.

        Args:
            level: a concept level, 1 or more.
            value: factor on the gates; 0 closes them.
        """
        gates = self.part(level - 1).gates
        assert gates is not None, f"there is no plan of level {level}"
        gates.gate_scale = value

    def predictor(self, level: int) -> ConceptPredictor:
        """Return the predictor of a concept level, 1 or more."""
        return cast(ConceptPredictor, self.predictors[str(level)])

    def part(self, level: int) -> TokenDecoder | ConceptPredictor:
        """Return the module of a level: the decoder at level 0, a predictor above."""
        return self.predictor(level) if level else self.decoder

    def compose(self, tokens: Tensor, level: int = 1) -> Tensor:
        """Compose chunks of tokens into concepts of ``level``.

        Args:
            tokens: (..., c^level) int64; where rules cut chunks, any number of tokens, which are
                taken for one chunk.
            level: 1 or more.

        Returns:
            (..., D_level).

        Raises:
            InputError: if there is no such level, ``tokens`` is no tensor of ids, an id is outside
                the vocabulary (on the CPU), chunks of one length have another, or a composition
                without a reduction has no matrix for so many elements.
        """
        self.config.hierarchy.check_level(level)
        self._check_ids(tokens, 0)
        count, span = tokens.shape[-1], self.config.hierarchy.span(level)
        if count < 1 or (self.chunker is None and count != span):
            raise InputError(
                f"{count} tokens are no concept of level {level}, which has "
                + (f"{span}: give as many." if self.chunker is None else "one or more.")
            )
        flat = tokens.reshape(-1, count)
        if self.chunker is None:
            concepts: Tensor = self.encoder(flat)[level]
        else:
            chunks = self.chunker(flat, whole=level)
            most, found = self.config.hierarchy.chunk_lengths(level)[0], int(chunks[level].lengths.max())
            if self.encoder.composition(level).joins is not None and found > most:
                raise InputError(
                    f"{flat.shape[1]} tokens are {found} elements of level {level - 1}, but a concept of level {level} "
                    f"composes {most} at most: give fewer, or a model with a larger max_length."
                )
            concepts = self.encoder(flat, chunks)[level]
        return concepts[:, 0].view(*tokens.shape[:-1], -1)

    def decode_plan(self, plan: Tensor, top_k: int = 5, level: int = 1) -> Tensor:
        """Return the likeliest tokens of a plan at each position, read back by unbinding.

        Args:
            plan: (B, A, H, D_level), as in ``ModelOutput.plans``.
            top_k: alternatives per position.
            level: the level of the plan.

        Returns:
            (B, A, H, c^level, top_k) token ids, the likeliest first; where rules cut chunks, at as
            many places as a chunk may have. Without position binding the ids are equal at all
            positions.

        Raises:
            InputError: if there is no such level or not so many tokens, the plan has the width of
                another level, or the composition is not additive, so that nothing can be read back.
        """
        self.config.hierarchy.check_level(level)
        if not self.config.encoder.additive:
            raise InputError(
                f"a concept of the composition {self.config.encoder.composition!r} can't be read back into tokens: "
                "that takes one of sum or mean."
            )
        if not 1 <= top_k <= self.config.vocab_size:
            raise InputError(f"top_k must be from 1 to the {self.config.vocab_size} tokens of the model, not {top_k}.")
        return self.encoder.read_back_logits(self.encoder.read_back(plan, level)).topk(top_k).indices

    def plan_input(
        self, level: int, plan: Tensor, memory: Tensor | None = None, chunks: dict[int, Chunks] | None = None
    ) -> PlanInput:
        """Return what the level below reads, with its gates and where its positions stand.

        Args:
            level: level of the plan, 1 or more.
            plan: (B, A, H, D) concepts, without the norm.
            memory: (B, A, D) states or concepts at the anchors, as ``reader.memory`` says.
            chunks: where rules cut the text.

        Raises:
            InputError: if there is no such level, the plan has another shape, or the chunks are
                missing that rules cut.
        """
        self.config.hierarchy.check_level(level)
        if not isinstance(plan, Tensor) or plan.dim() != 4 or plan.shape[-1] != self.config.widths[level]:
            found = tuple(plan.shape) if isinstance(plan, Tensor) else type(plan).__name__
            raise InputError(
                f"a plan of level {level} has shape (rows, anchors, steps, {self.config.widths[level]}), not {found}."
            )
        if chunks is None and self.chunker is not None:
            raise InputError("rules cut the chunks of this model: give chunks, as in the output of the model.")
        if self.config.planner.detach:
            plan = plan.detach()
        element, hierarchy = int(level == 1), self.config.hierarchy
        unbind = self.unbind(level) if self.config.reader.plan_conditioning == "unbind" else None
        places: Places
        if chunks is None:
            places = EvenPlaces(hierarchy.chunk_size, element, hierarchy.span(level - 1))
        else:
            places = UnevenPlaces(chunks[level], element, hierarchy.rules[level - 1].mean_length)
        norm, gates = self.encoder.composition(level).norm, self.part(level - 1).gates
        assert gates is not None  # every level below another has them
        return PlanInput(norm(plan), memory, self.config.memory_window(level), gates, places, unbind)

    def flops_per_token(self, time: int) -> float:
        """Count the floating-point operations of a forward pass over ``time`` tokens, per token.

        A multiplication and an addition are two operations; attention is included. See
        :func:`~nextconcept.nn.flops.flops_per_token`.
        """
        return sum(self.level_flops(time).values())

    def level_flops(self, time: int) -> dict[int, float]:
        """Return the part that each level has in :meth:`flops_per_token`.

        Level 0 includes encoder and pointers.
        """
        if time not in self._level_flops:  # a pass over shapes takes as long as a small step
            levels = self.config.hierarchy.concept_levels
            total, above = flops_per_token(self, time, [f"predictors.{level}" for level in levels])
            self._level_flops[time] = {0: total - sum(above), **dict(zip(levels, above, strict=True))}
        return dict(self._level_flops[time])

    def _check_ids(self, tokens: Tensor, least: int) -> None:
        """Check token ids; a GPU would have to wait for their range, which the look-up checks."""
        if not isinstance(tokens, Tensor):
            raise InputError(f"tokens must be a tensor of int64 ids, not {type(tokens).__name__}.")
        if tokens.dtype not in (torch.int32, torch.int64):
            raise InputError(f"tokens must be int64 ids, not {tokens.dtype}.")
        if torch.compiler.is_compiling() or tokens.device.type != "cpu" or not tokens.numel():
            return
        lowest, highest = (int(value) for value in tokens.aminmax())
        if lowest < least or highest >= self.config.vocab_size:
            raise InputError(
                f"token id {lowest if lowest < least else highest} is outside the model's vocabulary, from 0 to "
                f"{self.config.vocab_size - 1}."
            )

    def _offset(self, time: int, offset: int | None) -> int:
        if offset is None:
            return self.config.padding(time)
        span = self.config.hierarchy.alignment
        if offset and (self.encoder.padding is None or not 0 <= offset < span):
            raise InputError(
                f"offset {offset} needs encoder.chunk_alignment 'end' and must be below {span}, the tokens of a "
                "top-level chunk."
            )
        return offset

    def feed_back(self, level: int) -> Callable[[Tensor], Tensor]:
        """Return the map from a prediction of ``level`` to the next input of its rollout."""
        settings, norm = self.config.planner.matching, self.encoder.composition(level).norm
        if settings is None:
            return norm

        def matched(concept: Tensor) -> Tensor:
            """Return the compositions of tokens nearest to predicted concepts, (..., D)."""
            return matched_input(self.encoder, self.chunker, norm(concept), level, settings, self.training)

        return matched

    def unbind(self, level: int) -> Unbind:
        """Return the map from planned concepts of ``level`` and places in tokens to elements."""
        return functools.partial(self.encoder.composition(level).bind_at, undo=True)
