"""Any input gives a result or one sentence: no traceback, no hang, no file lost."""

import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nextconcept import InputError, ModelConfig, NextConceptModel, generate
from nextconcept.checkpoints.files import KEY, load_run
from nextconcept.checkpoints.hub import save_pretrained
from nextconcept.cli.main import main
from nextconcept.data.corpus import files_corpus
from nextconcept.data.token_cache import SplitConfig, encode_corpus
from nextconcept.data.tokenizers import ByteTokenizer
from nextconcept.tasks.lines import LinesTask
from nextconcept.tasks.star_graph import StarGraph
from tests.helpers import nested_settings, small_config

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings(
        "ignore:.*TensorBoardLogger.*", "ignore:.*fast_dev_run.*", "ignore:Checkpoint directory"
    ),
    pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*", "ignore:.*log_every_n_steps.*"),
]


def fuzz(examples: int) -> Callable:
    """The same examples in every run, in one folder after another."""
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A folder with a corpus, a configuration, a checkpoint and an exported model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = "".join(f"Line {i}: the quick brown fox jumps over the lazy dog.\n" for i in range(60))
        (folder / "corpus.txt").write_text(text)
        shape = {"levels": 2, "width": 16, "depth": 1, "num_heads": 2, "horizon": 2, "context_length": 16}
        values = {
            "model": {"config": shape},
            "data": {"dataset": str(folder / "corpus.txt"), "batch_size": 2, "cache_dir": str(folder / "cache")},
            "trainer": {"accelerator": "cpu", "fast_dev_run": True, "enable_progress_bar": False, "logger": False},
        }
        values["data"]["split"] = {"by": "contiguous", "val": 0.1, "test": 0.1}
        values["trainer"]["enable_model_summary"] = False
        (folder / "tiny.yaml").write_text(yaml.safe_dump(values))
        torch.manual_seed(0)
        model = NextConceptModel(ModelConfig(**shape)).eval()
        save_pretrained(model, ByteTokenizer(), folder / "exported")
        stored = {"config": model.config.to_dict(), "tokenizer": ByteTokenizer().to_json()}
        weights = {f"model.{name}": value for name, value in model.state_dict().items()}
        torch.save({"state_dict": weights, KEY: stored}, folder / "good.ckpt")
        yield folder


def runs(call: Callable[[], object]) -> bool:
    """Return whether a case ran; it may be refused in one sentence."""
    message = None
    try:
        call()
    except InputError as error:
        message = str(error)
    assert message is None or 10 < len(message) < 1000
    return message is None


def exits(capsys: pytest.CaptureFixture, *args: str) -> bool:
    """The same for a command."""
    capsys.readouterr()
    code: object = 0
    try:
        main([str(arg) for arg in args])
    except SystemExit as stopped:
        code = stopped.code or 0
    message = capsys.readouterr().err
    lines = [line for line in message.splitlines() if line.startswith("nextconcept: error: ")]
    assert (code, len(lines)) in ((0, 0), (2, 1)), message
    assert "Traceback" not in message
    return code == 0


numbers = st.one_of(st.integers(-2, 70), st.sampled_from([0, 1, 2, 4, 8, 16, 32, 64]))
listed = st.one_of(numbers, st.lists(numbers, min_size=1, max_size=4))
SHAPES = {
    "levels": st.integers(-1, 4),
    "chunk_size": st.integers(0, 5),
    "width": listed,
    "depth": st.one_of(st.integers(0, 2), st.lists(st.integers(0, 2), max_size=4)),
    "num_loops": st.one_of(st.integers(0, 2), st.lists(st.integers(1, 2), max_size=4)),
    "num_heads": listed,
    "horizon": st.one_of(st.integers(-1, 5), st.just("full"), st.lists(st.integers(0, 3), max_size=3)),
    "planner__mode": st.sampled_from(["parallel", "rollout"]),
    "reader__plan_conditioning": st.sampled_from(["cross", "prefix", "unbind"]),
    "reader__memory": st.sampled_from(["none", "concepts", "states"]),
    "reader__pointers": st.integers(-1, 3),
    "block__num_kv_heads": st.one_of(st.none(), numbers),
    "block__head_size": st.one_of(st.none(), numbers),
    "sharing": st.sampled_from(["nested", "shared", "separate"]),
    "nested__width_ratio": st.integers(0, 3),
    "nested__slicing": st.sampled_from(["heads", "head_size"]),
    "sliding_window": st.one_of(
        st.none(),
        st.integers(-1, 9),
        st.lists(
            st.one_of(st.none(), st.integers(1, 9), st.lists(st.one_of(st.none(), st.integers(0, 9)), max_size=3)),
            max_size=3,
        ),
    ),
    "context_length": st.one_of(st.none(), st.integers(-4, 64)),
    "encoder__composition": st.sampled_from(
        ["sum", "mlp->sum->mlp->norm", "linear", "norm", "max->max", "", "sum->", "mean"]
    ),
    "encoder__depth": st.integers(-1, 1),
    "planner__noise_width": st.integers(-1, 3),
    "planner__shift": st.booleans(),
    "planner__end_state": st.booleans(),
    "dropout": st.sampled_from([0.0, 0.1, 1.0, -1.0]),
    "block__feed_forward_ratio": st.sampled_from([2.0, 0.01, 0.0, -1.0]),
}


@fuzz(150)
@given(st.fixed_dictionaries({}, optional=SHAPES), st.integers(1, 40))
def test_configs(values: dict, time: int):
    def call() -> None:
        small = {"vocab_size": 30, "width": 16, "depth": 1, "num_heads": 2, "horizon": 2}
        config = ModelConfig(**nested_settings(small | values))
        model = NextConceptModel(config)
        logits = model(torch.randint(30, (2, time))).logits
        assert logits.shape == (2, time, 30)
        assert logits.isfinite().all()
        generate(model, torch.randint(30, (1, time)), 2)

    runs(call)


OPTIONS = {
    "model.config.levels": ["0", "3", "x", "1.5", "null"],
    "model.config.width": ["7", "-16", "[8, 16]", "wide"],
    "model.config.context_length": ["17", "32", "1e9", "100000000"],
    "model.config.sharing": ["none", "shared", "separate"],
    "model.encoder": ["", "x", "torch.nn.Linear", "no.such", "nextconcept.nn.concept_encoder.ConceptEncoder", "7"],
    "model.loss.terms": [
        "{mse: 1}",
        "{magic: 1}",
        "{math.pi: 1}",
        "{math.sqrt: 1}",
        "{torch.ones_like: 1}",
        "{.x: 1}",
        "{decode: -1}",
        "{energy: 1}",
        "[]",
        "7",
    ],
    "model.loss.level_weight": ["[]", "0", "[1, 2]", "a"],
    "model.optimizer.lr": ["-1", "0", "nan", "1e-3", "fast"],
    "model.train_plan": ["oracle", "zero", "mine"],
    "model.init_from": ["nowhere", "/", ""],
    "data.dataset": ["missing.txt", "", "*.nothing", "a/b/c", "."],
    "data.tokenizer": ["bpe", "words"],
    "data.vocab_size": ["3", "300", "-1"],
    "data.batch_size": ["0", "3", "-7", "many"],
    "data.split": ["{val: 2}", "{by: word}", "{val: 0, test: 0}", "x"],
    "data": [
        json.dumps(
            {"class_path": "TaskDataModule", "init_args": {"task": {"class_path": "StarGraph", "init_args": graph}}}
        )
        for graph in ({"arms": 9}, {"path_length": 1}, {"nodes": 3}, {"wings": 2})
    ],
    "data.num_workers": ["-1", "two"],
    "budget.flops": ["-1", "1e3", "x"],
    "grown.freeze_steps": ["-1", "2"],
    "last.every_n_train_steps": ["-1", "2", "x"],
    "sample.prompt": ["", "x"],
    "trainer.max_steps": ["0", "2", "x"],
    "trainer.precision": ["bf16-mixed", "7", "16-true"],
    "trainer.devices": ["0", "x"],
    "ckpt_path": ["nowhere", "last", "corpus.txt", "."],
    "seed_everything": ["-1", "x", "99999999999999999999"],
    "wings": ["2"],
}


@pytest.mark.slow
@fuzz(200)
@given(st.sampled_from([(name, value) for name, values in OPTIONS.items() for value in values]))
def test_command_line(home: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, option: tuple):
    monkeypatch.chdir(home)
    exits(capsys, "fit", "--config", "tiny.yaml", f"--{option[0]}", option[1])


@fuzz(80)
@given(
    st.text(max_size=30),
    st.sampled_from(["--temperature", "--top_k", "--top_p", "--min_p", "--max_new_tokens", "--num_samples", "--seed"]),
    st.sampled_from(["-1", "0", "1", "0.5", "3", "nan", "inf", "x", ""]),
)
def test_prompts(home: Path, capsys: pytest.CaptureFixture, prompt: str, option: str, value: str):
    common = ["--ckpt_path", home / "exported", f"--prompt={prompt}", f"{option}={value}"]
    exits(capsys, "generate", *([] if "max_new" in option else ["--max_new_tokens", "2"]), *common)


@fuzz(40)
@given(st.text("0123456789:=abc é", max_size=12), st.booleans())
def test_edits(home: Path, capsys: pytest.CaptureFixture, edit: str, as_json: bool):
    common = ["--ckpt_path", home / "exported", "--prompt", "Line 5: th", f"--edit={edit}"]
    exits(capsys, "plan", *common, *(["--json"] if as_json else []))


@fuzz(200)
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)), st.sampled_from(["bytes", "bpe"]))
def test_text_files(content: bytes, kind: str):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "text.txt")
        path.write_bytes(content)
        split = SplitConfig("contiguous", 0.1, 0.1)
        runs(lambda: encode_corpus(files_corpus(str(path)), split, kind, 260, Path(name, "cache")))
        assert path.read_bytes() == content
        assert not list(Path(name).glob("cache/*.partial"))


@fuzz(50)
@given(st.lists(st.text("0123456789,|/=x \n", max_size=50), max_size=3))
def test_star_graph_files(lines: list[str]):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "lines.txt")
        path.write_text("\n".join(lines))
        runs(lambda: StarGraph(2, 3, 9, train_file=str(path)))
        tokenizer = StarGraph(2, 3, 9).tokenizer.with_prompt_length(15)
        runs(lambda: tokenizer.encode_prompt("".join(lines)))


@fuzz(100)
@given(
    st.one_of(st.binary(max_size=60), st.text("ab= \t\r\n\ufeff\u2028é", max_size=60).map(str.encode)),
    st.sampled_from(["characters", "words"]),
    st.sampled_from(["=", " ", "\t", "a=", "\n"]),
    st.sampled_from([0, 0.3]),
)
def test_files_of_lines(content: bytes, tokens: str, separator: str, share: float):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "lines.txt")
        path.write_bytes(content)

        def call() -> None:
            task = LinesTask(str(path), separator=separator, tokens=tokens, val=share, test=share)
            prompts, answers = task.draw("train", 0, range(task.num_lines("train")))
            for line in (*prompts, *answers):
                text = task.tokenizer.decode(line.tolist())
                assert task.tokenizer.encode(text).tolist() == [one for one in line if one < task.tokenizer.end_of_text]

        runs(call)


def damaged(content: bytes, how: str, seed: int) -> bytes:
    """Content as a bad disk or an interrupted copy leaves it."""
    draw, result = random.Random(seed), bytearray(content)
    if how == "cut":
        return bytes(result[: draw.randrange(len(result))])
    if how == "zeros":
        start = draw.randrange(len(result))
        result[start : start + 64] = bytes(len(result[start : start + 64]))
        return bytes(result)
    for _ in range(draw.randrange(1, 9)):
        result[draw.randrange(len(result))] ^= 1 << draw.randrange(8)
    return bytes(result)


damages = st.sampled_from(["cut", "zeros", "bits"])


@fuzz(90)
@given(damages, st.integers(0, 10_000))
def test_checkpoints(home: Path, how: str, seed: int):
    """Weights whose bits were changed can't be told from others; everything else is refused."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "bad.ckpt")
        path.write_bytes(damaged((home / "good.ckpt").read_bytes(), how, seed))
        ran = runs(lambda: load_run(path))
        assert not (ran and how == "cut")


@fuzz(90)
@given(st.sampled_from(["model.safetensors", "config.json", "tokenizer.json"]), damages, st.integers(0, 10_000))
def test_exported_models(home: Path, file: str, how: str, seed: int):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(shutil.copytree(home / "exported", Path(name, "exported")))
        (folder / file).write_bytes(damaged((folder / file).read_bytes(), how, seed))
        runs(lambda: load_run(folder))


@fuzz(60)
@given(
    st.sampled_from([field.name for field in fields(ModelConfig)]),
    st.one_of(st.none(), st.booleans(), st.integers(-1, 40), st.text(max_size=3), st.lists(st.integers(), max_size=2)),
)
def test_config_json(home: Path, name: str, value: object):
    """Settings of another type or size than the weights have."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(shutil.copytree(home / "exported", Path(place, "exported")))
        config = json.loads((folder / "config.json").read_text())
        config = config | ({name: value} if name in config else {"config": config.get("config", {}) | {name: value}})
        (folder / "config.json").write_text(json.dumps(config))

        def call() -> None:
            model, _ = load_run(folder)
            generate(model, torch.randint(256, (1, 5)), 2)

        runs(call)


def test_exported_model__of_another_size(home: Path, tmp_path: Path):
    folder = Path(shutil.copytree(home / "exported", tmp_path / "exported"))
    save_pretrained(NextConceptModel(small_config(vocab_size=256)), ByteTokenizer(), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    assert not runs(lambda: load_run(folder))
