"""Where a result comes from."""

import os
import platform

import pytest
import torch

from nextconcept import __version__
from nextconcept.evaluation import environment
from nextconcept.evaluation.environment import machine, versions


def test_machine__names_the_gpus_or_the_processor(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    count, _, name = machine().partition(" cores of ")
    assert int(count) == os.cpu_count()
    assert name
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H200")
    assert machine() == "2 x H200"


def test_versions(monkeypatch: pytest.MonkeyPatch):
    installed = {"torch": torch.__version__, "lightning": "2.6"}  # and not this package
    monkeypatch.setattr(environment, "version", installed.__getitem__)
    assert versions()["nextconcept"] == __version__
    assert versions()["python"] == platform.python_version()
    assert torch.__version__ == versions()["torch"]
