"""Benchmarks that look into the plans of runs on tasks."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from benchmarks.plan_depth import look, places, probe
from benchmarks.plan_depth import main as plan_depth
from benchmarks.plan_edits import main as plan_edits
from benchmarks.plan_edits import other_beginning, task_prompts, text_prompts
from nextconcept import InputError, NextConceptModel
from nextconcept.checkpoints.hub import save_pretrained
from nextconcept.core.config import ModelConfig
from nextconcept.data.bpe_training import train_bpe
from nextconcept.data.tokenizer_base import Tokenizer
from nextconcept.data.tokenizers import ByteTokenizer
from nextconcept.tasks import Countdown, Maze, StarGraph, Task
from nextconcept.tasks.datamodule import TaskDataModule
from tests.helpers import open_model, small_config

TEXT = "A fox ran off, and a hen sat on the wall; nobody saw it go. "
EQUATIONS = [{"ends": ",>:", "max_length": 6, "mean_length": 3}]
TASKS: dict[str, tuple[Callable[[], Task], dict]] = {
    "star graph": (lambda: StarGraph(arms=2, path_length=4, nodes=9), {"horizon": 2}),
    "maze": (lambda: Maze(width=3, height=3, min_way=3, max_way=6), {"horizon": 2}),
    "countdown": (lambda: Countdown(max_number=9, max_target=20, max_result=20), {"horizon": 2, "chunking": EQUATIONS}),
    "three levels": (lambda: StarGraph(arms=2, path_length=9, nodes=17), {"horizon": [3, 1], "levels": 3}),
}
every_task = pytest.mark.parametrize(("make", "options"), TASKS.values(), ids=TASKS)


def model_of(task: Task, levels: int = 2, **options: object) -> tuple[NextConceptModel, TaskDataModule]:
    torch.manual_seed(0)
    data = TaskDataModule(task, levels, 3, chunking=options.get("chunking"))
    config = ModelConfig(
        vocab_size=data.vocab_size,
        levels=levels,
        chunk_size=3,
        sharing="separate",
        width=24,
        depth=[1, *[2] * (levels - 1)],
        num_heads=2,
        context_length=data.context_length,
        **options,
    )
    model = NextConceptModel(config).eval()
    if model.chunker is not None:
        model.chunker.read_as(data.tokenizer.token_bytes())
    return model, data


def test_probe__finds_what_is_linear_and_nothing_else():
    torch.manual_seed(0)
    states, labels = torch.randn(600, 8), torch.randint(4, (600,))
    assert probe(states, labels, 4) < 0.4
    assert probe(states + 3 * torch.nn.functional.one_hot(labels, 8), labels, 4) > 0.9


@every_task
def test_look__reads_the_anchor_of_the_answer_and_nothing_of_the_answer(make: Callable[[], Task], options: dict):
    model, data = model_of(make(), **options)
    tokens, start = data.held_out_windows("test").__getitems__(list(range(6))).tokens[:, :-1], data.layout.answer
    chunk, place = places(model, tokens, 1)
    assert (place[:, start] == 0).all()
    assert (chunk[:, start] == chunk[:, start - 1] + 1).all()
    states, planned, reached = look(model, tokens, start, 1)
    passes = model.config.depths[1] * model.config.level_loops[1]
    assert states.shape == (passes, 6, 24)
    assert reached[:, : data.task.answer_length].all()
    # The finished plan is a map of the last state: whoever has the state has the plan.
    steps = model.predictor(1).head(model.transformer(1).norm(states[-1]))
    own = steps.gather(1, (chunk - chunk[:, start, None])[:, start : start + 3, None].expand(-1, -1, 24))
    read = model.encoder.read_back_at(own, place[:, start : start + 3]).argmax(-1)
    assert torch.equal(read, planned[:, :3])
    if model.chunker is None:
        changed = tokens.clone()
        changed[:, start:] = 0
        assert torch.equal(look(model, changed, start, 1)[0], states)


def test_other_beginning__is_allowed_and_another():
    for task in (StarGraph(arms=3, path_length=4, nodes=12), Maze(), Maze(loops=2), Countdown()):
        prompts, answers = map(torch.from_numpy, task.draw("test", 0, range(40)))
        length = 6 if isinstance(task, Countdown) else 4
        other = other_beginning(task, prompts, answers, length)
        assert other.shape == (40, length)
        assert (other != answers[:, :length]).any(1).all()
        for prompt, begun in zip(prompts.tolist(), other.tolist(), strict=True):
            if isinstance(task, Countdown):
                assert begun[4] == begun[0] + begun[2]
                left = prompt[0 : 2 * task.numbers : 2]
                left.remove(begun[0])
                assert begun[2] in left
            else:
                edges = {tuple(prompt[place : place + 2]) for place in range(0, len(prompt) - 3, 3)}
                both = edges if isinstance(task, StarGraph) else edges | {pair[::-1] for pair in edges}
                assert begun[0] == prompt[-3]
                assert set(pairwise(begun)) <= both


@every_task
def test_task_prompts__a_whole_chunk_is_replaced(make: Callable[[], Task], options: dict):
    model, data = model_of(make(), **options)
    prompts, wanted = task_prompts(model, data.task, 5)
    assert wanted.shape == (5, 6 if "chunking" in options else 3)
    chunk, _ = places(model, torch.cat((prompts, wanted), 1), 1)
    assert (chunk[:, -wanted.shape[1] :] == chunk[:, -1:]).all()


@every_task
def test_main__of_an_export(make: Callable[[], Task], options: dict, tmp_path: Path, capsys: pytest.CaptureFixture):
    model, data = model_of(make(), **options)
    save_pretrained(model, data.tokenizer, tmp_path)
    plan_depth(str(tmp_path), make(), lines=60, batch_size=40)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["pass", "1", "2", "plan"]
    assert all(len(line.split()) == 1 + data.task.answer_length for line in lines[1:4])
    assert lines[4].startswith("plan as an answer: exact 0.")
    plan_edits(str(tmp_path), make(), prompts=4)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 prompts, level 1, step 0 replaced"
    assert [line.split()[0] for line in lines[1:]] == ["unedited", "edited"]
    for script in (plan_depth, plan_edits):
        with pytest.raises(InputError, match=str(tmp_path)):
            script(str(tmp_path), StarGraph(nodes=30))


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), train_bpe([TEXT], 300)], ids=["bytes", "bpe"])
@pytest.mark.parametrize("options", [{"chunk_size": 3}, {"chunking": ["words"]}], ids=str)
def test_text_prompts__end_with_a_chunk(
    tokenizer: Tokenizer, options: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """Prompts are read with the model's tokenizer, and wanted is the chunk behind another's."""
    monkeypatch.setenv("NEXTCONCEPT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "corpus").mkdir()
    for document in range(60):
        (tmp_path / "corpus" / f"{document}.txt").write_text(TEXT * 30)
    model = open_model(small_config(vocab_size=tokenizer.vocab_size, levels=2, context_length=66, **options))
    if model.chunker is not None:
        model.chunker.read_as(tokenizer.token_bytes())
    prompts, wanted = text_prompts(model, tokenizer, str(tmp_path / "corpus"), 4, 30)
    assert prompts.shape == (4, 30)
    assert all(tokenizer.decode(row) in TEXT * 3 for row in prompts)
    for prompt, chunk in zip(prompts.roll(-1, 0), wanted, strict=True):
        followed = tokenizer.decode([*prompt, *chunk])
        assert followed in TEXT * 5
        if "chunk_size" in options:
            assert len(chunk) == 3
        elif isinstance(tokenizer, ByteTokenizer):  # subwords end elsewhere
            assert re.fullmatch(r"\W*\w+\W", tokenizer.decode(chunk))
    save_pretrained(model, tokenizer, tmp_path / "export")
    plan_edits(str(tmp_path / "export"), prompts=4, dataset=str(tmp_path / "corpus"), length=30)
    assert "4 prompts, level 1, step 0 replaced" in capsys.readouterr().out
