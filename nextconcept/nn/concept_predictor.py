"""Concepts -> plan: regression of the next concepts of one level.

Shapes: B batch, N concepts, A = N + 1 anchors, H horizon, D width of the level, S noise samples.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextconcept.core.config import ModelConfig
from nextconcept.nn.feed_forward import GeGlu
from nextconcept.nn.initial_weights import draw
from nextconcept.nn.layers import Linear, Norm
from nextconcept.nn.level_context import RolloutCache
from nextconcept.nn.level_weights import LevelShape
from nextconcept.nn.plan_input import PlanGates, PlanInput
from nextconcept.nn.transformer import Transformer

__all__ = ["ConceptPredictor", "PlanHead", "Prediction"]


@dataclass
class Prediction:
    """Output of a predictor.

    Attributes:
        plan: (B, A, H, D) predicted concepts.
        states: (B, A, D) hidden states of the anchors.
        steps: (B, A, H or 1, D) hidden states that the head maps to the plan.
    """

    plan: Tensor
    states: Tensor
    steps: Tensor


class PlanHead(nn.Module):
    """Maps hidden states to predicted concepts, at last by one linear map per step of the horizon.

    Args:
        config: the model's configuration.
        width: D.
        maps: concepts predicted from one state.
    """

    def __init__(self, config: ModelConfig, width: int, maps: int) -> None:
        super().__init__()
        self.norm = Norm(width, config.block.norm, config.block.norm_affine)
        kind, inner = config.planner.plan_head, width
        self.hidden: Linear | GeGlu | None = None
        if kind == "mlp":
            self.hidden = Linear(width, width)
        elif kind == "geglu":
            self.hidden, inner = GeGlu(width, config.block), config.block.hidden_width(width)
        self.noise = Linear(config.planner.noise_width, width) if config.planner.noise_width else None
        self.maps = nn.Parameter(torch.empty(maps, width, inner))
        draw(self.maps)
        for linear in (self.hidden, self.noise):
            if isinstance(linear, Linear):
                draw(linear.weight)

    def forward(self, states: Tensor, noise: Tensor | None = None) -> Tensor:
        """Predict concepts.

        Args:
            states: (..., D).
            noise: (..., noise_width), or None for the central prediction.

        Returns:
            (..., maps, D).
        """
        x = self.norm(states)
        if noise is not None:
            assert self.noise is not None, "a model without noise_width takes no noise"
            x = x + self.noise(noise)
        if self.hidden is not None:
            x = self.hidden(x) if isinstance(self.hidden, GeGlu) else F.gelu(self.hidden(x))
        return torch.einsum("...d,hed->...he", x, self.maps.to(x.dtype))


class ConceptPredictor(nn.Module):
    """Regresses concepts ``k_m, k_(m+1), ...`` from the state of a causal transformer at anchor m.

    The transformer runs over ``[BOS, k_0, ..., k_(N-1)]``.

    Args:
        config: the model's configuration.
        level: the level to predict, 1 or more.
    """

    def __init__(self, config: ModelConfig, level: int) -> None:
        super().__init__()
        self.shape = LevelShape.of(config, level)
        self.horizon, self.rollout = config.horizon_of(level), config.planner.mode == "rollout"
        self.detach, self.noise_width = config.planner.detach, config.planner.noise_width
        width = self.shape.width
        self.bos = nn.Parameter(torch.randn(width) / self.shape.input_scale)
        reads_plan = level + 1 < config.levels
        self.gates = PlanGates(config, level) if reads_plan else None
        self.shift = Linear(width, width) if config.planner.shift else None
        self.end = Linear(config.widths[0], width) if config.planner.end_state else None
        for added in (self.shift, self.end):
            if added is not None:
                nn.init.zeros_(added.weight)
        self.head = PlanHead(config, width, 1 if self.rollout else self.horizon)

    def with_end(self, concepts: Tensor, states: Tensor) -> Tensor:
        """Add states (..., D_0) of the tokens that end chunks to the compositions (..., D)."""
        return concepts if self.end is None else concepts + self.end(states)

    def start(self, concepts: Tensor) -> Tensor:
        """Put the BOS in front: (B, N, D) to (B, A, D), the transformer's inputs."""
        bos = self.bos.to(concepts.dtype).expand(concepts.shape[0], 1, -1)
        return torch.cat((bos, concepts), 1)

    def pair(self, inputs: Tensor, previous: Tensor) -> Tensor:
        """Put (..., D) inputs beside those of the anchors before, with ``planner.shift``."""
        return inputs if self.shift is None else inputs + self.shift(previous)

    def forward(
        self,
        transformer: Transformer,
        concepts: Tensor,
        plan_input: PlanInput | None = None,
        feed_back: Callable[[Tensor], Tensor] = lambda concept: concept,
        cache: RolloutCache | None = None,
    ) -> Prediction:
        """Predict from every anchor at once.

        In a rollout, step j of anchor m attends to the true prefix (< m) and to the anchor's own
        earlier predictions. All anchors take a step together, so that H steps cost H passes.

        Args:
            transformer: the weights.
            concepts: (B, N, D).
            plan_input: plan and memory of the level above.
            feed_back: maps a prediction (B, A, D) to the next input of a rollout, by norm and
                matching.
            cache: receives the keys and values of the teacher-forced pass; a rollout makes a cache
                if none is passed in.

        Returns:
            The prediction; its values at anchor m are a function of concepts < m alone.
        """
        inputs = self.start(concepts)
        cache = cache or (RolloutCache() if self.rollout else None)

        def run(paired: Tensor, step: int) -> Tensor:
            """Return the states (B, A, D) of a step of the rollout."""
            if cache is not None:
                cache.step = step
            states: Tensor = transformer(paired, self.shape, plan_input, cache)
            return states

        return self.predict(inputs, F.pad(inputs, (0, 0, 1, 0))[:, :-1], run, feed_back)

    def predict(
        self,
        inputs: Tensor,
        previous: Tensor,
        run: Callable[[Tensor, int], Tensor],
        feed_back: Callable[[Tensor], Tensor],
    ) -> Prediction:
        """Predict from anchors: all steps from one state, or in a rollout from one state each.

        Args:
            inputs: (B, A, D) the anchors' inputs.
            previous: (B, A, D) those of the anchors before.
            run: maps inputs (B, A, D) and the step of the rollout to states (B, A, D).
            feed_back: maps a prediction (B, A, D) to the next input of a rollout.

        Returns:
            The prediction.
        """
        states = [run(self.pair(inputs, previous), 0)]
        plans = [self.head(states[0])]
        if not self.rollout:
            return Prediction(plans[0], states[0], states[0].unsqueeze(2))
        for step in range(1, self.horizon):
            last = plans[-1].squeeze(2)
            previous, inputs = inputs, feed_back(last.detach() if self.detach else last)
            states.append(run(self.pair(inputs, previous), step))
            plans.append(self.head(states[-1]))
        return Prediction(torch.cat(plans, 2), states[0], torch.stack(states, 2))

    def sample(self, steps: Tensor, count: int) -> Tensor:
        """Draw plans with a noise vector for each.

        Args:
            steps: (B, A, H or 1, D), as :attr:`Prediction.steps`.
            count: S, plans to draw.

        Returns:
            (S, B, A, H, D).
        """
        size = (count, *steps.shape[:-1], self.noise_width)
        noise = torch.randn(size, device=steps.device, dtype=steps.dtype)
        plans: Tensor = self.head(steps.expand(count, *steps.shape), noise).flatten(-3, -2)
        return plans
