import pytest
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


@pytest.mark.parametrize("detach", [False, True])
def test_forward__detach_cuts_a_rollout_into_steps(detach: bool):
    config = small_config(planner__mode="rollout", planner__detach=detach)
    predictor, transformer, fed = ConceptPredictor(config, level=1), Transformer(config, [1]), []
    predictor(transformer, torch.randn(2, 5, 32), feed_back=lambda concept: fed.append(concept) or concept)
    assert [concept.requires_grad for concept in fed] == 2 * [not detach]


@pytest.mark.parametrize("scale_inputs", [False, True])
def test_start__the_bos_is_as_large_as_a_concept_once_inputs_are_scaled(scale_inputs: bool):
    predictor = ConceptPredictor(small_config(width=256, scale_inputs=scale_inputs), level=1)
    assert (predictor.bos * predictor.shape.input_scale).std().item() == pytest.approx(1, rel=0.15)
