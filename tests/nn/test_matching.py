import itertools
import time

import pytest
import torch
import torch.nn.functional as F

from nextconcept.core.errors import InputError
from nextconcept.nn.concept_encoder import ConceptEncoder
from nextconcept.nn.matching import _beam_search, match, nearest_tokens
from nextconcept.nn.uneven_matching import match_uneven
from tests.helpers import RULE_TEXT, open_model, small_config


def encoder_of(vocab: int, **changes: object) -> ConceptEncoder:
    torch.manual_seed(0)
    return ConceptEncoder(small_config(vocab_size=vocab, levels=3, **changes))


def compose(encoder: ConceptEncoder, tokens: torch.Tensor, level: int) -> torch.Tensor:
    return encoder.concepts(encoder.embed(tokens, level), level).squeeze(1)


@pytest.mark.parametrize("binding", [True, False])
@pytest.mark.parametrize(("vocab", "chunk"), [(5, 3), (9, 2), (4, 4)])
def test_match__equals_brute_force(binding: bool, vocab: int, chunk: int):
    encoder = encoder_of(vocab, chunk_size=chunk, encoder__position_binding=binding)
    everything = torch.tensor(list(itertools.product(range(vocab), repeat=chunk)))
    reachable = compose(encoder, everything, 1)
    wanted = torch.randn(20, reachable.shape[-1])
    found = match(encoder, wanted, 1, top_k=vocab, beam=vocab**chunk)
    best = F.cosine_similarity(wanted[:, None], reachable[None], dim=-1).max(1).values
    torch.testing.assert_close(found.cosine[:, 0], best)
    torch.testing.assert_close(compose(encoder, found.tokens[:, 0], 1), found.concepts[:, 0])
    torch.testing.assert_close(F.cosine_similarity(found.concepts[:, 0], wanted, dim=-1), found.cosine[:, 0])


@pytest.mark.parametrize("ordered", [True, False])
def test_beam_search__the_narrowest_takes_what_turns_the_sum_most_towards_the_concept(ordered: bool):
    concepts = torch.randn(20, 8)
    elements = torch.randn(20, 3 if ordered else 1, 5, 8).expand(20, 3, 5, 8)
    chosen = _beam_search(elements, concepts, beam=1, ordered=ordered)
    for row in range(20):
        total, least = torch.zeros(8), 0
        for place in range(3):
            cosine = F.cosine_similarity(total + elements[row, place, least:], concepts[row], dim=-1)
            best = least + int(cosine.argmax())
            assert chosen[row, 0, place] == best
            total, least = total + elements[row, place, best], 0 if ordered else best


def test_match__is_in_the_order_of_what_is_composed():
    """A norm that takes off the mean changes directions after the search."""
    encoder = encoder_of(5, chunk_size=3, block__norm="layer")
    found = match(encoder, torch.randn(20, 16), 1, top_k=5, beam=50)
    assert (found.cosine.diff(dim=1) <= 0).all()


def test_nearest_tokens__are_those_of_the_greatest_cosine():
    encoder, wanted = encoder_of(9), torch.randn(20, 2, 16)
    with torch.no_grad():
        encoder.embedding.weight[3] *= 100
        cosines = F.cosine_similarity(wanted[..., None, :], encoder.embedding.weight[:, :16], dim=-1)
    ids, elements = nearest_tokens(encoder, wanted, 2, encoder.vocabulary(16))
    assert torch.equal(ids[..., 0], cosines.topk(2).indices)
    torch.testing.assert_close(elements, encoder.look_up(ids[..., 0], 16))


def test_match__multisets_come_once():
    encoder = encoder_of(4, chunk_size=3, encoder__position_binding=False)
    found = match(encoder, torch.randn(1, 16), 1, top_k=4, beam=64)
    multisets = [tuple(sorted(tokens)) for tokens in found.tokens[0].tolist()]
    assert len(multisets) == len(set(multisets)) == 20  # 3 out of 4 with repetition


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
def test_match__recovers_real_concepts_at_every_level(level: int, shape: tuple):
    encoder = encoder_of(32, width=512, num_heads=4, chunk_size=3)
    tokens = torch.randint(32, (*shape, 3**level))
    concepts = compose(encoder, tokens.reshape(-1, 3**level), level).reshape(*shape, -1)
    found = match(encoder, concepts, level, top_k=4, beam=4)
    assert torch.equal(found.tokens[..., 0, :], tokens)
    torch.testing.assert_close(found.cosine[..., 0], torch.ones(shape))
    assert (found.cosine.diff(dim=-1) <= 0).all()


def text_chunks(rules: list, text: bytes, **changes: object) -> tuple:
    """A model, and per level the concepts of a text with the tokens that they are made of."""
    shape = {"levels": len(rules) + 1, "chunking": rules, "sharing": "separate", "vocab_size": 256, "num_heads": 4}
    model = open_model(small_config(context_length=96, **shape | changes))
    chunks = model.chunker(torch.tensor([list(text)]))
    concepts, found = model.encoder(torch.tensor([list(text)]), chunks), {}
    for level, composed in concepts.items():
        count = int(chunks[level].counts[0])
        starts = chunks[level].start[0, : count + 1].tolist()
        found[level] = composed[0, :count], [text[a:b] for a, b in itertools.pairwise(starts)]
    return model, found


@pytest.mark.parametrize(
    ("rules", "composition"),
    [
        (["words"], "norm->mean"),
        ([{"ends": " eto", "max_length": 5, "mean_length": 3}, 2], "mean"),
        ([3, {"ends": ".\n", "max_length": 6}], "sum"),
    ],
    ids=str,
)
def test_match_uneven__recovers_real_concepts_of_any_length(rules: list, composition: str):
    with torch.no_grad():
        model, real = text_chunks(rules, RULE_TEXT[:30], width=768, encoder__composition=composition)
    for level, (concepts, texts) in real.items():
        found = match_uneven(model.encoder, model.chunker, concepts[:, None], level, top_k=4, beam=4)
        for index, text in enumerate(texts):
            assert bytes(found.tokens[index, 0, 0, : found.lengths[index, 0, 0]].tolist()) == text
        torch.testing.assert_close(found.cosine[..., 0], torch.ones(len(texts), 1))
        torch.testing.assert_close(found.concepts[:, :, 0], concepts[:, None], atol=1e-3, rtol=1e-3)
        assert (found.cosine[..., :-1] >= found.cosine[..., 1:]).all()


def test_match_uneven__equals_brute_force_over_all_lengths():
    rule = {"ends": "\1", "max_length": 3, "mean_length": 1}
    model = open_model(small_config(chunking=[rule], levels=2, vocab_size=256, context_length=8, sharing="separate"))
    model.chunker.following_1, model.chunker.ends_1 = torch.zeros(1, 4, dtype=torch.long), torch.arange(4)[None] == 1
    encoder = model.encoder
    encoder.embedding.weight.data = encoder.embedding.weight[:4]
    others = [0, 2, 3]
    every = [
        [1],
        *([one, 1] for one in others),
        *([*two, last] for two in itertools.product(others, others) for last in range(4)),
    ]
    with torch.no_grad():
        reachable = torch.stack([model.compose(torch.tensor(tokens)) for tokens in every])
        wanted = torch.randn(12, reachable.shape[1])
        found = match_uneven(encoder, model.chunker, wanted, 1, top_k=4, beam=60)
    cosines = F.cosine_similarity(wanted[:, None], reachable[None], dim=-1)
    torch.testing.assert_close(found.cosine[:, 0], cosines.max(1).values)
    assert ((found.cosine > -torch.inf).sum(1) == len(every)).all()
    for row, best in enumerate(cosines.argmax(1).tolist()):
        assert found.tokens[row, 0, : found.lengths[row, 0]].tolist() == every[best]


def loop_over_pairs(encoder: ConceptEncoder, concepts: torch.Tensor) -> torch.Tensor:
    """The original's way: for each row, try each pair of tokens in turn and keep the best."""
    embedding, chosen = encoder.embedding.weight[:, : concepts.shape[-1]], []
    for row in concepts:
        best = (-2.0, 0, 0)
        for first in range(len(embedding)):
            for second in range(first, len(embedding)):
                cosine = F.cosine_similarity(embedding[first] + embedding[second], row, dim=0).item()
                best = max(best, (cosine, first, second))
        chosen.append(best)
    return torch.tensor(chosen)


def test_match__is_much_faster_than_a_loop_over_rows_and_pairs():
    """The full loop at batch 32 and vocabulary 512 would take minutes: a 1,000th part of its pairs
    is timed."""
    encoder = encoder_of(512, width=256, num_heads=4, chunk_size=4)
    concepts = torch.randn(32, encoder.config.widths[1])
    match(encoder, concepts, 1, 8, 8)
    started = time.perf_counter()
    match(encoder, concepts, 1, 8, 8)
    ours = time.perf_counter() - started
    small = encoder_of(90, width=256, num_heads=4, chunk_size=4)  # 90 * 91 / 2 pairs, one row
    started = time.perf_counter()
    loop_over_pairs(small, concepts[:1])
    theirs = (time.perf_counter() - started) * 32 * (512 * 513) / (90 * 91)
    assert theirs / ours > 50


@pytest.mark.parametrize("size", ["top_k", "beam"])
def test_match__nothing_to_choose_from(size: str):
    with pytest.raises(InputError, match="top_k and beam must be 1 or more"):
        match(encoder_of(9), torch.randn(2, 16), 1, **{"top_k": 2, "beam": 2, size: 0})
