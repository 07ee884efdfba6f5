import torch

from nextconcept.nn.concept_predictor import ConceptPredictor
from nextconcept.nn.transformer import Transformer
from tests.helpers import small_config


def parts() -> tuple[ConceptPredictor, Transformer]:
    config = small_config()
    return ConceptPredictor(config, level=1).eval(), Transformer(config, [1]).eval()


def test_forward__works_alone_and_plans_from_every_anchor():
    predictor, transformer = parts()
    predicted = predictor(transformer, torch.randn(2, 5, 32))
    assert predicted.states.shape == (2, 6, 32)
    assert predicted.plan.shape == (2, 6, 3, 32)


def test_forward__anchor_m_has_seen_concepts_before_m():
    predictor, transformer = parts()
    concepts = torch.randn(1, 6, 32)
    changed = concepts.clone()
    changed[:, 3:] += 1
    before, after = (predictor(transformer, each).plan for each in (concepts, changed))
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.equal(before[:, 4], after[:, 4])
