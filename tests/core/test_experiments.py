"""Experiments by name."""

from pathlib import Path

import pytest

from nextconcept import InputError
from nextconcept.core.experiments import experiment_files, find_experiment


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("shakespeare", "shakespeare"),
        ("shakespeare.yaml", "shakespeare"),
        ("two_levels", "two_levels"),  # though there is text/two_levels
        ("gpt_d2_l5", "star_graph/gpt_d2_l5"),
        ("star_graph/two_levels", "star_graph/two_levels"),
        ("trainer/ddp", "trainer/ddp"),
        ("ddp", "trainer/ddp"),
    ],
)
def test_find_experiment(name: str, found: str):
    assert find_experiment(name) == experiment_files()[found]


def test_find_experiment__existing_file_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("shakespeare").mkdir()
    assert find_experiment("shakespeare").is_absolute(), "a folder is no configuration"
    Path("gpt").write_text("")
    assert find_experiment("gpt") == Path("gpt")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("shakespear", "no experiment 'shakespear': did you mean shakespeare?"),
        ("star_graph/gpt_d2_l6", "did you mean star_graph/gpt_d2_l"),
        ("nowhere.yaml", "'nowhere.yaml': nextconcept experiments lists"),
    ],
)
def test_find_experiment__unknown(name: str, sentence: str):
    with pytest.raises(InputError) as caught:
        find_experiment(name)
    assert sentence in str(caught.value)
