"""Lightning callbacks."""

from nextconcept.training.callbacks.compute_budget import ComputeBudget
from nextconcept.training.callbacks.finite_gradients import FiniteGradients
from nextconcept.training.callbacks.growth_warmup import GrowthWarmup
from nextconcept.training.callbacks.intervention_table import InterventionTable
from nextconcept.training.callbacks.last_checkpoint import LastCheckpoint
from nextconcept.training.callbacks.level_curriculum import LevelCurriculum
from nextconcept.training.callbacks.plan_view import PlanView
from nextconcept.training.callbacks.progress import ConceptProgressBar
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
    "TensorBoardLayout",
    "PlanView",
    "StoreModelMetadata",
    "SurprisalWriter",
    "WritingSamples",
]
