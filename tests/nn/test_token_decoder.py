import torch

from nextconcept.nn.token_decoder import TokenDecoder
from tests.helpers import small_config


def test_forward__works_alone_as_a_language_model():
    decoder = TokenDecoder(small_config(levels=1))
    assert decoder(torch.randn(2, 5, 32)).shape == (2, 5, 64)


def test_init__tied_embedding_is_not_a_parameter_of_its_own():
    embedding = torch.nn.Embedding(64, 32)
    decoder = TokenDecoder(small_config(levels=1), embedding=embedding)
    assert all(parameter is not embedding.weight for parameter in decoder.parameters())
    states = torch.randn(1, 3, 32)
    hidden = decoder.transformer(states, decoder.shape)
    torch.testing.assert_close(decoder(states), hidden @ embedding.weight.T)
