import torch

from nextconcept.nn.concept_predictor import ConceptPredictor
from tests.conftest import small_config


def test_forward__works_alone_and_plans_from_every_anchor():
    predictor = ConceptPredictor(small_config(), level=1)
    states, plan = predictor(torch.randn(2, 5, 32))
    assert states.shape == (2, 6, 32)
    assert plan.shape == (2, 6, 3, 32)


def test_forward__anchor_m_has_seen_concepts_before_m():
    predictor = ConceptPredictor(small_config(), level=1).eval()
    concepts = torch.randn(1, 6, 32)
    changed = concepts.clone()
    changed[:, 3:] += 1
    before, after = predictor(concepts)[1], predictor(changed)[1]
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.equal(before[:, 4], after[:, 4])
