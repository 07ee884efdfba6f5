import torch

from nextconcept.core.config import ModelConfig
from nextconcept.inference.locations import Location
from nextconcept.inference.running_chunks import RunningChunks
from nextconcept.nn.chunks import Chunker

TEXTS = [b"one two, thr", b"a b c d e f ", b"x"]


def locate(config: ModelConfig, lengths: list[int]) -> Location:
    """Locate texts of zeros, which are visible as a whole."""
    rows = len(lengths)
    ids = torch.zeros(rows, max(lengths), dtype=torch.long)
    return Location(config.hierarchy, ids, torch.zeros(rows).long(), torch.tensor(lengths))


def test_location__counts_what_is_complete_in_each_row():
    config = ModelConfig(levels=3, chunking=["words", 2], context_length=32, sharing="separate", width=32, num_heads=2)
    lengths = torch.tensor([len(text) for text in TEXTS])
    tokens = torch.tensor([[*text, *b"z " * 6][:12] for text in TEXTS])  # anything may follow a row
    chunker = Chunker(config)
    chunks = RunningChunks(chunker, 3).load(tokens, lengths, torch.arange(3))
    at = Location(config.hierarchy, tokens, torch.zeros(3).long(), lengths, chunks)
    assert at.counts[1].tolist() == [2, 6, 0]
    assert at.counts[2].tolist() == [1, 3, 0]
    assert at.done(1).tolist() == [False, True, False]
    assert at.done(2).tolist() == [False, True, False]
    reading = at.reading(0, at.positions(0))
    assert reading.anchors.last.tolist() == [2, 6, 0]
    assert reading.place.tolist() == [[4], [0], [1]]  # elements of the chunk before the one to predict
    assert at.first_elements(1, reading.anchors).tolist() == [[8], [12], [0]]
    assert at.reading(1, at.positions(1)).place.tolist() == [[0], [0], [0]]
    assert at.reading(2, at.positions(2)) is None
    some = at.select(torch.tensor([2, 0]))
    assert some.rows.tolist() == [2, 0]
    assert torch.equal(some.ids, tokens[[2, 0]])
    assert some.newest_tokens().tolist() == [[*b"x"], [*b"r"]]
    assert some.reading(0, some.positions(0)).place.tolist() == [[1], [4]]


def test_location__chunks_of_one_length():
    config = ModelConfig(levels=3, chunk_size=3, num_heads=4)
    at = locate(config, [9, 11])
    assert [at.counts[level].tolist() for level in (0, 1, 2)] == [[9, 11], [3, 3], [1, 1]]
    assert at.done(2).tolist() == [True, False]
    assert at.reading(0, at.positions(0)).place.tolist() == [[0], [2]]
    assert at.positions(0).last.tolist() == [8, 10]


def test_location__of_texts_whose_chunks_are_not_known():
    """A chunk may have more tokens than an integer can count."""
    rule = {"ends": ".", "max_length": 2**62, "mean_length": 2}
    config = ModelConfig(levels=3, chunking=[rule, rule], context_length=32, width=32, num_heads=2, sharing="separate")
    assert locate(config, [3]).counts.keys() == {0}


def test_reading__positions_of_drafts_read_their_own_anchors():
    config = ModelConfig(levels=3, chunk_size=3, num_heads=4)
    before, at = (locate(config, lengths) for lengths in ([4, 8], [9, 10]))
    every = before.positions(0, 5)  # the second row has no more than two drafts
    reading = at.reading(0, every)
    assert reading.anchor.tolist() == [[1, 1, 2, 2, 2, 3], [2, 3, 3, 3, 3, 3]]
    assert reading.place.tolist() == [[1, 2, 0, 1, 2, 0], [2, 0, 1, 2, 0, 1]]
    assert (reading.anchors.last.tolist(), reading.anchors.ahead) == ([1, 2], 2)
    anchors = at.completed(1, before.counts[1])
    assert anchors.every().tolist() == [[2, 3], [3, 4]]
    assert at.reading(1, anchors).anchor.tolist() == [[0, 1], [1, 1]]
