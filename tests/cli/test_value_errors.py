"""A value that an option does not take is reported in one short sentence."""

from pathlib import Path

import pytest

from nextconcept.cli.value_errors import describe_value_error
from tests.helpers import fails

TEXT = ("--config", "shakespeare")
GRAPH = ("--config", "star_graph/gpt_d2_l5")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fit", *TEXT, "--trainer.max_steps", "many"], "trainer.max_steps takes a whole number, not many."),
        (["fit", *TEXT, "--model.optimizer.lr", "fast"], "model.optimizer.lr takes a number, not fast."),
        (["fit", *TEXT, "--model.config.width", "big"], "model.config.width takes a whole number or a list, not big."),
        (["fit", *TEXT, "--model.config.horizon", "far"], "horizon takes a whole number, full or a list, not far."),
        (["fit", *TEXT, "--model.config.planner.mode", "x"], "planner.mode takes parallel or rollout, not x."),
        (["fit", *TEXT, "--model.loss.terms", "mse"], "model.loss.terms takes a mapping, not mse."),
        (["fit", *TEXT, "--model.config", "3"], "model.config takes settings by name, or a file of them, not 3."),
        (["fit", *TEXT, "--model.objective", "no.Such"], "model.objective names a class that can't be imported: No"),
        (["fit", *TEXT, "--model.objective", "nextconcept.tasks.Maze"], "is to be of the class Objective, which next"),
        (["fit", *GRAPH, "--data.task", "no.Such"], "task names a class that can't be imported: No module named 'no'."),
        (["fit", *GRAPH, "--data.task.arms", "x"], "arms takes a whole number, not x."),
        (["generate", "--ckpt_path", "star-graph", "--draft", "x"], "draft takes plan, text or null, not x."),
        (["generate", "--ckpt_path", "star-graph", "--seed", ""], "seed takes a whole number, not an empty text."),
        (["generate", "--ckpt_path", "star-graph", "--top_k", ""], "top_k takes a whole number or null, not an empty"),
        (["generate", "--ckpt_path", "star-graph", "--stream=%"], "stream takes true or false, not %."),
        (["generate", "--ckpt_path", "star-graph", "--encoder", "1.5"], "there is no class 1.5: give its full name;"),
        (["export", "--ckpt_path", "star-graph", "--encoder", "[]"], "there is no class []: give its full name;"),
        (["compare", "--config", "comparisons/tunes", "--jobs", "x"], "jobs takes a whole number, not x."),
    ],
)
def test_refused_value(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture):
    assert sentence in fails(capsys, *arguments)


UNFINISHED = """
from nextconcept.data.datamodule import ConceptDataModule
from nextconcept.tasks import Task


class Data(ConceptDataModule):
    vocab_size, tokenizer = 256, None

    def training_windows(self, seed):
        return []


class Own(Task):
    prompt_length = answer_length = 3
"""


def test_unfinished_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    (tmp_path / "unfinished.py").write_text(UNFINISHED)
    (tmp_path / "own.yaml").write_text("data: {class_path: unfinished.Data, init_args: {batch_size: 2}}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sentence = "data names the class unfinished.Data, which lacks describe, held_out_windows."
    assert sentence in fails(capsys, "fit", *TEXT, "--data", "unfinished.Data")
    assert sentence in fails(capsys, "fit", *TEXT, "--config", "own.yaml")
    sentence = "task names the class unfinished.Own, which lacks draw, num_lines."
    assert sentence in fails(capsys, "fit", *GRAPH, "--data.task", "unfinished.Own")


@pytest.mark.parametrize("message", ["the following arguments are required: --prompt", 'Parser key "x": no'])
def test_describe_value_error__leaves_other_errors_alone(message: str):
    assert describe_value_error(message) is None
