"""Experiments by name."""

from pathlib import Path

import pytest

from nextconcept import InputError
from nextconcept.core.experiments import check_yaml, experiment_files, find_experiment


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


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb: 2\na: 3\n", "c.yaml has a twice, again in line 3: leave one of them out"),
        ("entries:\n  a: {x: 1}\n  a: {x: 2}\n", "c.yaml has a twice, again in line 3"),
        ("- [{a: 1, a: 1}]", "c.yaml has a twice, again in line 1"),
        ("max_steps: 1:30", "YAML reads 1:30 in line 1 of c.yaml as a number to the base of 60: put it in quotes"),
        ("a: [2, 1:30.5]", "YAML reads 1:30.5 in line 1"),
    ],
)
def test_check_yaml(text: str, sentence: str):
    with pytest.raises(InputError) as refused:
        check_yaml(text, "c.yaml")
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: {b: 1}\nc: {b: 1}",
        "a: '1:30'",
        "a: &x [1]\nb: *x",
        "a: &x {b: *x}",
        "a: [",
        "a: 2024-01-01 10:30:00",
        "? [a]\n: 1",
        "3",
    ],
)
def test_check_yaml__accepts(text: str):
    check_yaml(text, "c.yaml")


def test_check_yaml__shipped_experiments():
    for file in experiment_files().values():
        check_yaml(file.read_text(encoding="utf-8"), file)
