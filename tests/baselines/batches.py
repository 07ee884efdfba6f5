"""A small GPT and lines of which the end is learnt, for the tests of the baselines."""

import torch

from nextconcept import NextConceptModel
from nextconcept.nn.model_output import ModelOutput
from tests.helpers import small_config


def gpt(**changes: object) -> NextConceptModel:
    torch.manual_seed(0)
    return NextConceptModel(small_config(**({"levels": 1, "context_length": 16, "vocab_size": 20} | changes)))


def lines(rows: int = 3, answer: int = 11) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and mask; rows have answers of unequal lengths, and none ends with the window."""
    generator = torch.Generator().manual_seed(1)
    tokens, mask = torch.randint(20, (rows, 17), generator=generator), torch.zeros(rows, 17, dtype=torch.bool)
    for row in range(rows):
        mask[row, answer : 16 - row] = True
    return tokens, mask


def outputs(model: NextConceptModel, tokens: torch.Tensor) -> ModelOutput:
    return model(tokens[:, :-1])
