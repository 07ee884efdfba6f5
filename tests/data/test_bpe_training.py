import pytest

from nextconcept.core.errors import InputError
from nextconcept.data.bpe_training import train_bpe


@pytest.mark.parametrize(
    ("texts", "size", "message"),
    [
        (["hello"], 256, "vocab_size 256 is too small for BPE"),
        ("hello world " * 20, 300, "texts must be several texts, not one: put it into a list"),
    ],
)
def test_train_bpe__bad_input(texts: list[str] | str, size: int, message: str):
    with pytest.raises(InputError, match=message):
        train_bpe(texts, size)
