"""Training commands as a user meets them: in this process, with real files."""

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nextconcept.checkpoints.files import load_run
from nextconcept.cli.lightning_cli import ConceptCLI
from nextconcept.cli.main import main
from nextconcept.core.experiments import experiment_files
from tests.helpers import fails, full_disk, write_sums

EXPERIMENTS = [name for name in experiment_files() if name.partition("/")[0] not in ("comparisons", "trainer")]

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*")


@pytest.mark.parametrize(("sharded", "split"), [(8, 1), ("auto", "auto"), (1, 2)])
def test_fit__mesh_that_is_not_the_processes(
    config: Path, capsys: pytest.CaptureFixture, sharded: object, split: object
):
    strategy = {
        "class_path": "lightning.pytorch.strategies.ModelParallelStrategy",
        "init_args": {"data_parallel_size": sharded, "tensor_parallel_size": split},
    }
    message = fails(
        capsys, "fit", "--config", config, "--trainer.devices", "2", "--trainer.strategy", json.dumps(strategy)
    )
    assert "set trainer.strategy.init_args.data_parallel_size to 2" in message


def test_fit_validate_test_predict_generate_export(config: Path, capsys: pytest.CaptureFixture):
    pictures = ["--plan_view.windows", "1"]
    assert main(["fit", "--config", str(config), *pictures]) is None, "an installed script exits with what main returns"
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
    assert {"custom_scalars__config__", "sample/text_summary", "model/text_summary"} <= set(events.Tags()["tensors"])
    assert "epoch" not in tags
    # TensorBoard opens on curves and pictures in the order of their names.
    assert min({*tags, *events.Tags()["images"]}) == "plan/window_0/level_1"
    curves = {tag: len(events.Scalars(tag)) for tag in tags if tag.startswith("train/")}
    assert min(curves.values()) > 1, curves
    assert [event.value for event in events.Scalars("train/tokens_seen")] == [4 * 32 * step for step in range(1, 7)]

    capsys.readouterr()
    for command in ("validate", "test"):
        main([command, "--config", str(config), "--ckpt_path", "logs/tiny"])
        printed = capsys.readouterr().out
        assert all(name in printed for name in ("loss/tokens_shuffled", "nats per token", "oracle"))
    main(["predict", "--config", str(config), "--ckpt_path", "logs/tiny"])
    Path("own.txt").write_text("A text of its own, as a whole.")
    whole = ("--data.dataset", "own.txt", "--data.split.val", "0", "--data.split.test", "1")
    assert "fewer than one window" in fails(capsys, "fit", "--config", config, *whole)
    main(["predict", "--config", str(config), "--ckpt_path", "logs/tiny/version_0/checkpoints/last.ckpt", *whole])
    (own,) = (load_file(file) for file in Path("logs/tiny").rglob("surprisal_rank0.safetensors"))
    assert own["nats"].isfinite().sum() == 30  # all bytes but the first, and the end

    generate = ["--prompt", "Line", "--max_new_tokens", "9"]
    capsys.readouterr()
    main(["generate", "--ckpt_path", "logs/tiny", *generate])
    written = capsys.readouterr().out
    assert written.startswith("Line")
    check_writing(capsys, written)
    check_plan(capsys)
    with full_disk(10_000):
        assert "exported can't be written: " in fails(capsys, "export", "--ckpt_path", run, "--output", "exported")
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
    check_measuring_the_export(config, capsys)


def check_measuring_the_export(config: Path, capsys: pytest.CaptureFixture) -> None:
    """It is measured as its run is, with the experiment that trained it or any other."""
    for command in ("validate", "test"):
        tables = []
        for source in ("logs/tiny", "exported"):
            capsys.readouterr()
            main([command, "--config", str(config), "--ckpt_path", source])
            tables.append([line for line in capsys.readouterr().out.splitlines() if "│" in line and "loss" in line])
        assert tables[0] == tables[1]
        assert len(tables[0]) > 3
    main(["predict", "--config", str(config), "--ckpt_path", "exported", "--model.config.dropout", "0.1"])
    assert Path("surprisal_rank0.safetensors").is_file()
    other = yaml.safe_load(config.read_text())
    other["model"]["config"] |= {"width": 8, "num_heads": 1}
    Path("other.yaml").write_text(yaml.safe_dump(other))
    main(["validate", "--config", "other.yaml", "--ckpt_path", "exported"])
    assert "model.config.num_heads is that of the trained model, 2, not 1" in capsys.readouterr().err
    typed = ("--config", config, "--ckpt_path", "exported", "--model.config.depth", 2)
    assert "leave out --model.config.depth" in fails(capsys, "validate", *typed)
    twice = ("--config", config, "--ckpt_path", "exported", "--model.init_from", "exported")
    assert "of --ckpt_path or of --model.init_from" in fails(capsys, "test", *twice)
    assert "no state of its training" in fails(capsys, "fit", "--config", config, "--ckpt_path", "exported")


def check_writing(capsys: pytest.CaptureFixture, written: str) -> None:
    """Check equal texts streamed and from a file, several samples, and a stop string."""
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
    main([*command, "--json", "--edit", "1:1=fox.", "--html", "plan.html"])
    found = json.loads(capsys.readouterr().out)
    page = Path("plan.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert all(f">{word}</bdi>" in page for word in ("Line 5: the", "fox."))
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
    sentence = fails(capsys, "fit", "--config", config, "--data", "HubDataModule", "--data.name", "no-such/dataset")
    assert "unknown dataset 'no-such/dataset'" in sentence


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--model.config.context_length", "30", "context_length 30 is not divisible by 4"),
        ("--model.config.wings", "2", "wings"),
        ("--model.config.sharing", "none", "sharing"),
        ("--model.loss.terms", "{wishes: 1.0}", "unknown concept loss 'wishes'"),
        ("--data.colour", "red", "colour"),
        ("--trainer.max_steps", "many", "max_steps"),
        ("--ckpt_path", "nowhere.ckpt", "there is no checkpoint or run at nowhere.ckpt"),
        ("--ckpt_path", "tiny.yaml", "tiny.yaml is not a checkpoint of nextconcept"),
        ("--config", "nowhere.yaml", "nowhere.yaml"),
        ("--data.seed", "-1", "the seed of the data must be from 0 to"),
        ("--data.levels", "3", "set --model.config.levels"),
        ("--data.init_args.context_length", "3", "set --model.config.context_length"),
        ("--model.optimizer.betas", "[1.5, 0.9]", "betas must be"),
        ("--model.optimizer.lr", ".nan", "lr nan must be positive"),
        ("--sample.prompt", "", "prompt of the writing samples is empty"),
        ("--sample.seed", str(2**70), "seed of the sampling"),
        ("--budget.flops", ".nan", "budget must be positive"),
        ("--plan_view.length", "0", "length 0 of the view"),
    ],
)
def test_fit__bad_settings(config: Path, capsys: pytest.CaptureFixture, option: str, value: str, sentence: str):
    assert sentence in fails(capsys, "fit", "--config", config, option, value)
    assert not Path("logs").exists()


def test_fit__unknown_key_in_the_file(config: Path, capsys: pytest.CaptureFixture):
    config.write_text(config.read_text() + "colour: red\n")
    assert "colour" in fails(capsys, "fit", "--config", config)


OWN_PARTS = """
import torch
from nextconcept.nn.concept_encoder import ConceptEncoder
from tests.helpers import fails

class Parts:
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
    own = ["--model.encoder", "own_parts.Parts.Weighing", "--model.loss.terms", "{own_parts.angle: 1.0}"]
    own += ["--model.config.encoder.composition", "mean"]
    main(["fit", "--config", str(config), *own])
    run = Path("logs/tiny/version_0")
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert not torch.equal(checkpoint["state_dict"]["model.encoder.weights"], torch.full((256,), 0.5))
    tags = EventAccumulator(str(run)).Reload().Tags()["scalars"]
    assert "val/concepts_l1/own_parts.angle/step_1" in tags

    generate = ["generate", "--prompt", "Line", "--max_new_tokens", "3"]
    for source in ("logs/tiny", "exported"):
        if source == "exported":
            main(["export", "--ckpt_path", "logs/tiny", "--output", source, "--encoder", "own_parts.Parts.Weighing"])
        assert "an encoder of its own, Parts.Weighing" in fails(capsys, *generate, "--ckpt_path", source)
        main([*generate, "--ckpt_path", source, "--encoder", "own_parts.Parts.Weighing"])
    main(["validate", "--config", str(run / "config.yaml"), "--ckpt_path", str(run)])
    begin = ["--model.init_from", str(run), "--trainer.max_steps", "1", "--trainer.logger.init_args.name", "second"]
    main(["fit", "--config", str(config), *own, *begin])
    assert "an encoder of its own, Parts.Weighing" in fails(capsys, "fit", "--config", config, *own[2:], *begin)
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


class NoTrainingError(Exception):
    """Raised instead of training."""


class BuildOnly(ConceptCLI):
    """Parse the arguments and build data, model and trainer."""

    def after_instantiate_classes(self) -> None:
        raise NoTrainingError


def build(*arguments: str) -> ConceptCLI:
    cli = BuildOnly.__new__(BuildOnly)
    with pytest.raises(NoTrainingError):
        cli.__init__(["fit", *arguments, "--trainer.accelerator", "cpu", "--trainer.logger", "false"])
    return cli


def shape_of(cli: ConceptCLI) -> tuple[int, int, int, int]:
    """Levels, chunk size, context length and vocabulary, equal in model and data."""
    config, data = cli.model.config, cli.datamodule
    assert data.hierarchy == config.hierarchy
    assert (data.context_length, data.vocab_size) == (config.context_length, config.vocab_size)
    return config.levels, config.chunk_size, config.context_length, config.vocab_size


STAR_GRAPH = """
model:
  config: {levels: 2, chunk_size: 3, width: 16, depth: 1, num_heads: 2, sharing: separate}
data:
  class_path: TaskDataModule
  init_args:
    task: {class_path: StarGraph, init_args: {arms: 2, path_length: 3, nodes: 9}}
    batch_size: 2
"""


def test_data__decides_vocabulary_and_context_of_the_model(tmp_path: Path):
    path = tmp_path / "task.yaml"
    path.write_text(STAR_GRAPH)
    cli = build("--config", str(path))
    assert shape_of(cli) == (2, 3, 18, 13)
    assert cli.datamodule.batch_size == 2
    longer = build("--config", str(path), "--data.task.path_length", "4", "--data.batch_size", "3")
    assert shape_of(longer) == (2, 3, 27, 13)
    assert longer.datamodule.batch_size == 3
    assert shape_of(build("--config", str(path), "--model.config.levels", "1")) == (1, 3, 18, 13)


def test_data__takes_levels_chunk_size_and_context_of_the_model():
    changes = ("--model.config.levels", "3", "--model.config.chunk_size", "2", "--model.config.context_length", "64")
    assert shape_of(build(*changes)) == (3, 2, 64, 256)
    assert shape_of(build("--model.config.chunk_size", "3", "--model.config.width", "24"))[2] == 258
    assert shape_of(build("--data.tokenizer", "bpe", "--data.vocab_size", "300"))[3] == 300


@pytest.mark.parametrize("name", EXPERIMENTS[::6])
def test_one_level__is_the_gpt_of_any_experiment(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    task = ["--data.task.train_file", str(write_sums(tmp_path / "sums.txt"))] if name == "lines" else []
    cli = build("--config", name, "--model.config.levels", "1", "--trainer.precision", "32", *task)
    assert shape_of(cli)[0] == 1


def test_help__makes_the_parser_of_the_given_command_alone(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    made, add = [], ConceptCLI.add_arguments_to_parser
    monkeypatch.setattr(
        ConceptCLI, "add_arguments_to_parser", lambda self, parser: (made.append(parser), add(self, parser))
    )
    for command in ("fit", "predict"):
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])
        assert f"nextconcept [options] {command}" in capsys.readouterr().out
    assert len(made) == 2


@pytest.mark.parametrize("text", ["null", "[END]", "# Title", "~", "{a: 1}", "1"])
def test_sample_prompt__arrives_as_typed(text: str):
    cli = build("--sample.prompt", text)
    assert cli.config.fit.sample.prompt == text


def test_saved_config__is_accepted_again(config: Path):
    main(["fit", "--config", str(config), "--trainer.max_steps", "1", "--sample.prompt", "# null"])
    saved = Path("logs/tiny/version_0/config.yaml")
    assert shape_of(build("--config", str(saved))) == (2, 4, 32, 256)
    assert shape_of(build("--config", str(saved), "--model.config.levels", "1"))[0] == 1
    assert build("--config", str(saved)).config.fit.sample.prompt == "# null"


def rows_of(run: Path) -> list[tuple[str, ...]]:
    """Step and losses of each row of a CSVLogger's file."""
    with (run / "metrics.csv").open(newline="") as file:
        names = ("step", "train/loss", "val/loss/tokens")
        return [tuple(row.get(name, "") for name in names) for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")
def test_csv_logger__a_resumed_run_keeps_its_curves_and_gets_samples_and_plans(config: Path):
    logger = ["--trainer.logger", "lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir", "csv"]
    for name, ways in {"whole": [["9"]], "halves": [["6"], ["9", "--ckpt_path", "last"]]}.items():
        for way in ways:
            constant = ["--model.optimizer.min_lr_ratio", "1", "--trainer.logger.name", name]
            shown = ["--plan_view.windows", "1", "--trainer.max_steps", *way]
            main(["fit", "--config", str(config), *logger, *constant, *shown])
    whole, halves = (Path("csv", name, "version_0") for name in ("whole", "halves"))
    assert rows_of(halves) == rows_of(whole)
    assert {row[0] for row in rows_of(whole)} == {str(step) for step in range(9)}
    for run in (whole, halves):
        assert sorted(path.name for path in (run / "samples").iterdir()) == ["step_000004.txt", "step_000008.txt"]
        assert (run / "plans" / "window_0_level_1_step_000008.png").is_file()
        assert (run / "plans" / "window_0_table_step_000008.md").is_file()
