"""Tasks as runs and exports record them."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from nextconcept import InputError
from nextconcept.checkpoints.files import KEY, TASK, StoredRun
from nextconcept.checkpoints.hub import Export, save_pretrained
from nextconcept.cli.main import main
from nextconcept.data.tokenizers import ByteTokenizer
from nextconcept.tasks import Countdown, LinesTask, Maze, StarGraph
from nextconcept.tasks.records import record_of, task_from_record, task_of, task_record
from nextconcept.tasks.task import Task
from tests.helpers import Reverse, fails, open_model, small_config, write_sums

STAR = {"name": "StarGraph", "settings": {"arms": 3, "path_length": 4, "nodes": 30}}


@dataclass(eq=False)
class Forked(StarGraph):
    """A task of a user's own."""

    arms: int = 4


def export(folder: Path, task: Task, record: dict | None) -> Export:
    tokenizer = task.tokenizer.with_prompt_length(task.prompt_length + (-task.prompt_length) % 3)
    config = small_config(vocab_size=tokenizer.vocab_size, chunk_size=3, context_length=96)
    save_pretrained(open_model(config), tokenizer, folder, task=record)
    return Export(folder)


def stored_run(folder: Path, **stored: object) -> StoredRun:
    torch.save({"state_dict": {}, "global_step": 1, KEY: stored}, folder / "last.ckpt")
    return StoredRun(folder / "last.ckpt")


@pytest.mark.parametrize(
    "task", [StarGraph(3, 4, 30, train_lines=9), Maze(3, 3, max_way=5), Countdown(2, 9, 5, 30, 30)]
)
def test_task_from_record__has_the_same_tokens_and_prompts(task: Task):
    """Also after a detour through JSON, as in an export."""
    again = task_from_record(json.loads(json.dumps(record_of(task))), "here")
    assert type(again) is type(task)
    assert again.tokenizer.same_tokens(task.tokenizer)
    assert (again.prompt_length, again.answer_length) == (task.prompt_length, task.answer_length)


def test_record_of__holds_plain_values_and_no_files(tmp_path: Path):
    write_sums(tmp_path / "sums.txt")
    assert record_of(LinesTask(str(tmp_path / "sums.txt"))) is None
    assert record_of(Reverse()) == {"name": "tests.helpers.Reverse", "settings": {}}
    assert record_of(StarGraph(3, 4, 30, test_lines=3)) == STAR
    assert record_of(Forked()) == {"name": f"{__name__}.Forked", "settings": {"arms": 4, "path_length": 5, "nodes": 20}}


def test_task_of__of_runs_and_of_runs_before_tasks_were_recorded(tmp_path: Path):
    tokenizer, described = StarGraph(3, 4, 30).tokenizer, StarGraph(3, 4, 30, train_lines=9).describe()
    old = described | {"context_length": 48, "train_file": "gone.txt"}
    for stored in ({TASK: STAR}, {"record": {"data": old}}):
        assert task_record(stored_run(tmp_path, **stored)) == STAR
        task = task_of(stored_run(tmp_path, **stored), tokenizer)
        assert (task.arms, task.path_length, task.nodes) == (3, 4, 30)
    for stored in ({}, {"record": {"data": {"dataset": "texts"}}}):
        assert task_of(stored_run(tmp_path, **stored), ByteTokenizer()) is None


def test_task_of__exports_with_and_without_a_record(tmp_path: Path):
    new, old = export(tmp_path / "new", Forked(), record_of(Forked())), export(tmp_path / "old", Forked(), None)
    tokenizer = Forked().tokenizer
    assert task_of(old, tokenizer) is None
    assert task_of(new, tokenizer) is None  # nobody's module is imported because a file names it
    assert isinstance(task_of(new, tokenizer, Forked), Forked)
    with pytest.raises(InputError, match="Forked, not StarGraph: give that with --task"):
        task_of(new, tokenizer, StarGraph)
    with pytest.raises(InputError, match="does not say .* leave --task out"):
        task_of(old, tokenizer, Forked)


@pytest.mark.parametrize("name", ["os.system", "nextconcept.tasks.star_graph.StarGraph", "Task", "TaskDataModule"])
def test_task_from_record__makes_only_the_tasks_of_the_package(name: str):
    assert task_from_record({"name": name, "settings": {}}, "here") is None


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ({"name": 3, "settings": {}}, "needs a name and settings"),
        ({"name": "Maze"}, "needs a name and settings"),
        (STAR | {"settings": {"arms": "many"}}, "can't be made from its settings"),
        (STAR | {"settings": {"arms": True}}, "can't be made from its settings"),
        (STAR | {"settings": {"arms": 99}}, "must be|has other tokens"),
        (STAR | {"settings": {"legs": 2}}, "can't be made from its settings"),
        (STAR | {"settings": {"train_file": "/etc/hostname"}}, "names files to read"),
        ({"name": "Maze", "settings": {"height": 10**12}}, "has other tokens"),
        ({"name": "Maze", "settings": {"held_out": float("nan")}}, "has other tokens"),
        ({"name": "Maze", "settings": {}}, "has other tokens"),
    ],
    ids=str,
)
def test_task_of__broken_records_are_refused(tmp_path: Path, record: dict, sentence: str):
    with pytest.raises(InputError, match=sentence):
        task_of(export(tmp_path / "model", StarGraph(3, 4, 30), record), StarGraph(3, 4, 30).tokenizer)


def test_task_of__a_file_that_is_no_record(tmp_path: Path):
    stored = export(tmp_path / "model", StarGraph(), record_of(StarGraph()))
    for content in ("[]", "{", "[" * 100_000):
        (stored.path / "task.json").write_text(content)
        with pytest.raises(InputError, match="task.json can't be read"):
            task_record(stored)


@pytest.mark.parametrize(
    "task", [StarGraph(2, 3, 12), Maze(3, 3, max_way=5), Countdown(2, 9, 5, 30, 30)], ids=lambda t: type(t).__name__
)
def test_plan_page__draws_the_answers_of_an_exported_task(tmp_path: Path, task: Task, capsys: pytest.CaptureFixture):
    prompts, _ = task.draw("val", 0, [0])
    options = ["--prompt", task.tokenizer.decode(prompts[0]), "--html"]
    for name, record, count in (("new", record_of(task), 2), ("old", None, 0)):
        folder, page = export(tmp_path / name, task, record).path, tmp_path / f"{name}.html"
        main(["plan", "--ckpt_path", str(folder), *options, str(page)])
        assert page.read_text().count("</svg>") == count
    message = fails(capsys, "plan", "--ckpt_path", tmp_path / "old", *options, page, "--task", f"{__name__}.Forked")
    assert "leave --task out" in message
