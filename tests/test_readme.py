"""The README and the pages of docs/ as a new user reads them: every command runs, every link leads somewhere."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from nextconcept import __version__
from nextconcept.cli.main import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "results/LOG.md"]

OWN_PARTS = """
import torch
from nextconcept.nn.concept_encoder import ConceptEncoder

class WeighingEncoder(ConceptEncoder):
    pass

def angle(at):
    return 1 - torch.cosine_similarity(at.plan, at.targets, dim=-1)
"""
SMALL = {
    "trainer.max_steps": 2,
    "trainer.val_check_interval": 2,
    "trainer.limit_val_batches": 1,
    "trainer.accelerator": "cpu",
    "data.batch_size": 2,
    "data.eval_batch_size": 2,
    "sample.max_new_tokens": 2,
    "plan_view.length": 12,
}
LONG = {"compare", "python", "sbatch"}  # what other tests run: comparisons, benchmarks, the harness


def commands() -> list[str]:
    """Every line that starts our program in a block of code, once, in the order of the pages."""
    lines = []
    for page in PAGES:
        for block in re.findall(r"^```[a-z]*\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            lines += [
                line.removeprefix("$ ")
                for line in block.splitlines()
                if re.match(r"(\$ |PYTHONPATH=. )?nextconcept ", line)
            ]
    return list(dict.fromkeys(line.partition("   #")[0].strip() for line in lines))


def arguments(line: str) -> tuple[list[str], str | None]:
    """What the shell would hand over, and the file for standard input; stops in $'...' are spelled out."""
    words = shlex.split(line.replace("$'\\n\\n'", "STOP"))
    words = words[words.index("nextconcept") + 1 :]
    file = words[words.index("<") + 1] if "<" in words else None
    return words[: words.index("<")] if file else words, file


def fit(*args: object) -> None:
    main(["fit", *map(str, args), *(part for name, value in SMALL.items() for part in (f"--{name}", str(value)))])


@pytest.fixture
def home(tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which everything that the pages name is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    (tmp_path / "own_parts.py").write_text(OWN_PARTS)
    (tmp_path / "prompt.txt").write_text("ROMEO:")
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:LightningCLI's args parameter", "ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*")
def test_commands__run(home: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    star = ROOT / "experiments/star_graph/two_levels_d2_l5.yaml"
    fit("--config", star, "--trainer.logger.init_args.name", "star")
    fit("--config", ROOT / "experiments/shakespeare.yaml", "--trainer.logger.init_args.name", "words")
    fit("--config", ROOT / "experiments/gpt.yaml")
    ran = set()
    for line in commands():
        args, file = arguments(line)
        if args[0] in ("export", "grow"):  # several pages write the same folder
            shutil.rmtree(args[args.index("--output") + 1], ignore_errors=True)
        if args[0] in LONG or "|" in args:
            continue
        run = "lightning_logs/star" if any("/5,11=" in arg for arg in args) else "lightning_logs/words"
        args = [run if arg == "RUN" else arg for arg in args]
        args = [arg.replace("PATH/tinyshakespeare.txt", str(corpus)) for arg in args]
        if "NAME" in " ".join(args) or "ddp" in " ".join(args):
            continue  # a pattern rather than a command; two processes, which tests/test_ddp.py starts
        if file:
            with Path(file).open() as text:
                monkeypatch.setattr("sys.stdin", text)
                main(args)
        elif args[0] == "fit":
            steps = {"trainer.max_steps": 4} if "grown.yaml" in line else {}
            main([*args, *(part for name, value in (SMALL | steps).items() for part in (f"--{name}", str(value)))])
        elif args[0] in ("validate", "test"):
            main([*args, "--trainer.limit_val_batches", "1", "--trainer.accelerator", "cpu"])
        else:
            main(args)
        ran.add(args[0])
    assert {"fit", "validate", "generate", "plan", "grow", "export"} <= ran


def test_commands__name_files_that_exist():
    for line in commands():
        for file in re.findall(r"experiments/[\w/]+\.yaml", line):
            assert "NAME" in file or (ROOT / file).is_file(), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links__lead_somewhere(page: Path):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    for name in re.findall(r"`((?:experiments|results|docs|benchmarks|tests|notebooks)/[\w./*{},]+)`", text):
        alternatives = re.sub(r"\{.*?\}", "*", name)
        assert "NAME" in name or list(ROOT.glob(f"{alternatives}*")), f"{page.name} names {name}"
    for anchor in re.findall(r"\]\(#([\w-]+)\)", text):
        heads = [
            re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in re.findall(r"^#+ (.*)$", text, re.M)
        ]
        assert anchor in heads


def test_citation__names_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == __version__
    assert f"Version {__version__}}}" in (ROOT / "README.md").read_text()
    assert cited["title"] in (ROOT / "README.md").read_text()
