"""Bad input of the commands that write."""

from pathlib import Path

import pytest

from nextconcept.cli.main import main
from tests.helpers import fails

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*")


def test_generate_and_plan__bad_options(config: Path, capsys: pytest.CaptureFixture):
    main(["fit", "--config", str(config), "--trainer.max_steps", "1"])
    Path("latin1.txt").write_bytes("é".encode("latin1"))
    prompt = ["--prompt", "Line 5"]
    for command, options, sentence in [
        ("generate", ["--prompt", ""], "the prompt is empty"),
        ("generate", [*prompt, "--temperature", "-1"], "temperature must be 0 or more and finite, not -1.0"),
        ("generate", [*prompt, "--colour", "red"], "colour"),
        ("generate", [*prompt, "--min_p", "2"], "min_p must be above 0 and at most 1"),
        ("generate", [*prompt, "--num_samples", "0"], "num_samples must be from 1 to 100,000"),
        ("generate", [*prompt, "--num_samples", "100000000"], "num_samples must be from 1 to 100,000"),
        ("generate", [*prompt, "--stop", ""], "a stop string is empty"),
        ("generate", [*prompt, "--max_new_tokens", "-1"], "max_new_tokens must be 0 to 10,000,000"),
        ("generate", [], "with either --prompt or --prompt_file"),
        ("generate", [*prompt, "--prompt_file", "x"], "with either --prompt or --prompt_file"),
        ("generate", ["--prompt_file", "missing.txt"], "missing.txt can't be read"),
        ("generate", ["--prompt_file", "latin1.txt"], "not valid UTF-8 near byte 0"),
        ("plan", [*prompt, "--edit", "1=Line"], "not of the form LEVEL:STEP=TEXT"),
        ("plan", [*prompt, "--edit", "1:0=Lines"], "has 5 tokens, but a concept of level 1 has 4"),
        ("plan", [*prompt, "--edit", "3:0=Line"], "no concept level 3: those are 1"),
        ("plan", [*prompt, "--edit", "1:9=Line"], "has steps 0 to 1, not 9"),
        ("plan", [*prompt, "--edit", "1:1=Line", "--edit", "1:1=Kine"], "several edits change step 1 of"),
        ("plan", [*prompt, "--html", "plan.txt"], "must have a name that ends in .html"),
        ("plan", [*prompt, "--html", "missing/plan.html"], "there is no folder missing"),
    ]:
        assert sentence in fails(capsys, command, "--ckpt_path", "logs/tiny", *options)


def test_plan__needs_concepts(config: Path, capsys: pytest.CaptureFixture):
    main(["fit", "--config", str(config), "--trainer.max_steps", "1", "--model.config.levels", "1"])
    assert "has tokens alone, and no plan" in fails(capsys, "plan", "--ckpt_path", "logs/tiny", "--prompt", "x")


def test_generate__not_a_checkpoint(config: Path, capsys: pytest.CaptureFixture):
    assert "is not a checkpoint" in fails(capsys, "generate", "--ckpt_path", config, "--prompt", "x")
    assert "no checkpoint or run" in fails(capsys, "generate", "--ckpt_path", "nowhere", "--prompt", "x")
