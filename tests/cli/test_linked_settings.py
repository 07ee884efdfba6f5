from pathlib import Path

import pytest

from nextconcept import InputError
from nextconcept.cli.linked_settings import check_linked


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data.levels", "3"],
        ["--data.levels=3"],
        ["--data.init_args.context_length", "3"],
        ["--data.chunk_size", "2"],
        ["--data", "{class_path: TextDataModule, init_args: {levels: 3}}"],
        ["--data.init_args", "{chunk_size: 2}"],
    ],
)
def test_command_line__names_the_model_s_setting(arguments: list[str]):
    with pytest.raises(InputError, match=r"set --model\.config\.(levels|chunk_size|context_length)\.$"):
        check_linked(["fit", *arguments])


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("data: {init_args: {levels: 3}}", "levels"),
        ("data: {levels: 3}", "levels"),
        ("model: {config: {levels: 3}}\ndata: {init_args: {levels: 2}}", "levels"),
        ("data: {init_args: {context_length: 64}}", "context_length"),
        ("data: {init_args: {levels: 2, context_length: null}}", ""),
        ("model: {config: {levels: 3, context_length: 64}}\ndata: {init_args: {levels: 3, context_length: 64}}", ""),
        ("data: TextDataModule", ""),
        ("[not, settings", ""),
    ],
)
def test_file__may_repeat_what_the_model_has(tmp_path: Path, text: str, wrong: str):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    arguments = ["fit", "--config", str(path), "--model.config.levels", "1"]
    if wrong:
        with pytest.raises(InputError, match=rf"run\.yaml has no effect.*--model\.config\.{wrong}\.$"):
            check_linked(arguments)
    else:
        check_linked(arguments)


def test_other_settings__pass():
    check_linked(["fit", "--data.vocab_size", "300", "--model.config.levels=3", "--config", "nowhere.yaml", "--data"])
