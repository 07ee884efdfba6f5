r"""Objectives of the field that plan without concepts, for comparisons at equal compute.

Each is an :class:`~nextconcept.training.objectives.Objective` for a model with one level, a GPT: it
shares the model, the data, the optimizer, the budget and the metrics, and a seed draws the same
initial weights of the model for all of them. The command line takes their full names:

.. code-block:: text

    nextconcept fit --config star_graph/gpt_d2_l5 \
        --model.objective nextconcept.baselines.MultiToken --model.objective.tokens_ahead 4
"""

from nextconcept.baselines.belief_state import BeliefState
from nextconcept.baselines.multi_token import MultiToken
from nextconcept.baselines.next_latent import NextLatent
from nextconcept.baselines.teacherless import Teacherless

__all__ = ["BeliefState", "MultiToken", "NextLatent", "Teacherless"]
