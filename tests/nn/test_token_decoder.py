import pytest
import torch

from nextconcept.nn.layers import normalise
from nextconcept.nn.token_decoder import TokenDecoder
from nextconcept.nn.transformer import Transformer
from tests.helpers import small_config


@pytest.mark.parametrize("tied", [True, False])
def test_forward__works_alone_as_a_language_model(tied: bool):
    config = small_config(levels=1, tie_embeddings=tied)
    decoder, transformer = TokenDecoder(config), Transformer(config, [0])
    states, embedding = torch.randn(2, 5, 32), torch.randn(64, 48)
    logits, hidden, stream = decoder(transformer, states, embedding)
    assert torch.equal(hidden, transformer(states, decoder.shape))
    assert not torch.equal(stream, states)  # the second block reads what the first has added to
    torch.testing.assert_close(logits, hidden @ (embedding[:, :32] if tied else decoder.head.weight).T)
    assert len(list(decoder.parameters())) == (0 if tied else 1)


def test_output_matrix__of_normalised_embeddings_is_normalised():
    decoder = TokenDecoder(small_config(levels=1, tie_embeddings=True, norm_embeddings=True))
    embedding = 3 * torch.randn(64, 48)
    torch.testing.assert_close(decoder.output_matrix(embedding), normalise(embedding[:, :32], "rms"))
