"""Every shipped experiment runs."""

import inspect
import operator
import pydoc
import re
from configparser import ConfigParser
from pathlib import Path

import lightning as L
import pytest
import torch
import yaml

from nextconcept.cli.main import main
from nextconcept.core.config import ModelConfig
from nextconcept.core.experiments import experiment_files
from nextconcept.evaluation.compare import Comparison
from nextconcept.evaluation.entries import Entry
from nextconcept.training.callbacks import PlanView, WritingSamples
from nextconcept.training.losses import LossConfig
from nextconcept.training.module import ConceptModule
from nextconcept.training.optim import OptimizerConfig
from tests.helpers import fails, write_sums

FILES = experiment_files()
COMPARISONS = [name for name in FILES if name.startswith("comparisons/")]
OVERLAYS = [name for name in FILES if name.startswith("trainer/")]
OTHER_GRAPHS = [
    ("star_graph/two_levels", {"data.task.arms": "3", "data.task.path_length": "4", "model.config.horizon": "2"}),
    ("star_graph/three_levels_d2_l16", {"data.task.path_length": "20", "model.config.horizon": "[3, 3]"}),
]
EXPERIMENTS = [name for name in FILES if name not in (*COMPARISONS, *OVERLAYS)]
LARGE = {
    *("tinystories", "v11_2", "v11_2_oracle", "v11_3", "countdown/published"),
    *(f"star_graph/{model}_{graph}" for model in ("gpt", "two_levels") for graph in ("d2_l10", "d5_l5", "d7_l7")),
}
"""Models of published sizes, which take seconds."""
OBJECTIVES = "multi_token|next_latent|teacherless|belief_state"
ALIKE = {
    name
    for name in EXPERIMENTS
    if re.search(f"{OBJECTIVES}|d3_l4|d2_l8|growth/|text/|python/words|words/|countdown/three|maze/three", name)
}
"""Other objectives and sizes of experiments that are tested every day."""


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*")
@pytest.mark.filterwarnings("ignore:Precision bf16-.* is not supported by the model summary")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(pytest.param(name, {}, marks=[pytest.mark.slow] * (name in LARGE | ALIKE)) for name in EXPERIMENTS),
        ("two_levels", {"trainer.precision": "bf16-true"}),
        *(pytest.param(*other, marks=pytest.mark.slow) for other in OTHER_GRAPHS),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value.values()),
)
def test_fit__two_steps(
    name: str, options: dict[str, str], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    overrides = {
        "model.config.depth": 1,
        "model.config.num_loops": 1,
        "data.batch_size": 2,
        "data.eval_batch_size": 2,
        "sample.max_new_tokens": 2,
        "plan_view.length": 12,
        "trainer.max_steps": 2,
        "trainer.log_every_n_steps": 1,
        "trainer.val_check_interval": 2,
        "trainer.limit_val_batches": 1,
        "trainer.accelerator": "cpu",
    }
    settings = yaml.safe_load(FILES[name].read_text())
    if settings["model"].get("config", {}).get("horizon") == "full" or name == "tinystories":
        # A rollout of 64 steps takes a minute, and so does a long window in bfloat16 on many CPUs.
        overrides["model.config.context_length"] = 64
    windows = settings["model"].get("config", {}).get("sliding_window")
    if isinstance(windows, list) and any(isinstance(window, list) for window in windows):
        overrides["model.config.sliding_window"] = 32  # of a depth of one
    data = settings["data"]["class_path"].rpartition(".")[2]
    if data != "TaskDataModule":
        overrides["data.split"] = "{by: contiguous, val: 0.2, test: 0.1}"
        overrides["data.dataset" if data == "TextDataModule" else "data"] = (
            corpus if data == "TextDataModule" else "TextDataModule"
        )
    if name == "grown":
        overrides["model.init_from"] = "null"
    if name == "lines":
        overrides["data.task.train_file"] = write_sums(tmp_path / "sums.txt")
    overrides |= options
    main(
        [
            "fit",
            "--config",
            name,
            *(part for name, value in overrides.items() for part in (f"--{name}", str(value))),
        ]
    )
    (last,) = tmp_path.glob("lightning_logs/*/version_0/checkpoints/last.ckpt")
    checkpoint = torch.load(last, weights_only=True)
    assert checkpoint["global_step"] == 2
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


def flat_settings(values: dict, prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in values.items():
        nested = isinstance(value, dict) and name not in ("terms", "matching")
        flat |= flat_settings(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return flat


BOTH_NOTEBOOKS = {
    "config.tie_embeddings": True,
    "optimizer.optimizer": "adamw",
    "config.levels": 2,
    "config.chunk_size": 4,
    "config.width": 256,
    "config.depth": 6,
    "config.num_heads": 2,
    "config.context_length": 256,
    "config.horizon": "full",
    "config.scale_inputs": True,
    "config.planner.mode": "rollout",
    "config.encoder.position_binding": False,
    "config.encoder.chunk_alignment": "end",
    "config.reader.gated": False,
    "config.reader.rotated": False,
    "config.block.feed_forward": "geglu",
    "config.block.feed_forward_bias": True,
    "config.block.num_kv_heads": 1,
    "config.block.rope_base": 100.0,
    "loss.horizon": 1,
    "optimizer.betas": [0.9, 0.999],
    "optimizer.warmup_steps": 0,
}
NOTEBOOK_V11_2 = BOTH_NOTEBOOKS | {
    "config.sharing": "nested",
    "config.nested.slicing": "head_size",
    "config.dropout": 0.05,
    "config.norm_embeddings": True,
    "config.encoder.composition": "sum",
    "config.encoder.flat": True,
    "config.planner.matching": {"top_k": 4, "beam": 35},
    "config.reader.order": "before",
    "config.block.norm": "cosine",
    "config.block.norm_affine": False,
    "config.block.post_norm": True,
    "config.block.feed_forward_ratio": 4.0,
    "config.block.head_size": 64,
    "loss.terms": {"cosine": 1.0},
    "loss.level_weight": [2.0, 4.0],
    "optimizer.lr": 1e-5,
    "optimizer.weight_decay": 0.02,
    "optimizer.min_lr_ratio": 1.0,
}
NOTEBOOK_V11_3 = BOTH_NOTEBOOKS | {
    "config.sharing": "shared",
    "config.dropout": 0.1,
    "config.encoder.composition": "geglu->sum->geglu->norm",
    "config.planner.plan_head": "geglu",
    "config.block.norm": "rms",
    "config.block.feed_forward_ratio": 2.0,
    "config.block.head_size": 32,
    "loss.terms": {"mse": 1.0, "mae": 1.0, "cosine": 1.0},
    "loss.level_weight": 1.0,
    "optimizer.lr": 0.1,
    "optimizer.weight_decay": 0.01,
    "optimizer.decay": "linear",
    "optimizer.min_lr_ratio": 0.001,
}


@pytest.mark.parametrize(
    ("name", "model", "clip"),
    [
        ("v11_2", NOTEBOOK_V11_2, None),
        ("v11_2_oracle", NOTEBOOK_V11_2 | {"train_plan": "oracle"}, None),
        ("v11_3", NOTEBOOK_V11_3, 1.0),
    ],
)
def test_preset__has_the_settings_of_its_notebook(name: str, model: dict, clip: float | None):
    settings = yaml.safe_load(FILES[name].read_text())
    assert flat_settings(settings["model"]) == model
    assert settings["data"]["init_args"]["batch_size"] == 32
    assert settings["trainer"].get("gradient_clip_val") == clip


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay__is_understood(name: str, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--config", "two_levels", "--config", name, "--print_config"])
    assert stopped.value.code == 0
    asked = yaml.safe_load(FILES[name].read_text())["trainer"]
    printed = yaml.safe_load(capsys.readouterr().out)["trainer"]
    for setting, value in asked.items():
        if isinstance(value, dict):
            assert printed[setting]["class_path"] == value["class_path"]
            assert printed[setting]["init_args"].items() >= value["init_args"].items()
        else:
            assert printed[setting] == value


@pytest.mark.parametrize("name", COMPARISONS)
def test_compare__names_experiments_that_exist(name: str):
    spec = yaml.safe_load(FILES[name].read_text())
    assert f"comparisons/{spec['name']}" == name
    assert set(spec) <= set(inspect.signature(Comparison).parameters)
    entries = [Entry(**entry) for entry in spec["entries"].values()]
    named = {one for entry in entries for one in [*entry.config, *(entry.growth or {"config": []})["config"]]}
    assert named
    assert named <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", ["comparisons/tunes", *(name for name in COMPARISONS if name.count("/") > 1)])
def test_compare__is_read_by_the_command(name: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    """Up to the number of jobs, which is refused with the settings as a whole."""
    folders = ("--output", tmp_path, "--logs", tmp_path)
    steps = ("--flops", "null", "--tokens", "[1e6, 4e6]") if name.startswith("comparisons/range/") else ()
    assert "takes 1 job or more" in fails(capsys, "compare", "--config", name, *folders, *steps, "--jobs", 0)


def test_fit__refuses_comparisons_in_any_folder(capsys: pytest.CaptureFixture):
    for name in ("comparisons/tunes", "comparisons/planning/g2_5"):
        assert f"{name} is a comparison: use nextconcept compare" in fails(capsys, "fit", "--config", name)


def check_options(settings: dict, config: list[str]) -> None:
    """Check names of options against the signatures of what takes them."""
    experiment = yaml.safe_load(FILES[config[0]].read_text())
    takers = {
        "model.loss": LossConfig,
        "model.optimizer": OptimizerConfig,
        "model.objective": settings.get("model.objective"),
        "model": ConceptModule,
        "data.task": experiment["data"].get("init_args", {}).get("task", {}).get("class_path"),
        "data": experiment["data"]["class_path"],
        "trainer": L.Trainer,
        "sample": WritingSamples,
        "plan_view": PlanView,
    }
    for name, value in settings.items():
        if name == "model.config":
            for key in value:
                assert hasattr(ModelConfig(), key), key
        elif name.startswith("model.config."):
            operator.attrgetter(name.removeprefix("model.config."))(ModelConfig())
        else:
            group = next(group for group in takers if name.startswith(f"{group}."))
            taker = takers[group]
            taker = pydoc.locate(taker) if isinstance(taker, str) else taker
            argument = name.removeprefix(f"{group}.").partition(".")[0]
            # Keyword arguments go on to the classes above.
            assert any(argument in inspect.signature(one).parameters for one in taker.__mro__[:-1]), name


@pytest.mark.parametrize(
    "name",
    [
        *("model.optimizer.nonsense", "model.loss.typo", "model.config.widht", "model.typo", "data.nothing"),
        *("trainer.max_stepz", "sample.typo", "plan_view.typo", "other.typo"),
    ],
)
def test_check_options__can_fail(name: str):
    with pytest.raises((AssertionError, AttributeError, StopIteration)):
        check_options({name: 1}, ["shakespeare"])


@pytest.mark.parametrize("name", COMPARISONS)
def test_compare__gives_options_that_exist(name: str):
    spec = yaml.safe_load(FILES[name].read_text())
    for entry in (Entry(**values) for values in spec["entries"].values()):
        check_options(spec.get("options", {}) | entry.options, entry.config)
        for option, values in (spec.get("grid", {}) | entry.grid).items():
            for value in values:
                check_options({option: value}, entry.config)


def test_star_graph__one_configuration_for_all_graphs():
    graphs = [
        yaml.safe_load(FILES[f"comparisons/planning/{name}"].read_text())
        for name in ("g2_5", "g3_4", "g2_8", "g5_5", "g2_10")
    ]
    for spec in graphs:
        entry = spec["entries"]["two_levels"]
        assert entry["config"] == ["star_graph/two_levels"]
        assert entry["learning_rates"] == [4e-3]
        changed = set(spec.get("options", {}) | entry.get("options", {}))
        assert changed <= {"model.config.horizon", "sample.max_new_tokens"} | {
            f"data.task.{name}" for name in ("arms", "path_length", "nodes")
        }


def test_packages__are_all_listed():
    """The list in setup.cfg is written by hand: two of them hold files alone."""
    root = Path(__file__).parents[1]
    settings = ConfigParser()
    settings.read(root / "setup.cfg")
    folders = {path.parent.relative_to(root) for path in root.glob("nextconcept/**/__init__.py")}
    packages = {".".join(folder.parts) for folder in folders}
    assert set(settings["options"]["packages"].split()) == packages | {
        "nextconcept.experiments",
        "nextconcept.packaged",
    }
