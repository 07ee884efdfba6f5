"""The list of the shipped experiments."""

from pathlib import Path

import pytest

from nextconcept import InputError
from nextconcept.cli.experiments import read_experiment
from nextconcept.cli.main import COMMANDS, main
from nextconcept.core.experiments import experiment_files


@pytest.mark.parametrize("name", experiment_files())
def test_head_comment(name: str):
    path = experiment_files()[name]
    experiment = read_experiment(path)
    assert experiment.shows.endswith((".", "?"))
    assert experiment.time.endswith(".")
    assert any(name in command.split() for command in experiment.commands)
    assert all(command.split()[:2] in [["nextconcept", known] for known in COMMANDS] for command in experiment.commands)
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert max(map(len, head)) <= 100


def test_experiments__lists_all(capsys: pytest.CaptureFixture):
    main(["experiments"])
    lines = capsys.readouterr().out.splitlines()
    assert set(experiment_files()) <= set(lines)
    assert max(map(len, lines)) <= 120


def test_read_experiment__without_head(tmp_path: Path):
    path = tmp_path / "own.yaml"
    path.write_text("# A sentence.\nmodel: {}\n")
    with pytest.raises(InputError, match="needs a head comment"):
        read_experiment(path)
