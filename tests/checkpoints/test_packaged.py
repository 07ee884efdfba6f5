"""Models that ship with the package."""

from pathlib import Path

import pytest
import torch

from nextconcept import InputError, load
from nextconcept.checkpoints.files import find_checkpoint, find_model
from nextconcept.checkpoints.hub import Export, save_pretrained
from nextconcept.checkpoints.packaged import local_export, packaged_models
from nextconcept.cli.main import main
from nextconcept.data.tokenizers import ByteTokenizer
from nextconcept.tasks import StarGraph
from nextconcept.tasks.records import task_of
from tests.helpers import fails, open_model, small_config

PROMPT = "4,7|9,2|0,4|3,9|2,11|5,1|5,3|1,0/5,11="


def test_packaged_models__are_small_and_complete():
    assert list(packaged_models()) == ["star-graph"]
    for folder in packaged_models().values():
        files = {path.name: path.stat().st_size for path in folder.iterdir()}
        assert set(files) == {"model.safetensors", "config.json", "tokenizer.json", "task.json", "README.md"}
        assert sum(files.values()) < 1_000_000


def test_star_graph__solves_held_out_lines_by_its_plan():
    writer = load("star-graph")
    model, task = writer.model, task_of(find_model("star-graph"), writer.tokenizer)
    assert isinstance(task, StarGraph)
    prompts, truths = (torch.from_numpy(part) for part in task.draw("test", 0, range(200)))
    start = task.layout(model.config.hierarchy).prompt  # what lies before the prompt is padding
    front = torch.full((200, start), task.tokenizer.end_of_text)
    tokens = torch.cat((front, prompts, truths), 1)
    right = {}
    for plan in ("predicted", "zero"):
        with torch.no_grad():
            answers = model(tokens[:, :-1], plan).logits[:, -task.answer_length :].argmax(-1)
        right[plan] = float((answers == truths).all(1).double().mean())
    assert right["predicted"] >= 0.99
    assert right["zero"] < 0.6


def test_star_graph__on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.chdir(tmp_path)
    main(["plan", "--ckpt_path", "star-graph", "--prompt", PROMPT])
    printed = capsys.readouterr()
    assert 'written  "5,3,9,2,11"' in printed.out
    assert printed.err == ""
    main(["grow", "--source", "star-graph", "--output", "grown"])
    assert find_model("grown").task() == find_model("star-graph").task()
    Path("page.html").symlink_to("no/folder/page.html")
    assert "page.html can't be written: No such file" in fails(
        capsys, "plan", "--ckpt_path", "star-graph", "--prompt", PROMPT, "--html", "page.html"
    )
    main(["generate", "--ckpt_path", "star-graph", "--prompt", PROMPT, "--max_new_tokens", "5"])
    assert capsys.readouterr().out.strip() == PROMPT + "5,3,9,2,11"
    assert "star_graph: did you mean star-graph, which is packaged?" in fails(
        capsys, "plan", "--ckpt_path", "star_graph", "--prompt", PROMPT
    )


def test_local_export__what_lies_there_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert local_export("star-graph") == Export(packaged_models()["star-graph"])
    assert find_model("star-graph").vocabulary()[1] == 24
    Path("star-graph").mkdir()
    assert local_export("star-graph") is None
    with pytest.raises(InputError, match="star-graph holds no best.ckpt or last.ckpt"):
        load("star-graph")
    save_pretrained(open_model(small_config(vocab_size=256)), ByteTokenizer(), Path("star-graph"))
    assert local_export("star-graph") == Export(Path("star-graph"))
    assert isinstance(load("star-graph").tokenizer, ByteTokenizer)


def test_find_checkpoint__of_an_export():
    with pytest.raises(InputError, match="which holds no state of its training: give a .ckpt file"):
        find_checkpoint("star-graph")
