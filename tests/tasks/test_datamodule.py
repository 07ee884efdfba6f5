import importlib
from pathlib import Path

import pytest
import torch

from nextconcept import NextConceptModel
from nextconcept.core.errors import InputError
from nextconcept.inference.text import generate_text
from nextconcept.tasks import LinesTask, StarGraph, Task, TaskAccuracy, TaskDataModule
from nextconcept.training.module import ConceptModule
from tests.helpers import small_config, trainer_of

GRAPH = StarGraph(arms=3, path_length=4, nodes=15)

OWN_TASK = '''
import numpy as np
from nextconcept.data.tokenizers import SymbolTokenizer
from nextconcept.tasks import Task

class Double(Task):
    """Write each digit twice; "z" may stand for zero."""

    prompt_length, answer_length = 4, 6
    tokenizer = SymbolTokenizer([*"0123456789z", "="], separator="=")
    single_answers = False

    def __init__(self, highest: int = 9) -> None:
        self.highest = highest

    def num_lines(self, split):
        return None if split == "train" else 20

    def draw(self, split, seed, indices):
        key = {"train": 3 * seed, "val": 1, "test": 2}[split]
        digits = [np.random.default_rng([key, i]).integers(self.highest + 1, size=3) for i in indices]
        return [[*line, 11] for line in digits], [line.repeat(2) for line in digits]

    def judge(self, prompts, answers, truths):
        return {"exact": (answers.where(answers != 10, 0) == truths).all(1), "begun": answers[:, 0] == prompts[:, 0]}
'''


def test_init__context_length_and_vocabulary_are_the_tasks():
    data = TaskDataModule(GRAPH, levels=2, chunk_size=3, batch_size=5)
    assert (data.context_length, data.vocab_size, data.batch_size, data.eval_batch_size) == (36, 19, 5, 5)
    assert TaskDataModule(GRAPH, levels=1, chunk_size=3).context_length == 34
    assert TaskDataModule(GRAPH, 2, 3, 36).context_length == 36
    with pytest.raises(InputError, match="the task StarGraph in chunks of 3 tokens needs context_length 36, not 33"):
        TaskDataModule(GRAPH, 2, 3, 33)


def test_init__a_name_is_no_task():
    with pytest.raises(InputError, match=r"takes a task, such as StarGraph\(.*\), not 'StarGraph'"):
        TaskDataModule("StarGraph")


def test_loaders__train_val_and_test_have_lines_of_their_own():
    data = TaskDataModule(GRAPH, chunk_size=3, batch_size=50, seed=0)
    data.prepare_data()
    data.setup()
    loaders = [data.train_dataloader(), data.val_dataloader(), data.test_dataloader()]
    lines = [{tuple(line) for line in next(iter(loader)).tokens.tolist()} for loader in loaders]
    assert [len(part) for part in lines] == [50, 50, 50]
    assert not lines[0] & lines[1]
    assert not lines[1] & lines[2]
    assert [len(loader) for loader in loaders] == [1000, 20, 20]
    assert torch.equal(next(iter(data.predict_dataloader())).tokens, next(iter(data.test_dataloader())).tokens)


def test_hparams__are_plain_and_load_with_weights_only(tmp_path: Path):
    data = TaskDataModule(GRAPH, chunk_size=3, batch_size=50)
    torch.save(dict(data.hparams), tmp_path / "values.pt")
    assert torch.load(tmp_path / "values.pt", weights_only=True)["batch_size"] == 50
    assert data.describe() == {
        "dataset": "star graph",
        "arms": 3,
        "path_length": 4,
        "nodes": 15,
        "test_lines": 1000,
        "context_length": 36,
    }


def test_tokenizer__typed_prompts_are_padded_to_the_answer():
    data = TaskDataModule(GRAPH, levels=2, chunk_size=4)
    assert data.layout.answer == 32
    prompts, _ = GRAPH.draw("test", 0, [3])
    typed = data.tokenizer.encode_prompt(GRAPH.tokenizer.decode(prompts[0]))
    window = data.held_out_windows("test")[3].tokens[0]
    assert typed.tolist() == window[: data.layout.answer].tolist()
    with pytest.raises(InputError, match="the prompt has no '=', which ends each question"):
        data.tokenizer.encode_prompt("1,2|2,3")


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*lr_scheduler.step.*")
def test_fit__a_task_of_ones_own_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "own_task.py").write_text(OWN_TASK)
    monkeypatch.syspath_prepend(str(tmp_path))
    task: Task = importlib.import_module("own_task").Double(highest=3)
    data = TaskDataModule(task, chunk_size=2, batch_size=8, eval_batch_size=19)
    size = {"vocab_size": data.vocab_size, "context_length": data.context_length}
    module = ConceptModule(small_config(chunk_size=2, depth=1, **size))
    trainer = trainer_of(tmp_path, 3, callbacks=[TaskAccuracy()], val_check_interval=3)
    trainer.fit(module, data)
    metrics = trainer.callback_metrics
    names = [f"val/answer/{name}{change}" for name in ("exact", "begun") for change in ("", "_zero", "_shuffled")]
    assert {name for name in metrics if "/answer/" in name} == {*names, *(f"val/answer/token_{k}" for k in range(1, 7))}


def test_tokenizer__a_model_answers_typed_prompts_and_prints_no_padding(tmp_path: Path):
    """Six lines of unequal length, learnt by heart, are found again from typed prompts."""
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"{'ab' * (n % 3)}{n}={'x' * (n % 3 + 1)}\n" for n in range(6)))
    data = TaskDataModule(LinesTask(str(path), str(path), str(path)), chunk_size=2, eval_batch_size=6)
    torch.manual_seed(0)
    size = {"vocab_size": data.vocab_size, "context_length": data.context_length}
    model = NextConceptModel(small_config(chunk_size=2, depth=1, **size))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    (batch,) = data.val_dataloader()
    for _ in range(60):
        logits = model(batch.tokens[:, :-1]).logits[batch.mask[:, 1:]]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, batch.tokens[:, 1:][batch.mask[:, 1:]]).backward()
        optimizer.step()
    for prompt, answer in (("3=", "x"), ("abab5=", "xxx"), ("abab5=x", "xx")):
        pieces = generate_text(model.eval(), data.tokenizer, [prompt], 8)
        assert "".join(piece for _, piece in pieces) == answer
