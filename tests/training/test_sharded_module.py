from nextconcept import ConceptModule
from nextconcept.baselines import BeliefState
from tests.helpers import small_config


def test_sharded_parts__are_those_with_parameters():
    """Model and objective; the evaluator has none, and an objective may have none."""
    plain = ConceptModule(small_config(levels=1))
    assert plain.sharded_parts() == [plain.model]
    module = ConceptModule(small_config(levels=1), objective=BeliefState)
    assert module.sharded_parts() == [module.model, module.objective]
