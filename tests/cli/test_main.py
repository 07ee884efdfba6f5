"""The command line as a user meets it: in this process, with real files."""

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nextconcept.checkpoints.files import load_run
from nextconcept.cli.main import main
from tests.helpers import fails

pytestmark = pytest.mark.filterwarnings("ignore:LightningCLI's args parameter", "ignore:.*does not have many workers.*")


@pytest.mark.parametrize(("shares", "splits"), [(8, 1), ("auto", "auto"), (1, 2)])
def test_fit__shares_that_are_not_the_processes(
    config: Path, capsys: pytest.CaptureFixture, shares: object, splits: object
):
    strategy = {
        "class_path": "lightning.pytorch.strategies.ModelParallelStrategy",
        "init_args": {"data_parallel_size": shares, "tensor_parallel_size": splits},
    }
    said = fails(
        capsys, "fit", "--config", config, "--trainer.devices", "2", "--trainer.strategy", json.dumps(strategy)
    )
    assert "set trainer.strategy.init_args.data_parallel_size to 2" in said


def test_fit_validate_test_predict_generate_export(config: Path, capsys: pytest.CaptureFixture):
    assert main(["fit", "--config", str(config)]) is None, "an installed script exits with what main returns"
    run = Path("logs/tiny/version_0")
    assert {"config.yaml", "tokenizer.json"} <= {path.name for path in run.iterdir()}
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert (best["global_step"], last["global_step"]) == (4, 6)

    events = EventAccumulator(str(run)).Reload()
    tags = set(events.Tags()["scalars"])
    assert {"train/loss/tokens", "train/loss/concepts_l1", "train/learning_rate", "train/gradient_norm"} <= tags
    assert {"train/tokens_seen", "train/bits_per_byte", "train/tokens_per_second"} <= tags
    assert {"val/loss/tokens", "val/loss/tokens_zero", "val/loss/tokens_shuffled", "val/bits_per_byte"} <= tags
    assert {"val/concepts_l1/similarity/step_2", "val/loss/concepts_l1"} <= tags
    assert {"custom_scalars__config__", "sample/text_summary"} <= set(events.Tags()["tensors"])
    assert [event.value for event in events.Scalars("train/tokens_seen")] == [4 * 32 * step for step in range(1, 7)]

    capsys.readouterr()
    for command in ("validate", "test"):
        main([command, "--config", str(config), "--ckpt_path", "logs/tiny"])
        printed = capsys.readouterr().out
        assert all(name in printed for name in ("loss/tokens_shuffled", "nats per token", "oracle"))
    main(["predict", "--config", str(config), "--ckpt_path", "logs/tiny"])
    assert list(Path("logs").glob("**/surprisal_rank0.safetensors"))

    generate = ["--prompt", "Line", "--max_new_tokens", "9"]
    capsys.readouterr()
    main(["generate", "--ckpt_path", "logs/tiny", *generate])
    written = capsys.readouterr().out
    assert written.startswith("Line")
    check_writing(capsys, written)
    check_plan(capsys)
    main(["export", "--ckpt_path", str(run), "--output", "exported"])
    card = Path("exported", "README.md").read_text()
    assert f"| `val/loss/tokens` | {best['nextconcept']['record']['measured']['val/loss/tokens']:.4f} |" in card
    assert "at step 4" in card
    assert "- optimizer steps: 4" in card
    capsys.readouterr()
    main(["generate", "--ckpt_path", "exported", *generate])
    assert capsys.readouterr().out == written
    main(["grow", "--source", "logs/tiny", "--output", "grown", "--init", "random"])
    assert "grew 2 levels of widths [16, 32]" in capsys.readouterr().out
    main(["generate", "--ckpt_path", "grown", *generate])
    assert capsys.readouterr().out == written
    assert "grown exists" in fails(capsys, "grow", "--source", run, "--output", "grown")
    assert "exported exists" in fails(capsys, "export", "--ckpt_path", run, "--output", "exported")


def check_writing(capsys: pytest.CaptureFixture, written: str) -> None:
    """The same text streamed and from a file; several samples; a stop string."""
    Path("prompt.txt").write_text("Line")
    generate = ["generate", "--ckpt_path", "logs/tiny", "--max_new_tokens", "9"]
    for options in (["--prompt_file", "prompt.txt"], ["--prompt", "Line", "--stream"]):
        main([*generate, *options])
        assert capsys.readouterr().out == written
    main([*generate, "--prompt", "Line", "--num_samples", "3", "--stream"])
    printed = capsys.readouterr().out
    assert [printed.count(f"--- sample {index} of 3\nLine") for index in (1, 2, 3)] == [1, 1, 1]
    last = written.rstrip("\n")[-1]
    main([*generate, "--prompt", "Line", "--stop", last])
    assert capsys.readouterr().out == "Line" + written[4:].split(last)[0] + "\n"


def check_plan(capsys: pytest.CaptureFixture) -> None:
    command = ["plan", "--ckpt_path", "logs/tiny", "--prompt", "Line 5: the"]
    main(command)
    printed = capsys.readouterr().out
    assert "level 1" in printed
    assert "differs" in printed or "agree" in printed
    main([*command, "--json", "--edit", "1:1=fox."])
    found = json.loads(capsys.readouterr().out)
    assert [(step["step"], step["start"], step["edited"]) for step in found["plan"]] == [(0, 8, False), (1, 12, True)]
    assert found["plan"][1]["match"] > found["plan"][0]["match"]
    assert len(found["written"].encode()) >= 8 - 4


def test_fit__resumes_from_a_run(config: Path):
    main(["fit", "--config", str(config)])
    main(
        [
            "fit",
            "--config",
            str(config),
            "--ckpt_path",
            "logs/tiny/version_0/checkpoints/last.ckpt",
            "--trainer.max_steps",
            "9",
        ]
    )
    checkpoint = torch.load("logs/tiny/version_1/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 9


def test_fit__bpe(config: Path):
    main(["fit", "--config", str(config), "--data.tokenizer", "bpe", "--data.vocab_size", "300"])
    model, tokenizer = load_run("logs/tiny")
    assert model.config.vocab_size == 300
    assert tokenizer.decode(tokenizer.encode("Line 5")) == "Line 5"


def test_fit__one_level_is_a_plain_language_model(config: Path):
    main(["fit", "--config", str(config), "--model.config.levels", "1"])
    assert load_run("logs/tiny")[0].config.levels == 1


def test_fit__bad_data_leaves_nothing(config: Path, capsys: pytest.CaptureFixture, tmp_path: Path, cache: Path):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "latin1.txt").write_bytes("Où est le café ?".encode("latin1"))
    (tmp_path / "short.txt").write_text("short")
    for dataset, sentence in {
        "missing.txt": "no file matches dataset 'missing.txt'",
        "empty.txt": "empty.txt is empty",
        "latin1.txt": "latin1.txt is not valid UTF-8 near byte 1",
        "short.txt": "fewer than one window of 33",
    }.items():
        assert sentence in fails(capsys, "fit", "--config", config, "--data.dataset", dataset)
    assert not Path("logs").exists()
    assert not list(cache.glob("*.partial"))


def test_fit__unknown_dataset(config: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    sentence = fails(capsys, "fit", "--config", config, "--data.dataset", "no-such/dataset")
    assert "unknown dataset 'no-such/dataset'" in sentence


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--model.config.context_length", "30", "context 30 is not divisible by 4"),
        ("--model.config.wings", "2", "wings"),
        ("--model.config.sharing", "none", "sharing"),
        ("--model.loss.terms", "{wishes: 1.0}", "unknown concept loss 'wishes'"),
        ("--data.colour", "red", "colour"),
        ("--trainer.max_steps", "many", "max_steps"),
        ("--ckpt_path", "nowhere.ckpt", "there is no checkpoint or run at nowhere.ckpt"),
        ("--ckpt_path", "tiny.yaml", "tiny.yaml is not a checkpoint of nextconcept"),
        ("--config", "nowhere.yaml", "nowhere.yaml"),
    ],
)
def test_fit__bad_settings(config: Path, capsys: pytest.CaptureFixture, option: str, value: str, sentence: str):
    assert sentence in fails(capsys, "fit", "--config", config, option, value)
    assert not Path("logs").exists()


def test_fit__unknown_key_in_the_file(config: Path, capsys: pytest.CaptureFixture):
    config.write_text(config.read_text() + "colour: red\n")
    assert "colour" in fails(capsys, "fit", "--config", config)


def test_main__unknown_command(capsys: pytest.CaptureFixture):
    assert "dance" in fails(capsys, "dance")


def test_generate_and_plan__bad_options(config: Path, capsys: pytest.CaptureFixture):
    main(["fit", "--config", str(config), "--trainer.max_steps", "1"])
    Path("latin1.txt").write_bytes("é".encode("latin1"))
    prompt = ["--prompt", "Line 5"]
    for command, options, sentence in [
        ("generate", ["--prompt", ""], "the prompt is empty"),
        ("generate", [*prompt, "--temperature", "-1"], "temperature must be 0 or more, not -1.0"),
        ("generate", [*prompt, "--colour", "red"], "colour"),
        ("generate", [*prompt, "--min_p", "2"], "min_p must be above 0 and at most 1"),
        ("generate", [*prompt, "--num_samples", "0"], "num_samples must be 1 or more"),
        ("generate", [*prompt, "--stop", ""], "a stop string is empty"),
        ("generate", [*prompt, "--max_new_tokens", "-1"], "max_new_tokens must be 0 or more"),
        ("generate", [], "with either --prompt or --prompt_file"),
        ("generate", [*prompt, "--prompt_file", "x"], "with either --prompt or --prompt_file"),
        ("generate", ["--prompt_file", "missing.txt"], "missing.txt can't be read"),
        ("generate", ["--prompt_file", "latin1.txt"], "not valid UTF-8 near byte 0"),
        ("plan", [*prompt, "--edit", "1=Line"], "not of the form LEVEL:STEP=TEXT"),
        ("plan", [*prompt, "--edit", "1:0=Lines"], "has 5 tokens, but a concept of level 1 has 4"),
        ("plan", [*prompt, "--edit", "3:0=Line"], "levels 1 to 1"),
        ("plan", [*prompt, "--edit", "1:9=Line"], "has steps 0 to 1, not 9"),
    ]:
        assert sentence in fails(capsys, command, "--ckpt_path", "logs/tiny", *options)


def test_plan__needs_concepts(config: Path, capsys: pytest.CaptureFixture):
    main(["fit", "--config", str(config), "--trainer.max_steps", "1", "--model.config.levels", "1"])
    assert "has tokens alone, and no plan" in fails(capsys, "plan", "--ckpt_path", "logs/tiny", "--prompt", "x")


def test_generate__not_a_checkpoint(config: Path, capsys: pytest.CaptureFixture):
    assert "is not a checkpoint" in fails(capsys, "generate", "--ckpt_path", config, "--prompt", "x")
    assert "no checkpoint or run" in fails(capsys, "generate", "--ckpt_path", "nowhere", "--prompt", "x")


OWN_PARTS = """
import torch
from nextconcept.nn.concept_encoder import ConceptEncoder
from tests.helpers import fails

class Weighing(ConceptEncoder):
    def __init__(self, config):
        super().__init__(config)
        self.weights = torch.nn.Parameter(torch.full((config.vocab_size,), 0.5))

    def forward(self, tokens):
        weights, levels = self.weights[tokens][..., None], self.config.hierarchy.concept_levels
        return {level: self.concepts(weights * self.embed(tokens, level), level) for level in levels}

def angle(at):
    return torch.nn.functional.mse_loss(at.plan, at.targets, reduction="none").sum(-1)

seven = 7
"""


def test_encoder_and_loss_of_ones_own(config: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    Path("own_parts.py").write_text(OWN_PARTS)
    monkeypatch.syspath_prepend(".")
    own = ["--model.encoder", "own_parts.Weighing", "--model.loss.terms", "{own_parts.angle: 1.0}"]
    main(["fit", "--config", str(config), *own])
    run = Path("logs/tiny/version_0")
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert not torch.equal(checkpoint["state_dict"]["model.encoder.weights"], torch.full((256,), 0.5))
    tags = EventAccumulator(str(run)).Reload().Tags()["scalars"]
    assert "val/concepts_l1/own_parts.angle/step_1" in tags

    generate = ["generate", "--prompt", "Line", "--max_new_tokens", "3"]
    for source in ("logs/tiny", "exported"):
        if source == "exported":
            main(["export", "--ckpt_path", "logs/tiny", "--output", source, "--encoder", "own_parts.Weighing"])
        assert "an encoder of its own, Weighing" in fails(capsys, *generate, "--ckpt_path", source)
        main([*generate, "--ckpt_path", source, "--encoder", "own_parts.Weighing"])
    main(["validate", "--config", str(run / "config.yaml"), "--ckpt_path", str(run)])
    # What a checkpoint names is imported only if the user has named it too.
    named = "asks for code of its own, own_parts.angle"
    assert named in fails(capsys, "validate", "--config", config, "--ckpt_path", run, *own[:2])

    assert "can't be imported" in fails(capsys, "fit", "--config", config, "--model.encoder", "own_parts.Nothing")
    assert "can't be imported" in fails(capsys, *generate, "--ckpt_path", run, "--encoder", "no_parts.Nothing")
    assert "Expected an import path" in fails(capsys, *generate, "--ckpt_path", run, "--encoder", "torch.nn.Linear")
    for term, sentence in (("own_parts.no", "unknown concept loss"), ("own_parts.seven", "is no function, but int")):
        assert sentence in fails(capsys, "fit", "--config", config, "--model.loss.terms", f"{{{term}: 1.0}}")


def test_checkpoint_that_names_an_encoder_is_refused(config: Path, capsys: pytest.CaptureFixture):
    main(["fit", "--config", str(config), "--trainer.max_steps", "1"])
    path = Path("logs/tiny/version_0/checkpoints/last.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["encoder"] = "antigravity.nothing"
    torch.save(checkpoint, path)
    asked = fails(capsys, "validate", "--config", config, "--ckpt_path", path)
    assert "asks for code of its own, antigravity.nothing" in asked
