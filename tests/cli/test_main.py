"""The front door: commands, their help, and sentences about a wrong command line."""

import io
import sys
from pathlib import Path

import pytest

from nextconcept import __version__
from nextconcept.cli.main import COMMANDS, main
from tests.helpers import fails


def test_help__lists_all_commands(capsys: pytest.CaptureFixture):
    main(["--help"])
    printed = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"  {name} " in printed
        assert command.summary in printed
        assert command.example in printed
        assert command.example.startswith(f"nextconcept {name}")


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"validate", "test", "predict"}))
def test_help__of_a_command(command: str, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    option = {"fit": "--model.config.levels", "compare": "--jobs", "grow": "--init", "experiments": "--help"}
    assert option.get(command, "--ckpt_path") in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture):
    main(["--version"])
    assert capsys.readouterr().out == f"nextconcept {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "no command was given"),
        (["dance"], "there is no command 'dance'"),
        (["fti"], "did you mean fit?"),
        (["--config", "shakespeare"], "--config comes before a command"),
    ],
)
def test_unknown_command(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture):
    assert sentence in fails(capsys, *arguments)


def test_public_names__are_imported_on_use():
    import nextconcept

    assert set(nextconcept.__all__) <= set(dir(nextconcept))
    for name in nextconcept.__all__:
        assert getattr(nextconcept, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = nextconcept.nothing


@pytest.mark.parametrize("command", ["fit", "generate", "compare"])
def test_configurations_that_are_no_text(command: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: caf\xe9\n".encode("latin-1"))
    assert "is not valid UTF-8 near byte 9: convert it" in fails(capsys, command, "--config", path)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OverflowError("int too large"), "a number that was given is too large (int too large): give a smaller one."),
        (MemoryError(), "a number that was given is too large: give a smaller one."),
        (RuntimeError("CUDA out of memory. Tried to allocate 9 GiB"), "there is not enough memory: choose a smaller"),
    ],
)
def test_numbers_that_are_too_large(
    error: Exception, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def run(arguments: list[str]) -> None:
        raise error

    monkeypatch.setattr("nextconcept.cli.generate.run", run)
    assert sentence in fails(capsys, "generate")


def test_errors_of_the_program_keep_their_traceback(monkeypatch: pytest.MonkeyPatch):
    def run(arguments: list[str]) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("nextconcept.cli.generate.run", run)
    with pytest.raises(RuntimeError, match="shapes differ"):
        main(["generate"])


@pytest.mark.parametrize("by_lightning", [False, True])
def test_interruption(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, by_lightning: bool):
    def interrupt(arguments: list[str]) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            if by_lightning:  # as its trainer does
                sys.exit(1)
            raise

    monkeypatch.setattr("nextconcept.cli.generate.run", interrupt)
    with pytest.raises(SystemExit) as stopped:
        main(["generate"])
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "nextconcept: interrupted.\n"


@pytest.mark.parametrize(
    "option", ["--model.encoder=quits.Own", "--model.objective=quits.Own", "--data=quits.Own", "--data.task=quits.Own"]
)
def test_modules_that_exit(option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    (tmp_path / "quits.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "the module quits exits while it is imported" in fails(
        capsys, "fit", "--config=star_graph/two_levels", option
    )


def test_output__of_characters_that_the_terminal_lacks(monkeypatch: pytest.MonkeyPatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    main(["--version"])
    print("naïve", flush=True)
    assert terminal.buffer.getvalue().endswith(b"na\\xefve\n")


def test_files__that_cannot_be_written(config: Path, capsys: pytest.CaptureFixture):
    message = fails(capsys, "fit", "--config", config, "--trainer.logger.save_dir", "tiny.yaml/logs")
    assert "tiny.yaml/logs" in message
    assert "can't be read or written: Not a directory" in message


@pytest.mark.parametrize(
    ("command", "name", "suitable"), [("fit", "comparisons/growth", "compare"), ("compare", "two_levels", "fit")]
)
def test_main__an_experiment_of_the_wrong_kind(capsys: pytest.CaptureFixture, command: str, name: str, suitable: str):
    assert f"use nextconcept {suitable} --config {name}" in fails(capsys, command, "--config", name)
