"""Exported models."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nextconcept import InputError, NextConceptModel
from nextconcept.checkpoints.files import load_run
from nextconcept.checkpoints.hub import Export, is_repository_name, save_pretrained
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.data.tokenizers import ByteTokenizer
from nextconcept.nn.concept_encoder import ConceptEncoder
from tests.helpers import Doubling, open_model, small_config


def load_export(folder: Path, encoder: type[ConceptEncoder] = ConceptEncoder) -> tuple[NextConceptModel, Tokenizer]:
    return Export(folder).load(encoder)


def read_vocabulary(folder: Path) -> tuple[Tokenizer, int]:
    return Export(folder).vocabulary()


def test_save_pretrained__round_trip(tmp_path: Path):
    model, tokens = open_model(small_config(vocab_size=256)), torch.randint(256, (1, 9))
    save_pretrained(model, ByteTokenizer(), tmp_path / "export")
    for load in (load_export, load_run):
        loaded, tokenizer = load(tmp_path / "export")
        assert torch.equal(loaded(tokens).logits, model(tokens).logits)
        assert isinstance(tokenizer, ByteTokenizer)
        assert not loaded.training
    assert "# 16-32, tokens and 1 level of concepts" in (tmp_path / "export" / "README.md").read_text()


def test_export__refuses_another_encoder(tmp_path: Path):
    usual, doubling = tmp_path / "usual", tmp_path / "doubling"
    save_pretrained(NextConceptModel(small_config(vocab_size=256)), ByteTokenizer(), usual)
    save_pretrained(NextConceptModel(small_config(vocab_size=256), Doubling), ByteTokenizer(), doubling)
    card = (doubling / "README.md").read_text()
    assert 'nextconcept.load("FOLDER_OR_REPOSITORY", encoder=Doubling)' in card
    assert card.count("--encoder YOUR_MODULE.Doubling") == 2
    for load in (load_export, load_run):
        assert isinstance(load(doubling, Doubling)[0].encoder, Doubling)
        with pytest.raises(
            InputError, match="usual has the encoder ConceptEncoder, not Doubling: leave the encoder out"
        ):
            load(usual, Doubling)
        with pytest.raises(InputError, match="an encoder of its own, Doubling, not ConceptEncoder"):
            load(doubling)
    direct = NextConceptModel.from_pretrained
    assert isinstance(direct(doubling, encoder=Doubling).encoder, Doubling)
    with pytest.raises(InputError, match="usual has the encoder ConceptEncoder, not Doubling: leave the encoder out"):
        direct(usual, encoder=Doubling)


def test_export__broken(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="no exported model"):
        load_export(tmp_path)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"block": {"rope_base": 1' + "0" * 400 + "}}", "[1]", "{"], ids=len)
def test_config__that_is_none(text: str, tmp_path: Path):
    save_pretrained(NextConceptModel(small_config(vocab_size=256)), ByteTokenizer(), tmp_path)
    (tmp_path / "config.json").write_text(text)
    for read in (load_export, read_vocabulary):
        with pytest.raises(InputError) as error:
            read(tmp_path)
        assert "attribute" not in str(error.value)


def test_export__weights_without_a_tokenizer(tmp_path: Path):
    NextConceptModel(small_config(vocab_size=256)).save_pretrained(tmp_path)
    for read in (load_run, read_vocabulary):
        with pytest.raises(InputError, match="a model without tokenizer.json.* NextConceptModel.from_pre"):
            read(tmp_path)


@pytest.mark.parametrize("change", ["missing", "extra", "cut"])
def test_export__all_weights_and_no_others(change: str, tmp_path: Path):
    save_pretrained(NextConceptModel(small_config(vocab_size=256)), ByteTokenizer(), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    name = next(iter(weights))
    if change == "missing":
        del weights[name]
    else:
        weights["new" if change == "extra" else name] = weights[name][:1].clone()
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="do not fit its configuration"):
        load_export(tmp_path)


def test_export__of_another_version(tmp_path: Path):
    save_pretrained(open_model(small_config(vocab_size=256)), ByteTokenizer(), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"levels": 2, "width": 32, "heads": 4, "window": None}))
    with pytest.raises(InputError, match="can't be used: unknown settings heads, window: .* train it again"):
        load_export(tmp_path)


def test_is_repository_name(tmp_path: Path):
    assert is_repository_name("owner/some-model.v2")
    for path in ("model", "a/b/c", "/owner/name", "owner/name/", str(tmp_path), "./model with blanks"):
        assert not is_repository_name(path)
