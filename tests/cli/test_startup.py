"""What the commands import: loading a library takes longer than most of what users ask for."""

import subprocess
import sys
from pathlib import Path

import pytest

from nextconcept import ModelConfig, NextConceptModel
from nextconcept.checkpoints.hub import save_pretrained
from nextconcept.cli.main import COMMANDS
from nextconcept.data.tokenizers import ByteTokenizer

DATA = {"datasets", "pandas", "pyarrow"}
HEAVY = {"lightning", "torchmetrics", "tensorboard", *DATA, "scipy", "matplotlib", "torch._dynamo"}
TRAINER = ("fit", "validate", "test", "predict")


def modules_after(*command_lines: tuple[str, ...]) -> set[str]:
    """Run commands in one process; return the names of the modules that they have loaded."""
    code = (
        "import sys\n"
        "from nextconcept.cli.main import main\n"
        f"for arguments in {[*map(list, command_lines)]!r}:\n"
        "    try:\n"
        "        main(arguments)\n"
        "    except SystemExit as end:\n"
        "        assert not end.code, end.code\n"
        "print('\\n', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split())


def test_front_door__loads_no_library():
    assert not modules_after(("--version",), ("--help",)) & {*HEAVY, "torch", "jsonargparse", "numpy"}


def test_commands_without_a_trainer__load_none_of_its_libraries(tmp_path: Path):
    config = ModelConfig(vocab_size=256, levels=2, chunk_size=4, width=16, depth=1, num_heads=2, context_length=32)
    save_pretrained(NextConceptModel(config), ByteTokenizer(), tmp_path / "model", {})
    model, prompt = ("--ckpt_path", str(tmp_path / "model")), ("--prompt", "To", "--max_new_tokens", "4")
    commands = [name for name in COMMANDS if name not in TRAINER]
    modules = modules_after(
        *((name, "--help") for name in commands),
        *((name, *model, *prompt) for name in ("generate", "plan")),
    )
    assert {f"nextconcept.cli.{name}" for name in commands} <= modules
    assert not modules & HEAVY


@pytest.mark.slow
def test_fit__on_text__loads_neither_datasets_nor_signal_processing(tmp_path: Path):
    (tmp_path / "text.txt").write_text("to be or not to be " * 100)
    modules = modules_after(
        (
            *("fit", "--data.dataset", str(tmp_path / "text.txt"), "--data.cache_dir", str(tmp_path / "cache")),
            *("--data.split.by", "contiguous", "--data.split.val", "0.2", "--model.config.context_length", "32"),
            *("--trainer.max_steps", "1", "--trainer.default_root_dir", str(tmp_path), "--trainer.accelerator", "cpu"),
        ),
    )
    assert "lightning" in modules
    assert not modules & {*DATA, "scipy.signal.windows"}


@pytest.mark.parametrize(
    "use",
    [
        "pass",
        "from scipy.signal.windows import hamming",
        "from scipy.signal import *; import scipy.sparse; lfilter",
    ],
)
def test_scipy__is_whole_for_whoever_uses_it__within_and_after(use: str):
    pytest.importorskip("scipy")
    code = (
        "import sys\n"
        "from nextconcept.cli.trainer_commands import deferred_scipy_signal\n"
        "with deferred_scipy_signal():\n"
        "    import scipy.signal\n"
        "    assert hasattr(scipy.signal, 'hamming') and 'scipy.signal.windows' not in sys.modules\n"
        f"    {use}\n"
        "import scipy.signal\n"
        "assert callable(scipy.signal.windows.hamming) and scipy.signal is sys.modules['scipy.signal']"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
