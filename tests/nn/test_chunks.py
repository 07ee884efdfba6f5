import copy
import random
from itertools import pairwise

import pytest
import torch

from nextconcept import InputError, ModelConfig, NextConceptModel
from nextconcept.core.chunk_ends import rule_ends
from nextconcept.core.chunk_rules import RULES, ends_behind
from nextconcept.data.tokenizers import ByteTokenizer
from nextconcept.nn.chunk_lengths import length_odds, likeliest_tokens
from nextconcept.nn.chunks import Chunker, chunk_of_tokens, in_tokens
from nextconcept.nn.growth import grow, shrink
from nextconcept.nn.layers import binding_angles, rotations
from nextconcept.nn.uneven_matching import match_uneven
from tests.core.test_chunking import OWN
from tests.helpers import small_config

BYTES = [bytes([byte]) for byte in range(256)]
TEXT = b"The quick (brown) fox. It jumps!  Over\n\nthe lazy dog, and on; 123 times.\nEnd"


def chunker_of(*rules: object, context_length: int = 96) -> Chunker:
    return Chunker(ModelConfig(levels=len(rules) + 1, chunking=list(rules), context_length=context_length))


def texts_of(chunker: Chunker, text: bytes, level: int) -> list[bytes]:
    """The complete chunks of a level."""
    chunks = chunker(torch.tensor([list(text)]))[level]
    starts = chunks.start[0, : int(chunks.counts[0]) + 1].tolist()
    return [text[start:end] for start, end in pairwise(starts)]


@pytest.mark.parametrize("rule", [*RULES.values(), lambda: ends_behind("é|"), lambda: ends_behind("☃ß")])
def test_rule_ends__equals_reading_token_by_token(rule: object):
    following, ends = (torch.from_numpy(table) for table in rule().on_tokens(BYTES))
    draw = random.Random(0)
    tokens = torch.tensor([[*"".join(draw.choices("ab.! \n'|é☃ß", k=70)).encode()][:70] for _ in range(8)])
    found = rule_ends(tokens, following, ends)
    for row in range(8):
        state = 0
        for position, token in enumerate(tokens[row].tolist()):
            assert found[row, position] == ends[state, token]
            state = int(following[state, token])
    assert found.any()


def test_chunker__words_sentences_and_numbers_of_words():
    assert texts_of(chunker_of("words"), TEXT, 1)[:5] == [b"The ", b"quick ", b"(brown)", b" fox.", b" It "]
    # The space that ends a sentence lies in the next word, which is thus the last of the sentence.
    by_sentence = texts_of(chunker_of("words", "sentences"), TEXT, 2)
    assert by_sentence == [b"The quick (brown) fox. It ", b"jumps!  Over\n", b"\nthe "]
    assert texts_of(chunker_of("sentences"), TEXT, 1) == [b"The quick (brown) fox. ", b"It jumps! "]
    assert texts_of(chunker_of("words", 3), TEXT, 2)[:2] == [b"The quick (brown)", b" fox. It jumps!"]


def test_chunker__long_chunks_are_cut_and_the_last_ones_stay_together():
    assert texts_of(chunker_of({"rule": "lines", "max_length": 4, "mean_length": 1}), b"abcdefghi\nj\n", 1) == [
        b"abcd", b"efgh", b"i\n", b"j\n",
    ]  # fmt: skip
    few = chunker_of({"rule": "words", "max_length": 8, "mean_length": 8}, context_length=16)
    assert texts_of(few, b"a b c d e f g h", 1) == [b"a ", b"b "]


@pytest.mark.parametrize("text", [b"a", b" ", b"aaaaaaaaaaaaaaaaaaaaaaaa", b"| | | | ", b"||||||||"])
@pytest.mark.parametrize("rules", [("words",), ({"ends": "|"}, 2), ("words", "sentences", 2), (3, {"ends": " "})])
def test_chunker__texts_of_one_byte_of_boundaries_alone_and_of_none(text: bytes, rules: tuple):
    chunker = chunker_of(*rules)
    for level in range(1, len(rules) + 1):
        chunks = texts_of(chunker, text, level)
        assert b"".join(chunks) == text[: sum(map(len, chunks))]
        assert all(chunks)


def test_chunker__an_end_depends_on_what_stands_before_it_alone():
    draw, chunker = random.Random(0), chunker_of("words", "sentences", 2)
    tokens = torch.tensor([draw.choices(b"ab. \n", k=96) for _ in range(16)])
    changed = tokens.clone()
    changed[:, 40:] = torch.tensor([draw.choices(b"ab. \n", k=56) for _ in range(16)])
    before, after, prefix = chunker(tokens), chunker(changed), chunker(tokens[:, :40])
    for level in (1, 2, 3):
        for one, other, short in zip(
            *(chunks[level].start.tolist() for chunks in (before, after, prefix)), strict=True
        ):
            known = [[start for start in starts if 0 < start <= 40] for starts in (one, other, short)]
            assert known[0] == known[1] == known[2]


def test_chunks__sum_max_and_all_by_chunk():
    chunker = chunker_of("words")
    tokens = torch.tensor([list(b"ab cd. e"), list(b"a b c d ")])
    chunks = chunker(tokens)[1]
    x = torch.arange(16.0).view(2, 8, 1)
    assert chunks.counts.tolist() == [2, 4]
    assert chunks.lengths[0, :2].tolist() == [3, 3]
    assert chunks.sum(x)[0, :3, 0].tolist() == [3, 12, 0]
    assert chunks.max(x)[1, :4, 0].tolist() == [9, 11, 13, 15]
    known = torch.ones(2, 8, dtype=torch.bool)
    known[0, 4] = False
    assert chunks.all(known)[0, :3].tolist() == [True, False, False]
    assert chunk_of_tokens({1: chunks}, 1)[0].tolist() == [0, 0, 0, 1, 1, 1, chunks.most, chunks.most]


def test_chunker__a_rule_of_ones_own_is_imported_when_new_and_never_when_stored(monkeypatch: pytest.MonkeyPatch):
    config = ModelConfig(levels=2, chunking=[OWN], context_length=32, width=32, num_heads=2, depth=1)
    model = NextConceptModel(config)
    assert texts_of(model.chunker, b"ab|c||d", 1) == [b"ab|", b"c|", b"|"]
    monkeypatch.setattr("tests.core.test_chunking.bars", None)
    stored = NextConceptModel(ModelConfig.from_dict(model.config.to_dict()))
    assert not stored.chunker.ends_1.any()
    stored.load_state_dict(model.state_dict())
    assert texts_of(stored.chunker, b"ab|c||d", 1) == [b"ab|", b"c|", b"|"]


def test_chunker__a_new_rule_of_ones_own_may_not_pass_for_a_stored_one():
    config = ModelConfig(
        levels=2,
        context_length=32,
        width=32,
        num_heads=2,
        depth=1,
        chunking=[{"rule": "no.such.rule", "num_states": 2}],
    )
    model = NextConceptModel(config)
    with pytest.raises(InputError, match="'no.such.rule' of level 1 was never made.*leave num_states out"):
        model.chunker.check_tables()


def test_chunker__a_rule_asks_for_the_texts_of_tokens_that_are_no_bytes():
    sizes = {"context_length": 32, "width": 32, "num_heads": 2, "depth": 1}
    model = NextConceptModel(ModelConfig(levels=2, chunking=["words"], vocab_size=300, **sizes))
    tokens, texts = torch.tensor([[260, 32, 97, 32]]), [*BYTES, *[b"ab"] * 44]
    concept, encoder, chunker = torch.ones(1, 32), model.encoder, model.chunker
    for ask in (
        model,
        model.compose,
        chunker,
        lambda ids: length_odds(encoder, chunker, concept),
        lambda ids: likeliest_tokens(encoder, chunker, concept[0], 3),
        lambda ids: match_uneven(encoder, chunker, concept, 1, 2, 2),
    ):
        with pytest.raises(InputError, match=r"'words' of level 1 does not know.* 300 tokens.*read_as"):
            ask(tokens)
    with torch.device("meta"):  # where shapes alone count
        assert NextConceptModel(model.config)(torch.zeros(1, 8, dtype=torch.long)).logits.shape == (1, 8, 300)
    with pytest.raises(InputError, match="there are 301 texts for the 300 tokens of the model"):
        model.chunker.read_as([*texts, b"a"])
    for no_bytes in (["a"] * 300, None):
        with pytest.raises(InputError, match="texts must be the bytes of each token"):
            model.chunker.read_as(no_bytes)
    model.chunker.read_as(texts)
    assert model.chunker(tokens)[1].counts.tolist() == [2]
    loaded = NextConceptModel(model.config)
    loaded.load_state_dict(model.state_dict())
    for known in (loaded, shrink(grow(model, rule="sentences")), copy.deepcopy(model)):
        assert known.chunker(tokens)[1].counts.tolist() == [2]
    grown = grow(model, rule="sentences")
    with pytest.raises(InputError, match="'sentences' of level 2 does not know"):
        grown(tokens)
    grown.chunker.read_as(texts)
    grown(tokens)


@pytest.mark.parametrize("rule", ["words", "lines", "sentences"])
def test_chunker__of_a_new_model_reads_bytes_as_the_tokenizer_does(rule: str):
    config = ModelConfig(levels=2, chunking=[rule], width=32, num_heads=2, depth=1)
    fresh, told = Chunker(config), Chunker(config)
    told.read_as(ByteTokenizer().token_bytes())
    for ours, theirs in zip(fresh.tables[1], told.tables[1], strict=True):
        assert torch.equal(ours, theirs)


def test_compose__takes_a_text_of_any_length_for_one_chunk():
    model = NextConceptModel(
        ModelConfig(levels=3, chunking=["words", {"ends": "."}], sharing="separate", width=32, num_heads=2, depth=1)
    )
    text = torch.tensor([list(b"one two.")])
    assert model.compose(text[0], 2).shape == (32,)
    # A chunk that the rules cut themselves is composed alike.
    with torch.no_grad():
        found = model.encoder(torch.cat((text, text), 1), model.chunker(torch.cat((text, text), 1)))
        torch.testing.assert_close(found[2][0, 0], model.compose(text[0], 2))
        torch.testing.assert_close(found[1][0, 0], model.compose(text[0, :4], 1))
    # The last word ends with the text, although the rule does not end it there.
    chunks = model.chunker(text[:, :7], whole=2)
    assert (chunks[1].lengths[0, :3].tolist(), chunks[2].lengths[0, :2].tolist()) == ([4, 3, 0], [2, 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_turns__are_the_rotations_by_the_offsets(dtype: torch.dtype):
    cut = chunker_of("words", 4)(torch.tensor([list(TEXT)]))
    for chunks in (*cut.values(), in_tokens(cut, 2)):
        assert torch.equal(
            chunks.turns(torch.zeros(34, dtype=dtype)), rotations(binding_angles(chunks.offset, 34, dtype))
        )


@pytest.mark.parametrize("options", [{"chunk_size": 4}, {"chunking": ["words"]}], ids=str)
def test_model__of_no_texts(options: dict):
    model = NextConceptModel(small_config(vocab_size=256, levels=2, **options))
    assert model(torch.empty(0, 12, dtype=torch.long)).logits.shape == (0, 12, 256)
