"""Lightning callbacks."""

from nextconcept.callbacks.compute_budget import ComputeBudget
from nextconcept.callbacks.finite import FiniteGradients
from nextconcept.callbacks.grown_parts import GrownParts
from nextconcept.callbacks.intervention_table import InterventionTable
from nextconcept.callbacks.last_checkpoint import LastCheckpoint
from nextconcept.callbacks.level_curriculum import LevelCurriculum
from nextconcept.callbacks.level_curves import LevelCurves
from nextconcept.callbacks.path_accuracy import PathAccuracy
from nextconcept.callbacks.plan_view import PlanView
from nextconcept.callbacks.progress import ConceptProgressBar
from nextconcept.callbacks.self_contained import SelfContained
from nextconcept.callbacks.surprisal_writer import SurprisalWriter
from nextconcept.callbacks.writing_samples import WritingSamples

__all__ = [
    "ComputeBudget",
    "ConceptProgressBar",
    "FiniteGradients",
    "GrownParts",
    "InterventionTable",
    "LastCheckpoint",
    "LevelCurriculum",
    "LevelCurves",
    "PathAccuracy",
    "PlanView",
    "SelfContained",
    "SurprisalWriter",
    "WritingSamples",
]
