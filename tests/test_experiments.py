"""Every shipped experiment runs."""

import inspect
from pathlib import Path

import pytest
import torch
import yaml

from nextconcept.cli.main import main
from nextconcept.evaluation.compare import Entry, compare

ROOT = Path(__file__).parents[1]
COMPARISONS = sorted(ROOT.glob("experiments/comparisons/*.yaml"))
OVERLAYS = sorted(ROOT.glob("experiments/trainer/*.yaml"))
EXPERIMENTS = sorted(set(ROOT.glob("experiments/**/*.yaml")) - set(COMPARISONS) - set(OVERLAYS))


pytestmark = pytest.mark.filterwarnings("ignore:LightningCLI's args parameter")


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*")
@pytest.mark.filterwarnings("ignore:Precision bf16-.* is not supported by the model summary")
@pytest.mark.parametrize(
    ("path", "options"),
    [*((path, {}) for path in EXPERIMENTS), (ROOT / "experiments/two_levels.yaml", {"trainer.precision": "bf16-true"})],
    ids=lambda value: value.stem if isinstance(value, Path) else " ".join(value.values()),
)
def test_fit__two_steps(
    path: Path, options: dict[str, str], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    overrides = {
        "model.config.depth": 1,
        "data.dataset": corpus,
        "data.streaming": "false",
        "data.max_documents": "null",
        "data.batch_size": 2,
        "data.eval_batch_size": 2,
        "data.split": "{by: contiguous, val: 0.2, test: 0.1}",
        "sample.max_new_tokens": 2,
        "plan_view.length": 12,
        "trainer.max_steps": 2,
        "trainer.log_every_n_steps": 1,
        "trainer.val_check_interval": 2,
        "trainer.limit_val_batches": 1,
        "trainer.accelerator": "cpu",
        **options,
    }
    main(
        [
            "fit",
            "--config",
            str(path),
            *(part for name, value in overrides.items() for part in (f"--{name}", str(value))),
        ]
    )
    (last,) = tmp_path.glob("lightning_logs/*/version_0/checkpoints/last.ckpt")
    checkpoint = torch.load(last, weights_only=True)
    assert checkpoint["global_step"] == 2
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.stem)
def test_overlay__is_understood(path: Path, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--config", str(ROOT / "experiments/two_levels.yaml"), "--config", str(path), "--print_config"])
    assert stopped.value.code == 0
    asked, printed = yaml.safe_load(path.read_text())["trainer"], yaml.safe_load(capsys.readouterr().out)["trainer"]
    for name, value in asked.items():
        if isinstance(value, dict):
            assert printed[name]["class_path"] == value["class_path"]
            assert printed[name]["init_args"].items() >= value["init_args"].items()
        else:
            assert printed[name] == value


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.stem)
def test_compare__names_experiments_that_exist(path: Path):
    spec = yaml.safe_load(path.read_text())
    assert spec["name"] == path.stem
    assert set(spec) <= set(inspect.signature(compare).parameters)
    entries = [Entry(**entry) for entry in spec["entries"].values()]
    files = [ROOT / file for entry in entries for file in [*entry.config, *(entry.growth or {"config": []})["config"]]]
    assert files
    assert set(files) <= set(EXPERIMENTS)
