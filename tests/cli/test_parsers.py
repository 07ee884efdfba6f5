"""Suggestions for misspelt options, and text that arrives as it was typed."""

from pathlib import Path

import pytest

from nextconcept.cli.parsers import resolve_experiments, run_function
from tests.helpers import fails


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--colur", "there is no option --colur;"),
        ("--trainer.max_stesp", "did you mean --trainer.max_steps?"),
        ("--model.config.widht", "did you mean --model.config.width?"),
        ("--model.config.reader.memroy", "did you mean --model.config.reader.memory?"),
        ("--model.lr", "did you mean --model.optimizer.lr?"),
        ("--model.config.heads", "there is no option --model.config.heads"),
        ("--data.batchsize", "did you mean batch_size?"),
        ("--seed", "did you mean --seed_everything?"),
        ("--resume", "did you mean --ckpt_path?"),
        ("--model.config.levels+", "--model.config.levels+ can't add to model.config.levels"),
        ("--model.config.level", "there is no option --model.config.level: did you mean --model.config.levels?"),
        ("--model.config.widht+", "did you mean --model.config.width+?"),
    ],
)
def test_unknown_option(option: str, sentence: str, capsys: pytest.CaptureFixture):
    assert sentence in fails(capsys, "fit", "--config", "shakespeare", option, "3")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["generate", "--prmpt", "x"], "did you mean --prompt?"),
        (["generate", "--ckpt", "star-graph"], "there is no option --ckpt: did you mean --ckpt_path?"),
        (["compare", "--jbos", "2"], "did you mean --jobs?"),
        (["grow", "--ckpt_path", "x"], "did you mean --source?"),
        (["fit", "shakespeare"], "shakespeare stands alone: did you mean --config shakespeare?"),
        (["fit", "--model.config.chunking", "words"], "chunking takes a list or null, not words: give [words]."),
        (["compare", "--options+", "{a: 1}"], "give all of it as --options;"),
        (["experiments", "--all"], "there is no option --all"),
        (["fit", "--config", "shakespear"], "did you mean shakespeare?"),
        (["fit", "--data", "HubDataModule"], "name must be given among the settings of a class."),
        (["fit", "--data", "TextDataModul"], "did you mean TextDataModule?"),
        (["export", "--ckpt_path", "star-graph"], "--output must be given;"),
        (["fit", "--config", "shakespeare", "--model.config.chunk_size", "8"], "no effect beside the chunking"),
        (["fit", "--model.config", "{widht: 2}"], "did you mean model.config.width?"),
    ],
)
def test_unknown_name(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture):
    assert sentence in fails(capsys, *arguments)


def test_configuration__that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture):
    text = tmp_path / "one.txt"
    text.write_text("Tomorrow and tomorrow\n" * 1000)
    assert "is not a configuration, which is a YAML mapping" in fails(capsys, "fit", "--config", str(text))
    text.write_text("model: [")
    assert len(fails(capsys, "fit", "--config", str(text))) < 1000


@pytest.mark.parametrize("text", ["null", "[END]", "# Title", "~", "{a: 1}", "true", "1", "", "a: b"])
def test_free_text__arrives_as_typed(text: str):
    seen = []

    def command(
        prompt: str | None = None, stop: list[str] | None = None, edit: list[str] | None = None, stream: bool = False
    ) -> None:
        """Note the options."""
        seen.append((prompt, stop, edit, stream))

    run_function(command, ["command", "--prompt", text, "--stop", text, "--stop", "b", "--edit", text, "--stream"])
    run_function(command, ["command", f"--stop={text}"])
    assert seen == [(text, [text, "b"], [text], True), (None, [text], None, False)]


def test_resolve_experiments__by_name_and_by_path(tmp_path: Path):
    own = tmp_path / "own.yaml"
    own.write_text("")
    resolved = resolve_experiments(
        ["fit", "--config", "shakespeare", f"--config={own}", "-c", "trainer/ddp", "--x", "gpt"]
    )
    assert resolved[2].endswith("experiments/shakespeare.yaml")
    assert resolved[3] == f"--config={own}"
    assert resolved[5].endswith("experiments/trainer/ddp.yaml")
    assert resolved[6:] == ["--x", "gpt"]


@pytest.mark.parametrize(
    "group", ["trainer", "model", "model.config", "model.config.planner", "budget", "sample", "best"]
)
@pytest.mark.parametrize("value", ["5", "[1]"])
def test_resolve_experiments__a_value_where_settings_belong(
    group: str, value: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    *outer, last = group.split(".")
    lines = [f"{'  ' * depth}{name}:" for depth, name in enumerate(outer)] + [f"{'  ' * len(outer)}{last}: {value}"]
    (tmp_path / "wrong.yaml").write_text("\n".join(lines))
    said = fails(capsys, "fit", "--config", config, "--config", tmp_path / "wrong.yaml", "--trainer.max_steps", "1")
    assert f"{group} takes settings by name, or a file of them, not " in said
    assert said.endswith("wrong.yaml.")
