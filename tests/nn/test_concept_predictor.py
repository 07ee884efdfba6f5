import torch

from nextconcept.nn.concept_predictor import ConceptPredictor
from tests.helpers import small_config


def test_forward__works_alone_and_plans_from_every_anchor():
    predictor = ConceptPredictor(small_config(), level=1)
    predicted = predictor(torch.randn(2, 5, 32))
    assert predicted.states.shape == (2, 6, 32)
    assert predicted.plan.shape == (2, 6, 3, 32)


def test_forward__anchor_m_has_seen_concepts_before_m():
    predictor = ConceptPredictor(small_config(), level=1).eval()
    concepts = torch.randn(1, 6, 32)
    changed = concepts.clone()
    changed[:, 3:] += 1
    before, after = predictor(concepts).plan, predictor(changed).plan
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.equal(before[:, 4], after[:, 4])
