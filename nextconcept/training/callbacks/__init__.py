"""Lightning callbacks.

Callbacks may be given in any order. Where an order matters, it comes from the hook or from
Lightning, which moves checkpoint callbacks behind all others:

- :class:`ComputeBudget` sets the number of steps in ``setup``, before the module's
  ``configure_optimizers`` asks for it to make the schedule.
- :class:`LevelCurriculum` sets its factors in ``on_train_batch_start``, before the step that they
  are for.
- :class:`FiniteGradients` looks in ``on_before_optimizer_step``, before weights change.
- :class:`GrowthWarmup` and :class:`ComputeBudget` finish a step in ``on_train_batch_end``, and
  :class:`StoreModelMetadata` notes what was measured in ``on_validation_end``, before
  :class:`LastCheckpoint`, a checkpoint callback, saves in either hook.
"""

from nextconcept.training.callbacks.compute_budget import ComputeBudget
from nextconcept.training.callbacks.concept_progress_bar import ConceptProgressBar
from nextconcept.training.callbacks.finite_gradients import FiniteGradients
from nextconcept.training.callbacks.growth_warmup import GrowthWarmup
from nextconcept.training.callbacks.intervention_table import InterventionTable
from nextconcept.training.callbacks.last_checkpoint import LastCheckpoint
from nextconcept.training.callbacks.level_curriculum import LevelCurriculum
from nextconcept.training.callbacks.level_summary import LevelSummary
from nextconcept.training.callbacks.plan_view import PlanView
from nextconcept.training.callbacks.store_model_metadata import StoreModelMetadata
from nextconcept.training.callbacks.surprisal_writer import SurprisalWriter
from nextconcept.training.callbacks.tensorboard_layout import TensorBoardLayout
from nextconcept.training.callbacks.writing_samples import WritingSamples

__all__ = [
    "ComputeBudget",
    "ConceptProgressBar",
    "FiniteGradients",
    "GrowthWarmup",
    "InterventionTable",
    "LastCheckpoint",
    "LevelCurriculum",
    "LevelSummary",
    "PlanView",
    "StoreModelMetadata",
    "SurprisalWriter",
    "TensorBoardLayout",
    "WritingSamples",
]
