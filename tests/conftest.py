"""Small models and texts that every test can afford."""

import os
import socket
from pathlib import Path

# Before anything imports the Hub's library: a name that is no file is refused at once, here and in processes that tests start.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

import pytest
import torch

from nextconcept import ModelConfig, NextConceptModel
from nextconcept.nn.concept_encoder import ConceptEncoder

torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep encoded corpora and downloads out of the user's folders, and random numbers the same in every test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("NEXTCONCEPT_CACHE", str(folder))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    torch.manual_seed(0)
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail what looks for a machine other than this one."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test connects to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A text file of about 6,000 bytes that a small model can learn something about."""
    path = tmp_path / "corpus.txt"
    path.write_text("".join(f"Line {i}: the quick brown fox jumps over the lazy dog.\n" for i in range(110)))
    return path


def small_config(**changes: object) -> ModelConfig:
    """A model of a few thousand parameters, which reads all that there is to read."""
    small = {"vocab_size": 64, "width": 32, "depth": 2, "heads": 4, "horizon": 3, "past": "states"}
    return ModelConfig(**(small | changes))


def open_model(config: ModelConfig, encoder: type[ConceptEncoder] = ConceptEncoder) -> NextConceptModel:
    """A model in eval mode whose gates are open, so that plans matter."""
    torch.manual_seed(1)
    model = NextConceptModel(config, encoder).eval()
    for name, parameter in model.named_parameters():
        if ".gates." in name:
            torch.nn.init.normal_(parameter)
    return model
