import codecs
import gzip
import os
from pathlib import Path

import datasets
import pytest

from nextconcept.core.errors import InputError
from nextconcept.data import corpus as corpora
from nextconcept.data.corpus import hub_corpus
from nextconcept.data.packaged_corpora import text_corpus


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
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"caf\xe9 au lait", "is not valid UTF-8 near byte 3"),
        (b"ab\xc3", "is not valid UTF-8"),
        (b"one\0two", "has a NUL byte, byte 3"),
        (gzip.compress(b"text", mtime=0), "is compressed, and no text: unpack it first"),
        ("text".encode("utf-16-le"), "has a NUL byte, byte 1, .* iconv -f utf-16le"),
        ("text".encode("utf-16"), "is UTF-16, not UTF-8: convert it with iconv -f utf-16 "),
        (codecs.BOM_UTF16_BE + "text".encode("utf-16-be"), "is UTF-16"),
    ],
)
def test_files__broken(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "bad.txt").write_bytes(content)
    for name in ("bad.txt", ".", "*.txt"):
        with pytest.raises(InputError, match=message) as raised:
            text_corpus(str(tmp_path / name))
        assert "bad.txt" in str(raised.value) or message == "is empty"


def test_files__a_byte_order_mark_is_no_text(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo")
    assert list(text_corpus(str(tmp_path / "a.txt")).read()) == ["one\ntwo"]


@pytest.mark.parametrize("name", ["a[1].txt", "a*.txt", "a?.txt", "[a].txt"])
def test_files__a_name_that_exists_is_no_pattern(tmp_path: Path, name: str):
    for other in ("a1.txt", "ab.txt", "a.txt"):
        (tmp_path / other).write_text("another")
    (tmp_path / name).write_text("this one")
    assert list(text_corpus(str(tmp_path / name)).read()) == ["this one"]


@pytest.mark.parametrize("name", ["in[1]", "in*", "in?"])
def test_files__a_folder_that_exists_is_no_pattern(tmp_path: Path, name: str):
    for folder in ("in1", name):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text(folder)
    for pattern in (name, f"{name}/*.txt", f"{name}/[a].txt", f"{name}/**/a.txt"):
        assert list(text_corpus(str(tmp_path / pattern)).read()) == [name]


def test_files__the_same_time_stamp_does_not_hide_other_content(tmp_path: Path):
    path, stamp = tmp_path / "a.txt", (1, 1)
    found = []
    for text in ("one", "two"):
        path.write_text(text)
        os.utime(path, stamp)
        found.append((text_corpus(str(path)).fingerprint, *text_corpus(str(path)).read()))
    assert [text for _, text in found] == ["one", "two"]
    assert found[0][0] != found[1][0]


def test_folder__its_text_files_are_documents_in_order(tmp_path: Path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    files = {"b/c/2.txt": "two\n\nlines", "a.txt": "first", "b/1.TXT": "one", "b/.hidden.txt": "no", "c.md": "no"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "b" / "empty.txt").touch()
    (tmp_path / "b" / "mark.txt").write_bytes(b"\xef\xbb\xbf")
    corpus = text_corpus(str(tmp_path))
    assert list(corpus.read()) == ["first", "one", "two\n\nlines"]
    assert (corpus.count, corpus.empty_files) == (3, 2)


def test_folder__without_text(tmp_path: Path):
    (tmp_path / "a.md").write_text("text")
    with pytest.raises(InputError, match=r"holds no .txt file: name other text files by a pattern such as '.*\*.md'"):
        text_corpus(str(tmp_path))
    for name in "ab":
        (tmp_path / f"{name}.txt").touch()
    with pytest.raises(InputError, match="all 2 files of .* are empty"):
        text_corpus(str(tmp_path))


def test_pattern__of_data_files(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}')
    with pytest.raises(InputError, match="a.jsonl is a data file, not plain text"):
        text_corpus(str(tmp_path / "*"))


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


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "folder"])
@pytest.mark.parametrize("streaming", [False, True])
def test_hub__the_same_time_stamp_does_not_hide_other_content(tmp_path: Path, kind: str, streaming: bool):
    found = []
    folder = tmp_path / "data"
    folder.mkdir()
    ending = "csv" if kind == "folder" else kind
    for text in ("one", "two"):
        content = f"text\n{text}\n".encode()
        (folder / f"a.{ending}").write_bytes(gzip.compress(content) if kind == "csv.gz" else content)
        os.utime(folder / f"a.{ending}", (1, 1))
        corpus = hub_corpus(str(folder if kind == "folder" else folder / f"a.{ending}"), streaming=streaming)
        found.append((corpus.fingerprint, *corpus.read()))
    assert [text for _, text in found] == ["one", "two"]
    assert found[0][0] != found[1][0]


def test_hub__reads_a_data_file_once_for_its_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "data.csv").write_text("text\none\n")
    read, content = [], corpora._content
    monkeypatch.setattr(corpora, "_content", lambda paths: read.append(paths) or content(paths))
    hub_corpus(str(tmp_path / "data.csv"))
    assert read == [[str(tmp_path / "data.csv")]]


def test_hub__two_folders_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = set()
    for place in "ab":
        (tmp_path / place / "stories").mkdir(parents=True)
        datasets.Dataset.from_dict({"text": [place]}).to_parquet(tmp_path / place / "stories" / "train.parquet")
        monkeypatch.chdir(tmp_path / place)
        corpus = hub_corpus("stories", streaming=True)
        assert list(corpus.read()) == [place]
        found.add(corpus.fingerprint)
    assert len(found) == 2


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["a[1].csv", "a*.csv", "a?.csv"])
def test_hub__a_name_that_exists_is_no_pattern(tmp_path: Path, name: str, streaming: bool):
    for file in ("a1.csv", "ab.csv", name):
        (tmp_path / file).write_text(f"text\n{file}\n")
    assert list(hub_corpus(str(tmp_path / name), streaming=streaming).read()) == [name]


@pytest.mark.parametrize("streaming", [False, True])
def test_hub__a_folder_that_exists_is_no_pattern(tmp_path: Path, streaming: bool):
    for folder in ("in1", "in[1]"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.csv").write_text(f"text\n{folder}\n")
    assert list(hub_corpus(str(tmp_path / "in[1]" / "*.csv"), streaming=streaming).read()) == ["in[1]"]
    with pytest.raises(InputError, match=r"in\[1\] has one of the characters \*\?\[, which .* takes for a pattern"):
        hub_corpus(str(tmp_path / "in[1]"), streaming=streaming)


@pytest.mark.parametrize("streaming", [False, True])
def test_hub__a_folder_of_text_is_for_the_other_data_module(tmp_path: Path, streaming: bool):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    (tmp_path / "b.txt").write_text("one\ntwo")
    with pytest.raises(InputError, match="is a folder of text files: read it with --data TextDataModule"):
        hub_corpus(str(tmp_path), streaming=streaming)
    (tmp_path / "a.txt").write_text("more")
    (tmp_path / "c.csv").write_text("text\none\n")
    with pytest.raises(InputError, match="is a folder of text files: read it with --data TextDataModule"):
        hub_corpus(str(tmp_path), streaming=streaming)


def test_hub__a_document_with_a_nul_character(tmp_path: Path):
    datasets.Dataset.from_dict({"text": ["one", "two\0three"]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="column 'text' of dataset .* has a document with a NUL character"):
        list(hub_corpus(str(tmp_path / "a.parquet")).read())


def test_hub__bad_data_files(tmp_path: Path):
    with pytest.raises(InputError, match=r"no file matches 'missing/\*.jsonl'"):
        hub_corpus("missing/*.jsonl")
    (tmp_path / "bad.jsonl").write_text("{")
    with pytest.raises(InputError, match="bad.jsonl can't be read as json"):
        hub_corpus(str(tmp_path / "bad.jsonl"))
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(InputError, match="empty.jsonl has a data file that is empty"):
        hub_corpus(str(tmp_path / "empty.jsonl"))


@pytest.mark.parametrize(("name", "message"), [(" ", "is empty"), ("nobody/nothing", "read with --data HubDataModule")])
def test_text__no_such_corpus(name: str, message: str):
    with pytest.raises(InputError, match=message):
        text_corpus(name)
