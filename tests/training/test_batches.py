import re

import pytest
import torch

from nextconcept import InputError
from nextconcept.data.tokenizers import ByteTokenizer, SymbolTokenizer
from nextconcept.data.windows import ConceptBatch
from nextconcept.nn.chunks import Chunker
from nextconcept.training.batches import as_concept_batch, check_batch, check_ends, check_tokenizer
from tests.helpers import RULE_TEXT, small_config

TOKENS = torch.zeros(2, 33, dtype=torch.long)
CONFIG = small_config(context_length=32)


@pytest.mark.parametrize("batch", [TOKENS, (TOKENS,), [TOKENS]], ids=["tensor", "tuple", "list"])
def test_as_concept_batch__all_of_a_plain_tensor_is_learnt(batch: object):
    tokens, mask, ends = as_concept_batch(batch)
    assert tokens is TOKENS
    assert ends is None
    assert mask.all()
    assert mask.shape == TOKENS.shape
    check_batch(ConceptBatch(tokens, mask), CONFIG)


def test_as_concept_batch__a_concept_batch_is_returned():
    batch = ConceptBatch(TOKENS, torch.zeros_like(TOKENS, dtype=torch.bool))
    assert as_concept_batch(batch) is batch


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ("text", "or a ConceptBatch of tokens and mask, not str."),
        ((TOKENS, TOKENS), "not a tuple of 2"),
        (TOKENS[0], "must be (B, T + 1) int64 with T >= 1, not (33,) int64"),
        (TOKENS[:, :1], "not (2, 1) int64"),
        (TOKENS.int(), "not (2, 33) int32"),
        (TOKENS.float(), "not (2, 33) float32"),
        (ConceptBatch(TOKENS, TOKENS), "the mask of a batch must be (2, 33) bool as its tokens, not (2, 33) int64"),
        (torch.zeros(2, 34, dtype=torch.long), "windows of 33 tokens and the one after them, but the model's"),
        (TOKENS + 64, "holds token id 64, but the model's vocabulary goes from 0 to 63"),
        (TOKENS - 1, "holds token id -1, but"),
    ],
)
def test_check_batch__bad(batch: object, message: str):
    with pytest.raises(InputError, match=re.escape(message)):
        check_batch(as_concept_batch(batch), CONFIG)


def test_check_ends__those_of_the_model_pass_and_others_are_refused():
    chunker = Chunker(small_config(vocab_size=256, chunking=["words"], context_length=78))
    tokens = torch.tensor([list(RULE_TEXT)])
    batch = ConceptBatch(tokens, torch.ones_like(tokens, dtype=torch.bool))
    right = chunker.ends(tokens[:, :-1])[1][:, None]
    assert right.any()
    for good in (None, right):
        check_ends(batch._replace(ends=good), chunker)
    for wrong in (~right, right[:, :, 1:], right.long()[..., :2]):
        with pytest.raises(InputError, match=r"the ends of chunks in the batch, \(1, 1, .* are not those"):
            check_ends(batch._replace(ends=wrong), chunker)
    with pytest.raises(InputError, match="finds in the tokens, none"):
        check_ends(batch._replace(ends=right), None)


def test_check_tokenizer():
    check_tokenizer(ByteTokenizer(), None, small_config(vocab_size=256))
    check_tokenizer(ByteTokenizer(), ByteTokenizer(), small_config(vocab_size=300))
    with pytest.raises(InputError, match="tokenizer of the data has 256 tokens, but the model knows 64"):
        check_tokenizer(ByteTokenizer(), None, CONFIG)
    with pytest.raises(InputError, match="the model reads other tokens than this data has"):
        check_tokenizer(SymbolTokenizer(["a"]), ByteTokenizer(), small_config(vocab_size=256))


def test_check_batch__need_not_look_at_ids():
    with torch.device("meta"):  # which has none
        tokens, mask = torch.empty(2, 9, dtype=torch.long), torch.ones(2, 9, dtype=torch.bool)
    check_batch(ConceptBatch(tokens, mask), CONFIG, ids=False)
