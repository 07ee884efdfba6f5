"""Chunks that rules cut, from the command line."""

import json
from pathlib import Path

import pytest

import nextconcept
from nextconcept.cli.main import main
from tests.core.test_chunking import OWN
from tests.helpers import fails

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*")

RUN = Path("logs/tiny/version_0")


def train(config: Path, chunking: object, *options: object) -> None:
    value = json.dumps(chunking)
    main(["fit", "--config", str(config), "--model.config.chunking", value, *map(str, options)])


@pytest.mark.parametrize(
    ("chunking", "options"),
    [
        pytest.param(["words"], [], marks=pytest.mark.slow),
        pytest.param(
            [{"ends": " \n", "max_length": 12, "mean_length": 3}],
            ["--data.tokenizer", "bpe", "--data.vocab_size", 300],
            marks=pytest.mark.slow,
        ),
        ([OWN, 2], ["--model.config.levels", 3]),
    ],
    ids=str,
)
def test_rules__are_trained_measured_planned_with_and_exported(
    config: Path, capsys: pytest.CaptureFixture, chunking: list, options: list
):
    train(config, chunking, *options)
    main(["validate", "--config", str(config), "--ckpt_path", str(RUN)])
    assert "val/loss/tokens_zero" in capsys.readouterr().out
    main(["plan", "--ckpt_path", str(RUN), "--prompt", "the quick ", "--edit", "1:0=brown ", "--max_new_tokens", "9"])
    assert "edited" in capsys.readouterr().out
    main(["export", "--ckpt_path", str(RUN), "--output", "exported"])
    texts = [nextconcept.load(path).write("the quick ", max_new_tokens=9, temperature=0) for path in (RUN, "exported")]
    assert texts[0] == texts[1]


def test_rules__grow_on_a_trained_model(config: Path, capsys: pytest.CaptureFixture):
    train(config, ["words"], "--model.config.sharing", "separate")
    main(["grow", "--source", str(RUN), "--output", "grown", "--rule", "sentences"])
    assert "to 3 levels" in capsys.readouterr().out
    assert nextconcept.load("grown").model.config.hierarchy.rules[1].rule == "sentences"


@pytest.mark.parametrize(
    ("chunking", "message"),
    [
        (["wrds"], "did you mean words"),
        (["words", 3], "2 rules where 2 levels need 1"),
        ([{"ends": ""}], "either a rule or the characters"),
        (["no.such.rule"], "the chunking rule 'no.such.rule' can't be used"),
    ],
    ids=str,
)
def test_rules__that_are_malformed_are_refused_in_one_sentence(
    config: Path, capsys: pytest.CaptureFixture, chunking: list, message: str
):
    value = json.dumps(chunking)
    assert message in fails(capsys, "fit", "--config", config, "--model.config.chunking", value)
    assert not Path("logs").exists()
