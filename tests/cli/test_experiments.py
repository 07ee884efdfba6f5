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


def test_experiments__has_a_line_for_each(capsys: pytest.CaptureFixture):
    main(["experiments"])
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines[: len(experiment_files())]]
    assert names == list(experiment_files())
    assert max(map(len, lines)) <= 110


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("shakespeare", ["shakespeare"]),
        ("g2_5", ["g2_5"]),
        ("maze/", ["maze/gpt", "maze/three_levels", "maze/two_levels"]),
    ],
)
def test_experiments__describes_one_or_a_folder(name: str, found: list[str], capsys: pytest.CaptureFixture):
    main(["experiments", name])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == found
    assert sum("Time: " in line for line in lines) == len(found)
    assert sum("nextconcept fit --config " in line or "nextconcept compare" in line for line in lines) >= len(found)


@pytest.mark.parametrize("name", ["shakespear", __file__, "gpt_d9"])
def test_experiments__unknown(name: str, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as exit_code:
        main(["experiments", name])
    assert exit_code.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_read_experiment__without_head(tmp_path: Path):
    path = tmp_path / "own.yaml"
    path.write_text("# A sentence.\nmodel: {}\n")
    with pytest.raises(InputError, match="needs a head comment"):
        read_experiment(path)
