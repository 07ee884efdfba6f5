import os
from pathlib import Path

import pytest
import torch

from nextconcept import InputError, NextConceptModel
from nextconcept.checkpoints.files import KEY, find_checkpoint, find_model, load_run, read_checkpoint
from nextconcept.checkpoints.hub import save_pretrained
from nextconcept.data.tokenizers import ByteTokenizer
from tests.helpers import open_model, small_config


def write_run(path: Path, model: NextConceptModel) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    stored = {"config": model.config.to_dict(), "tokenizer": ByteTokenizer().to_json()}
    torch.save({"state_dict": weights, KEY: stored}, path)
    return path


def test_load_run__from_file_run_or_folder_of_runs(tmp_path: Path):
    model, tokens = open_model(small_config(vocab_size=256)), torch.randint(256, (1, 9))
    old = write_run(
        tmp_path / "version_0" / "checkpoints" / "best.ckpt", NextConceptModel(small_config(vocab_size=256))
    )
    new = write_run(tmp_path / "version_1" / "checkpoints" / "best.ckpt", model)
    os.utime(old, (1, 1))
    for path in (new, tmp_path / "version_1", tmp_path / "version_1" / "checkpoints", tmp_path):
        loaded, tokenizer = load_run(path)
        assert torch.equal(loaded(tokens).logits, model(tokens).logits)
        assert isinstance(tokenizer, ByteTokenizer)


def test_find_checkpoint__newest_run_first_then_the_preferred_name(tmp_path: Path):
    tmp_path = tmp_path / "name"
    times = {"version_0/checkpoints/best.ckpt": 3, "mine/checkpoints/best.ckpt": 1, "mine/checkpoints/last.ckpt": 4}
    for name, time in times.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (time, time))
    assert find_checkpoint(tmp_path) == tmp_path / "mine/checkpoints/best.ckpt"
    assert find_checkpoint(tmp_path, ("last.ckpt", "best.ckpt")) == tmp_path / "mine/checkpoints/last.ckpt"
    assert find_checkpoint(tmp_path / "version_0", ("last.ckpt", "best.ckpt")).name == "best.ckpt"
    assert find_checkpoint(tmp_path.parent) == tmp_path / "mine/checkpoints/best.ckpt"  # the folder of all logs


def test_find_checkpoint__none(tmp_path: Path):
    with pytest.raises(InputError, match="holds no best.ckpt or last.ckpt"):
        find_checkpoint(tmp_path)
    with pytest.raises(InputError, match="there is no checkpoint or run at"):
        find_checkpoint(tmp_path / "missing")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04broken"])
def test_read_checkpoint__not_one(tmp_path: Path, content: bytes):
    path = tmp_path / "bad.ckpt"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a checkpoint of nextconcept"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"state_dict": []},
        {"state_dict": {3: 4}},
        {KEY: []},
        {KEY: None},
        {KEY: {"objective": []}},
        {KEY: {"objective": {"name": 3}}},
        {KEY: {"record": []}},
        {KEY: {"record": {"measured": {"val/loss": "low"}}}},
        {"nextconcept_compute": {"flops": "many"}},
        {"nextconcept_compute": {"flops": 1.0}},
        {"nextconcept_first_step": "ten"},
        {"global_step": "ten"},
        {"loops": None},
        {"optimizer_states": [None]},
        {"optimizer_states": [], "loops": {}, "global_step": 3},
        {"optimizer_states": [{}], "loops": {}, "lr_schedulers": [], "global_step": 3},
        {"optimizer_states": [{"state": {0: None}}], "loops": {}, "lr_schedulers": [], "global_step": 3},
        {"optimizer_states": [], "loops": {}, "lr_schedulers": {}, "global_step": 3},
    ],
    ids=str,
)
def test_read_checkpoint__damaged(tmp_path: Path, wrong: dict):
    path = write_run(tmp_path / "best.ckpt", NextConceptModel(small_config(vocab_size=256)))
    torch.save(torch.load(path) | wrong, path)
    with pytest.raises(InputError, match="is damaged"):
        load_run(path)


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


def test_read_checkpoint__runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, KEY: Evil()}, "evil.ckpt")
    with pytest.raises(InputError, match="is not a checkpoint"):
        read_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "evil").exists()


def test_load_run__weights_of_another_shape(tmp_path: Path):
    path = write_run(tmp_path / "odd.ckpt", NextConceptModel(small_config(vocab_size=256)))
    checkpoint = torch.load(path, weights_only=True)
    checkpoint[KEY]["config"]["width"] = 64
    torch.save(checkpoint, path)
    with pytest.raises(InputError, match="do not fit its configuration"):
        load_run(path)


def test_load_run__of_another_version(tmp_path: Path):
    path = write_run(tmp_path / "old.ckpt", NextConceptModel(small_config(vocab_size=256)))
    checkpoint = torch.load(path, weights_only=True)
    checkpoint[KEY]["config"] = {"levels": 2, "width": 32, "heads": 4, "window": None, "grid": "start"}
    torch.save(checkpoint, path)
    with pytest.raises(
        InputError, match=r"old.ckpt can't be used: unknown settings grid, heads, window: .* train it again"
    ):
        load_run(path)


def test_load_run__weights_that_are_not_finite(tmp_path: Path):
    model = NextConceptModel(small_config(vocab_size=256))
    torch.nn.init.constant_(model.encoder.embedding.weight, float("nan"))
    path = write_run(tmp_path / "diverged.ckpt", model)
    save_pretrained(model, ByteTokenizer(), tmp_path / "export")
    for source in (path, tmp_path / "export"):
        with pytest.raises(InputError, match=f"{source} are not finite .* its training diverged"):
            load_run(source)


def test_load_run__a_tokenizer_with_fewer_tokens_than_the_model_knows(tmp_path: Path):
    """BPE finds fewer than were asked for in a short text."""
    model = NextConceptModel(small_config(vocab_size=300))
    save_pretrained(model, ByteTokenizer(), tmp_path / "export")
    for source in (write_run(tmp_path / "run.ckpt", model), tmp_path / "export"):
        assert load_run(source)[1].vocab_size == 256


def test_load_run__a_tokenizer_with_more_tokens_than_the_model_knows(tmp_path: Path):
    model = NextConceptModel(small_config(vocab_size=200))
    path = write_run(tmp_path / "run.ckpt", model)
    save_pretrained(model, ByteTokenizer(), tmp_path / "export")
    for source in (path, tmp_path / "export"):
        for load in (load_run, lambda path: find_model(path).vocabulary()):
            with pytest.raises(InputError, match=f"in {source} has 256 tokens, but the model knows 200"):
                load(source)


def test_read_checkpoint__of_a_trainer_without_metadata(tmp_path: Path):
    torch.save({"state_dict": {}}, tmp_path / "plain.ckpt")
    with pytest.raises(InputError, match="has weights but says nothing of their model"):
        read_checkpoint(tmp_path / "plain.ckpt")


def test_load_run__a_run_on_data_without_a_tokenizer(tmp_path: Path):
    path = write_run(tmp_path / "last.ckpt", NextConceptModel(small_config()))
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint[KEY]["tokenizer"]
    torch.save(checkpoint, path)
    with pytest.raises(InputError, match="has no tokenizer, because its run had no ConceptDataModule, or"):
        load_run(path)
