"""Tokenizers that somebody else trained."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as HFTokenizer

from nextconcept import InputError
from nextconcept.data.tokenizer_files import load_tokenizer
from nextconcept.data.tokenizers import tokenizer_from_json

TEXT = "the cat sat on the mat, the café closed — naïve 日本\n\n" * 20
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def trained(library: HFTokenizer, *special: str, alphabet: bool = True, **options: object) -> HFTokenizer:
    if alphabet:
        options["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=list(special), show_progress=False, **options)
    library.train_from_iterator([TEXT], trainer)
    return library


def byte_level(*special: str, space: bool = False) -> HFTokenizer:
    """As GPT-2 and Llama 3 have it, with a beginning of text and limits that encoding ignores."""
    library = HFTokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    library.decoder = decoders.ByteLevel()
    library = trained(library, *special)
    library.enable_truncation(4)
    library.enable_padding(length=4)
    if len(special) > 1:
        library.post_processor = processors.TemplateProcessing(
            single=f"{special[0]} $A", special_tokens=[(special[0], library.token_to_id(special[0]))]
        )
    return library


def sentence_piece(in_front: bool = False) -> HFTokenizer:
    """A mark for spaces, and bytes for unknown characters; as Llama 2 has it with one in front."""
    library = HFTokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁")] * in_front + [normalizers.Replace(" ", "▁")])
    library.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()] + [decoders.Strip(" ", 1, 0)] * in_front
    )
    description = json.loads(trained(library, "<unk>", "<s>", "</s>", *BYTES, alphabet=False).to_str())
    description["added_tokens"] = description["added_tokens"][:3]  # bytes are ordinary tokens
    return HFTokenizer.from_str(json.dumps(description))


@pytest.mark.parametrize(
    ("made", "end"),
    [
        (lambda: byte_level("<|begin_of_text|>", "<|end_of_text|>"), "<|end_of_text|>"),
        (lambda: byte_level("</s>"), "</s>"),
        (lambda: byte_level("<|endoftext|>", "</s>"), "<|endoftext|>"),
    ],
)
@pytest.mark.parametrize("folder", [True, False])
def test_load_tokenizer__gives_text_back(made: Callable[[], HFTokenizer], end: str, folder: bool, tmp_path: Path):
    library = made()
    library.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(str(tmp_path if folder else tmp_path / "tokenizer.json"))
    assert tokenizer.end_of_text == library.token_to_id(end)
    ids = tokenizer.encode(TEXT)
    assert len(ids) < len(TEXT.encode()) / 2
    assert tokenizer.decode(ids) == TEXT
    assert tokenizer.byte_counts()[ids].sum() == len(TEXT.encode())
    assert b"".join(tokenizer.token_bytes()[token] for token in ids).decode() == TEXT
    assert tokenizer.end_of_text not in tokenizer.encode(end)  # text that spells the token
    again = tokenizer_from_json(tokenizer.to_json())
    assert np.array_equal(again.encode(TEXT), ids)
    assert again.same_tokens(tokenizer)


def test_load_tokenizer__ids_with_gaps(tmp_path: Path):
    library = byte_level("</s>")
    library.add_tokens(["plaza"])
    text = library.to_str().replace(f'"id": {library.get_vocab_size() - 1}', '"id": 999', 1)
    (tmp_path / "tokenizer.json").write_text(text)
    tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.vocab_size == max(HFTokenizer.from_str(text).get_vocab().values()) + 1
    assert len(tokenizer.token_bytes()) == tokenizer.vocab_size


def lower_case() -> HFTokenizer:
    library = byte_level("</s>")
    library.normalizer = normalizers.Lowercase()
    return library


def word_pieces() -> HFTokenizer:
    library = HFTokenizer(models.WordPiece({"[UNK]": 0, "the": 1, "</s>": 2}, unk_token="[UNK]"))
    library.decoder = decoders.WordPiece()
    library.add_special_tokens(["</s>"])
    return library


def normal_forms() -> HFTokenizer:
    library = byte_level("</s>")
    library.normalizer = normalizers.NFKC()
    return library


def odd_alphabet() -> HFTokenizer:
    return HFTokenizer.from_str(byte_level("</s>").to_str().replace('"Ń"', '"中"'))


def swallowed_space() -> HFTokenizer:
    library = byte_level("</s>")
    library.add_tokens([AddedToken("plaza", lstrip=True)])
    return library


def pieces_that_spell_the_end() -> HFTokenizer:
    """As a unigram model of SentencePiece is converted: special tokens are in its vocabulary."""
    letters = [(letter, -5.0) for letter in "▁abcdefghijklmnopqrstuvwxyz"]
    vocabulary = [("<unk>", 0.0), ("</s>", 0.0), *((byte, -9.0) for byte in BYTES), *letters]
    library = HFTokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    library.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    library.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never"), decoders.Fuse()]
    )
    library.add_special_tokens(["<unk>", "</s>"])
    return library


def plain_end() -> HFTokenizer:
    description = json.loads(byte_level("</s>").to_str())
    description["added_tokens"][0]["special"] = False
    return HFTokenizer.from_str(json.dumps(description))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (normal_forms, "does not give text back unchanged"),
        (lambda: sentence_piece(in_front=True), "does not give text back unchanged"),
        (lambda: byte_level("</s>", space=True), "'no space in front' becomes ' no space in front'"),
        (swallowed_space, "unchanged: 'a plaza b' becomes 'aplaza b'"),
        (pieces_that_spell_the_end, "unchanged: 'a <unk> b' becomes 'a  b'"),
        (odd_alphabet, "its token '中' is not written in the alphabet of its decoder"),
        (plain_end, "its end of a text, id 0, is no special token, so that a text could spell it"),
        (lambda: byte_level("[PAD]"), r"no token for the end of a text \(<\|endoftext\|>, .*</s>, <eos>\): add one"),
        (lower_case, "does not give text back unchanged: ' The cat.*becomes ' the cat.* choose"),
        (word_pieces, "the bytes of its tokens are not known .it decodes by WordPiece"),
    ],
)
def test_load_tokenizer__one_that_can_not_serve(made: Callable[[], HFTokenizer], message: str, tmp_path: Path):
    made().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InputError, match=message) as refused:
        load_tokenizer(str(tmp_path))
    assert str(tmp_path) in str(refused.value)


def test_load_tokenizer__sentence_piece(tmp_path: Path):
    sentence_piece().save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(str(tmp_path))
    ids = tokenizer.encode(TEXT + "🙂")
    assert tokenizer.decode(ids) == TEXT + "🙂"
    assert b"".join(tokenizer.token_bytes()[token] for token in ids).decode() == TEXT + "🙂"


def test_load_tokenizer__sentence_piece__bytes_that_are_no_text(tmp_path: Path):
    """A model that is not trained writes them; the library's own stream raises at the third."""
    sentence_piece().save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(str(tmp_path))
    ids = [tokenizer.library.token_to_id(token) for token in ("<0xC3>", "<0xA9>", "<0xFF>", "a", "<s>", "<0xC3>")]
    write = tokenizer.stream()
    assert [write(token) for token in ids] == ["", "é", "\ufffd", "a", "", ""]
    assert tokenizer.decode(ids) == "é\ufffda\ufffd"


def test_load_tokenizer__drops_merges_never(tmp_path: Path):
    library = byte_level("</s>")
    library.model.dropout = 0.5
    library.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(str(tmp_path))
    assert len({tuple(tokenizer.encode(TEXT)) for _ in range(5)}) == 1


def test_load_tokenizer__nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("broken.json").write_text('{"type": "bytes"}')
    with pytest.raises(InputError, match=r"broken\.json is not a tokenizer of the library"):
        load_tokenizer("broken.json")
    for name in ("missing.json", "."):
        with pytest.raises(InputError, match=r"there is no file .*\.json: give a tokenizer\.json"):
            load_tokenizer(name)
    with pytest.raises(InputError, match="no tokenizer at bepe, nor .* Hugging Face Hub"):
        load_tokenizer("bepe")
