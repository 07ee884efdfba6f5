"""Documents in pieces of bounded size, cut between words.

A piece is ``(split, text, ends)``: its split, its text, and whether a document ends with it.
"""

from collections.abc import Iterable, Iterator

__all__ = ["Piece", "batches", "cut"]

Piece = tuple[str, str, bool]

PIECE = 1 << 16
"""Characters of a piece, at most."""

BATCH = 1 << 20
"""Characters that are encoded together, about: enough pieces for all cores, and little memory."""


def cut(documents: Iterable[Piece], size: int = PIECE) -> Iterator[Piece]:
    """Cut documents, which may come in blocks of any size, into pieces.

    A cut stands before a space, or a line end, that follows another character. No word of
    byte-level BPE (Radford et al., 2019) goes over such a place, so that the tokens of the pieces
    are those of the document. Where a piece has no such place, it is cut at its full size.

    Args:
        documents: parts of documents, in order.
        size: characters of a piece, at most.
    """
    rest, before = "", ""
    for split, text, ends in documents:
        if rest and split != before:
            yield before, rest, False
            rest = ""
        text, start, before = rest + text, 0, split
        while len(text) - start > size:
            end = _between_words(text, start, start + size)
            yield split, text[start:end], False
            start = end
        rest = text[start:]
        if ends:
            yield split, rest, True
            rest = ""
    if rest:
        yield before, rest, False


def batches(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Group pieces into lists of about :data:`BATCH` characters."""
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece[1]) + 1  # documents may be empty
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _between_words(text: str, start: int, end: int) -> int:
    """Return the last place in ``start + 1`` to ``end`` where no word is cut, or ``end``."""
    for space in " \n":
        place = end + 1
        while (place := text.rfind(space, start + 1, place)) > 0:
            if not text[place - 1].isspace():
                return place
    return end
