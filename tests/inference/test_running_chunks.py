"""What rules cut, read token by token, is what they cut of the whole text."""

import random

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nextconcept import ModelConfig, NextConceptModel
from nextconcept.inference.generators import CachedGenerator
from nextconcept.inference.running_chunks import RunningChunks
from nextconcept.nn.chunks import Chunker
from nextconcept.nn.composition import Composition
from tests.core.test_chunking import OWN
from tests.helpers import RULES, open_model, small_config

SENTENCE = b"Words that stand in a sentence of some length, as here. "


OTHERS: list[list] = [
    [{"rule": "words", "max_length": 3, "mean_length": 3}, {"rule": "lines", "mean_length": 5, "max_length": 6}],
    [{"rule": "sentences", "mean_length": 12}],
    [{"rule": "paragraphs", "mean_length": 4}],
    [2, 3],
    [{"ends": "é|", "mean_length": 2}, OWN, 2],
]
"""Further rules, and bounds on lengths and numbers of chunks that texts reach."""


def check(running: RunningChunks, texts: torch.Tensor, starts: torch.Tensor, lengths: torch.Tensor) -> dict[int, int]:
    """Compare with what rules cut of the whole of each visible text, and count chunks per level."""
    rows, found = torch.arange(len(texts)), dict.fromkeys(running.numbers, 0)
    every = running.read(texts, starts, lengths, None)
    for row, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        window = texts[row : row + 1, start:length]
        for level, whole in (cut := running.chunker(window)).items():
            number = int(whole.counts[0])
            open_chunk, one = every[level].select(rows[row : row + 1]), whole.start[0]
            assert int(open_chunk.number) == number
            assert (int(open_chunk.first), int(open_chunk.start)) == (int(whole.first[0, number]), int(one[number]))
            if number == 0:
                continue
            assert int(open_chunk.previous) == int(one[number - 1])
            index, alone = running.previous(open_chunk, rows[row : row + 1], texts.device)
            assert index[0].tolist() == list(range(int(one[number - 1]), int(one[number])))
            for lower in range(1, level + 1):
                inner = alone[lower].start[0, : int(alone[lower].counts[0]) + 1] + index[0, 0]
                bounds = cut[lower].start[0, : int(cut[lower].counts[0]) + 1]
                assert inner.tolist() == bounds[(bounds >= one[number - 1]) & (bounds <= one[number])].tolist()
            found[level] = max(found[level], number)
    return found


@pytest.mark.parametrize("rules", [*RULES, *OTHERS], ids=str)
def test_running_chunks__equal_those_of_the_whole_text(rules: list):
    """Rows grow by unequal numbers of tokens, some at a time, and slide."""
    draw, most = random.Random(len(str(rules))), 48
    chunker = Chunker(ModelConfig(levels=len(rules) + 1, chunking=rules, context_length=most))
    texts = torch.tensor([list("".join(draw.choices("ab,.! \n|é", k=200)).encode()[:200]) for _ in range(4)])
    running, starts, lengths = RunningChunks(chunker, 4), torch.zeros(4).long(), torch.tensor([1, 9, 30, 40])
    running.load(texts[:, :40], lengths, torch.arange(4))
    reached = check(running, texts, starts, lengths)
    for _ in range(40):
        rows = torch.tensor(sorted(draw.sample(range(4), draw.randint(1, 4))))
        lengths[rows] += torch.tensor([draw.choice([0, 1, 1, 1, 2, 5]) for _ in rows])
        slid = rows[(lengths - starts)[rows] > most]
        if len(slid):
            starts[slid] = lengths[slid] - draw.randint(1, 30)
            visible = texts[slid[:, None], (starts[slid, None] + torch.arange(40)).clamp(max=199)]
            running.load(visible, (lengths - starts)[slid], slid)
        stayed = rows[~torch.isin(rows, slid)]
        if len(stayed):
            running.read(texts[stayed], starts[stayed], lengths[stayed], stayed)
        reached = {
            level: max(reached[level], number) for level, number in check(running, texts, starts, lengths).items()
        }
    assert int(starts.max()) > 0
    assert reached[1] > 1
    full = [level for level, number in reached.items() if number == running.room[level]]
    assert full or rules not in OTHERS[:2]


@pytest.mark.parametrize("rules", [["words"], ["sentences"], [4, "words"]], ids=str)
def test_ends_after__is_where_the_first_chunk_of_further_tokens_ends(rules: list):
    chunker = Chunker(ModelConfig(levels=len(rules) + 1, chunking=rules, context_length=64))
    texts = torch.tensor([list(SENTENCE), list(SENTENCE[::-1])])
    running, rows, zero = RunningChunks(chunker, 2), torch.arange(2), torch.zeros(2).long()
    running.load(texts[:, :1], zero + 1, rows)
    for length in range(1, 40):
        lengths = zero + length
        running.read(texts, zero, lengths, None)
        found = running.ends_after(texts[:, length : length + 12], None)
        assert torch.equal(running.ends_after(texts[1:, length : length + 12], rows[1:]), found[1:])
        for row in range(2):
            ends = chunker.ends(texts[row : row + 1])[1][0, length : length + 12]
            last = int(ends.long().argmax()) if ends.any() else 11
            assert torch.equal(found[row, : last + 1], ends[: last + 1] & (rules[0] != 4))


class CountIntegers(TorchDispatchMode):
    """Counts the elements of all integers and truth values that operations return."""

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for one in tree_leaves(result):
            if isinstance(one, torch.Tensor) and not one.is_floating_point() and not one.is_complex():
                self.total += one.numel()
        return result


def work_of(model: NextConceptModel, composed: list[int], first: int, count: int) -> list[tuple[int, int]]:
    """Integers that arise, and elements that are composed, per token behind the first ones."""
    ids, start, work = torch.tensor(list(SENTENCE * 40))[None], torch.tensor([0]), []
    generator = CachedGenerator(model, 1, ids.shape[1])
    generator(ids, start, torch.tensor([first]))
    for length in range(first + 1, first + count + 1):
        composed[0] = 0
        with CountIntegers() as counter:
            generator(ids, start, torch.tensor([length]))
        work.append((counter.total, composed[0]))
    return work


CASES = [
    (["sentences"], 1),
    pytest.param(["words", 3], 1, marks=pytest.mark.slow),
    pytest.param(["words", "sentences"], 0, marks=pytest.mark.slow),
    pytest.param([4, "sentences"], 0, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("rules", "depth"), CASES, ids=str)
@torch.no_grad()
def test_cached_generator__a_token_takes_as_much_work_late_as_early(
    monkeypatch: pytest.MonkeyPatch, rules: list, depth: int
):
    """What rules and compositions read of a text of equal sentences does not grow with it."""
    options = {"levels": len(rules) + 1, "chunking": rules, "sharing": "separate", "context_length": 2304}
    model = open_model(small_config(vocab_size=256, depth=1, encoder__depth=depth, **options))
    composed, of_chunks = [0], Composition.of_chunks

    def counted(self: Composition, elements: torch.Tensor, *rest: object) -> torch.Tensor:
        composed[0] += elements.shape[0] * elements.shape[1]
        return of_chunks(self, elements, *rest)

    monkeypatch.setattr(Composition, "of_chunks", counted)
    # Three sentences are whole chunks of every level, whichever rules cut them; the text's first
    # chunk is longer.
    period = 3 * len(SENTENCE)
    early, late = (work_of(model, composed, first, period) for first in (period, 12 * period))
    assert early == late
    assert sum(read for _, read in late) >= period
