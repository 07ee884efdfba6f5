from collections.abc import Callable
from functools import partial

import pytest
import torch

from nextconcept.core.errors import InputError
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.nn.layers import normalise
from nextconcept.nn.matching import match
from tests.helpers import small_config


def test_forward__composes_level_by_level():
    encoder = ConceptEncoder(small_config(levels=3, encoder__position_binding=False))
    tokens = torch.randint(64, (2, 37))
    concepts = encoder(tokens)
    assert {level: c.shape for level, c in concepts.items()} == {1: (2, 9, 16), 2: (2, 2, 32)}
    embedded = encoder.embedding.weight[tokens]
    first = normalise(embedded[:, :36, :16].unflatten(1, (9, 4)).sum(2), "rms")
    torch.testing.assert_close(concepts[1], first)
    lower = normalise(embedded[:, :32].unflatten(1, (8, 4)).sum(2), "rms")
    torch.testing.assert_close(concepts[2], normalise(lower.unflatten(1, (2, 4)).sum(2), "rms"))


@pytest.mark.parametrize("binding", [True, False])
def test_forward__flat_concepts_are_norms_of_one_sum(binding: bool):
    encoder = ConceptEncoder(small_config(levels=3, encoder__flat=True, encoder__position_binding=binding))
    tokens = torch.randint(64, (2, 37))
    concepts = encoder(tokens)
    for level, span in ((1, 4), (2, 16)):
        count, width = 37 // span, 8 * 2**level
        chunks = encoder.embedding.weight[tokens[:, : count * span], :width].unflatten(1, (count, span))
        expected = normalise(encoder.composition(level).bind(chunks, 1).sum(2), "rms")
        torch.testing.assert_close(concepts[level], expected)


def test_embed__normalises_the_inputs_of_level_0_alone():
    encoder = ConceptEncoder(small_config(levels=2, norm_embeddings=True, block__norm="cosine"))
    tokens = torch.randint(64, (2, 8))
    torch.testing.assert_close(encoder.embed(tokens, 0).norm(dim=-1), torch.ones(2, 8))
    assert torch.equal(encoder.embed(tokens, 1), encoder.embedding.weight[tokens])


@pytest.mark.parametrize("binding", [True, False])
def test_forward__order_within_a_chunk_matters_with_binding_only(binding: bool):
    encoder = ConceptEncoder(small_config(encoder__position_binding=binding))
    concepts, swapped = (encoder(torch.tensor([ids]))[1] for ids in ([1, 2, 3, 4], [2, 1, 3, 4]))
    assert torch.allclose(concepts, swapped, atol=1e-6) != binding


def test_read_back__recovers_every_token_of_a_concept_of_level_2():
    encoder = ConceptEncoder(small_config(levels=3, width=1024, chunk_size=3, num_heads=4, depth=1))
    tokens = torch.randint(64, (2, 18))
    nearest = encoder.read_back(encoder(tokens)[2], 2).argmax(-1)
    assert torch.equal(nearest.flatten(1), tokens)


def test_read_back_logits__of_weights_without_a_prior():
    encoder = ConceptEncoder(small_config())
    weights = encoder.state_dict()
    del weights["token_prior"]
    torch.nn.init.ones_(encoder.token_prior)
    encoder.load_state_dict(weights)
    cosines = torch.rand(3, 64)
    assert torch.equal(encoder.read_back_logits(cosines, 2.0), 2 * cosines)


def test_inputs__token_encoder_changes_inputs_but_not_targets():
    encoder = ConceptEncoder(small_config(encoder__depth=1)).eval()
    tokens = torch.randint(64, (2, 16))
    concepts = encoder(tokens)
    inputs = encoder.inputs(tokens, encoder.states(encoder.embed(tokens, 0)), concepts)
    assert inputs[1].shape == concepts[1].shape
    assert not torch.allclose(inputs[1], concepts[1])


def test_states__are_causal():
    encoder = ConceptEncoder(small_config(encoder__depth=2)).eval()
    tokens = torch.randint(64, (1, 9))
    changed = tokens.clone()
    changed[:, 4:] = (changed[:, 4:] + 1) % 64
    before, after = (encoder.states(encoder.embed(ids, 0)) for ids in (tokens, changed))
    assert torch.equal(before[:, :4], after[:, :4])


@pytest.mark.parametrize("depth", [1, 3])
def test_states__begin_near_the_embedding(depth: int):
    """What the encoder adds at first is small beside the embedding, as in any stack of blocks that
    go on from one another."""
    encoder = ConceptEncoder(small_config(encoder__depth=depth)).eval()
    embedded = encoder.embed(torch.randint(64, (2, 16)), 0)
    added = encoder.states(embedded) - embedded
    assert 0 < added.norm() < embedded.norm()


def test_elements_and_end_states__the_token_encoder_fills_the_columns_of_level_0():
    encoder = ConceptEncoder(small_config(levels=3, encoder__depth=1))  # widths 8, 16, 32
    tokens, states = torch.randint(64, (2, 37)), torch.randn(2, 37, 8)
    elements = encoder.elements(tokens, states, 2)
    assert torch.equal(elements[..., :8], states)
    assert torch.equal(elements[..., 8:], encoder.embed(tokens, 2)[..., 8:])
    assert torch.equal(encoder.end_states(states, 1), states[:, 3::4])
    assert torch.equal(encoder.end_states(states, 2), states[:, [15, 31]])


def test_look_up__scales_by_the_columns_that_are_read():
    encoder, tokens = ConceptEncoder(small_config(levels=3)), torch.randint(64, (2, 5))
    for width in (8, 32):
        expected = encoder.embedding.weight[tokens][..., :width] * width**0.5
        torch.testing.assert_close(encoder.look_up(tokens, width), expected)
    scaled_later = ConceptEncoder(small_config(levels=3, scale_inputs=True))
    assert torch.equal(scaled_later.look_up(tokens, 32), scaled_later.embedding.weight[tokens])


@pytest.mark.parametrize(
    ("width", "level", "message"),
    [
        (32, 1, "a concept of level 1 has 16 features, not 32: give the level that the concepts are of"),
        (16, 2, "a concept of level 2 has 32 features, not 16"),
        (32, 3, "the model has no concept level 3: those are 1, 2"),
        (8, 0, "the model has no concept level 0"),
    ],
)
@pytest.mark.parametrize(
    "read", [ConceptEncoder.read_back, partial(match, top_k=2, beam=2)], ids=["read_back", "match"]
)
def test_reading__concepts_of_another_level(read: Callable, width: int, level: int, message: str):
    with pytest.raises(InputError, match=message):
        read(ConceptEncoder(small_config(levels=3)), torch.randn(2, width), level=level)
