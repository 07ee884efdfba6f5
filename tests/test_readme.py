"""README and docs/ as a new user reads them: commands and snippets run, links lead somewhere."""

import json
import pydoc
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from nextconcept import __version__
from nextconcept.cli.main import main
from nextconcept.core.experiments import find_experiment

ROOT = Path(__file__).parents[1]
OUR_PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*OUR_PAGES, ROOT / "CHANGELOG.md", ROOT / "results/LOG.md"]

SMALL = {
    "trainer.max_steps": 2,
    "trainer.val_check_interval": 2,
    "trainer.limit_val_batches": 1,
    "trainer.accelerator": "cpu",
    "data.batch_size": 2,
    "data.eval_batch_size": 2,
    "sample.max_new_tokens": 2,
    "plan_view.windows": 0,  # pictures have their own tests
}
# Comparisons and the app have their own tests; other runs need the Hub or several processes, or
# take minutes.
NOT_RUN = {"app", "compare", "tinystories", "trainer/ddp", "v11_2", "v11_3"}
# Tokenizers have their own tests; no network brings these.
TOKENIZERS = {"path/to/tokenizer.json", "openai-community/gpt2"}
SUBCOMMAND = re.compile(r"(\$ |PYTHONPATH=. )?nextconcept ")


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each block of code of a page."""
    return re.findall(r"^```([a-z]*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    """The lines of a block that start the program, without comments."""
    lines = [line.removeprefix("$ ") for line in text.splitlines() if SUBCOMMAND.match(line)]
    return [line.partition("   #")[0].strip() for line in lines]


def all_commands() -> list[str]:
    return [line for page in PAGES for _, text in blocks(page) for line in commands(text)]


def arguments(line: str) -> tuple[list[str], str | None]:
    """Arguments as the shell passes them, with $'...' spelled out, and the file for stdin."""
    words = shlex.split(line.replace("$'\\n\\n'", "STOP"))
    words = words[words.index("nextconcept") + 1 :]
    file = words[words.index("<") + 1] if "<" in words else None
    return words[: words.index("<")] if file else words, file


def options(values: dict[str, object]) -> list[str]:
    return [part for name, value in values.items() for part in (f"--{name}", str(value))]


def fit(*args: str) -> None:
    main(["fit", *args, *options(SMALL)])


def run_python(text: str, name: str) -> None:
    """Save a block that begins with the name of a file; run any other block on its own."""
    file = re.match(r"# (\w+\.py)\n", text)
    if file:
        Path(file[1]).write_text(text)
    exec(compile(text, name, "exec"), {"__name__": "snippet"})


def run_command(line: str, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a command with small settings, and return its subcommand; "" if it is not run."""
    args, file = arguments(line)
    args = [arg.replace("PATH/tinyshakespeare.txt", str(corpus)) for arg in args]
    if NOT_RUN & set(args) or "NAME" in " ".join(args) or ("--data.tokenizer" in args[:-1] and args[-1] in TOKENIZERS):
        return ""
    if "--output" in args:  # several pages write the same folder
        shutil.rmtree(args[args.index("--output") + 1], ignore_errors=True)
    run = "lightning_logs/star" if any("/5,11=" in arg for arg in args) else "lightning_logs/words"
    args = [run if arg == "RUN" else arg for arg in args]
    if args[0] == "fit":
        steps = {"trainer.max_steps": 4} if {"--model.init_from", "grown"} & set(args) else {}
        budget = {"budget.flops": 1e9} if "--budget.flops" in args else {}  # which sets the steps
        args += options(SMALL | steps | budget)
    elif args[0] in ("validate", "test", "predict"):
        args += options({"trainer.limit_val_batches": 1, "trainer.limit_test_batches": 1, "trainer.accelerator": "cpu"})
    if file:
        with Path(file).open() as text:
            monkeypatch.setattr("sys.stdin", text)
            main(args)
    else:
        main(args)
    return args[0]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, but for the texts that the pages name."""
    folder = tmp_path / "home"
    (folder / "texts").mkdir(parents=True)
    for number in range(30):
        lines = [f"Text {number}, line {line}: once upon a time there was a fox.\n" for line in range(40)]
        (folder / f"texts/{number}.txt").write_text("".join(lines))
    note = json.dumps({"text": "Once upon a time there was a fox that read the news.\n" * 9})
    (folder / "notes.jsonl").write_text(f"{note}\n" * 30)
    (folder / "prompt.txt").write_text("ROMEO:")
    (folder / "sums.txt").write_text("".join(f"{a}+{b}={a + b}\n" for a in range(9) for b in range(9)))
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    return folder


runs_training = [
    pytest.mark.filterwarnings("ignore:LightningCLI's args parameter"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*"),
]


def marked(test):
    for mark in runs_training:
        test = mark(test)
    return test


@marked
def test_snippets__run(home: Path, capsys: pytest.CaptureFixture):
    fit("--config", "shakespeare")
    ran = 0
    for page in OUR_PAGES:
        for number, (language, text) in enumerate(blocks(page)):
            if language == "python":
                run_python(text, f"{page.name}, block {number}")
                ran += 1
    assert ran > 5


def run_pages(pages: list[Path], corpus: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Run the snippets and commands of pages in their order, and return the subcommands."""
    fit("--config", "star_graph/two_levels", "--trainer.logger.init_args.name", "star")
    fit("--config", "shakespeare", "--trainer.logger.init_args.name", "words")
    fit("--config", "gpt")
    ran, done = set(), set()
    for page in pages:
        for number, (language, text) in enumerate(blocks(page)):
            if language == "python" and page in OUR_PAGES:
                run_python(text, f"{page.name}, block {number}")
            for line in commands(text):
                if line not in done:
                    print(f"{page.name}: {line}")
                    ran.add(run_command(line, corpus, monkeypatch))
                done.add(line)
    return ran


@marked
@pytest.mark.slow
def test_commands__of_all_pages(home: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch):
    ran = run_pages(PAGES, corpus, monkeypatch)
    assert {"fit", "validate", "test", "generate", "plan", "grow", "export"} <= ran


def test_commands__name_experiments_that_exist():
    for line in all_commands():
        for name in re.findall(r"--config (\S+)", line):
            assert name == "NAME" or (ROOT / name).is_file() or find_experiment(name).is_file(), line


def anchors(page: Path) -> list[str]:
    """Anchors of the headings of a page, as GitHub and MyST make them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links__lead_somewhere(page: Path):
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([\w-]+))?\)", text):
        if target.startswith(("http://", "https://")):
            continue
        goal = page.parent / target if target else page
        assert goal.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(goal), f"{page.name} links to {target}#{anchor}"
    for name in re.findall(r"`((?:experiments|results|docs|benchmarks|tests|notebooks)/[\w./*{},]+)`", text):
        alternatives = re.sub(r"\{.*?\}", "*", name)
        assert "NAME" in name or list(ROOT.glob(f"{alternatives}*")), f"{page.name} names {name}"


def test_references__name_what_exists():
    names = {
        name for page in OUR_PAGES for name in re.findall(r"\{(?:class|func|meth|mod)\}`~?([\w.]+)`", page.read_text())
    }
    assert [name for name in sorted(names) if pydoc.locate(name) is None] == []


@pytest.mark.parametrize("page", OUR_PAGES, ids=lambda page: page.name)
def test_prose__one_sentence_per_line(page: Path):
    prose = re.sub(r"^(```|\$\$).*?^\1", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for line in prose.splitlines():
        line = re.sub(r"^(> )?- \*\*.*?\*\*", "", line)  # a label
        if not line.lstrip("> ").startswith("|"):
            assert not re.search(r"[a-z0-9)`\]][.?!]\*{0,2} +[A-Z`\[*]", line), f"{page.name}: {line}"


def test_readme__fits_a_screen():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    for command in ("make demo", "make test"):
        assert command in text


def test_code_map__names_every_module():
    text = (ROOT / "docs/code_map.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\w+): .*?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    package = ROOT / "nextconcept"
    for path in sorted(package.glob("*/**/*.py")):
        section = path.relative_to(package).parts[0]
        if path.name != "__init__.py":
            assert f"`{path.name}`" in sections[section], f"docs/code_map.md lacks {path.relative_to(ROOT)}"


def test_citation__names_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == __version__
    assert f"Version {__version__}}}" in (ROOT / "README.md").read_text()
    assert cited["title"] in (ROOT / "README.md").read_text()
