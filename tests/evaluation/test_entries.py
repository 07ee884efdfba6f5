"""Entries of a comparison and their runs."""

from pathlib import Path

import pytest
import yaml

from nextconcept import InputError
from nextconcept.evaluation.entries import Entry, Growth, Run, make_run
from nextconcept.evaluation.search import Candidate


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """Settings that read files, and the files."""
    monkeypatch.chdir(tmp_path)
    for name in ("text.txt", "lines.txt", "start/last.ckpt"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("before")
    task = {"class_path": "LinesTask", "init_args": {"train_file": "lines.txt"}}
    return {"data": {"init_args": {"dataset": "te*.txt", "task": task}}, "model": {"init_from": "start"}}


def run_of(config: dict, **options: object) -> Run:
    Path("entry.yaml").write_text(yaml.safe_dump(config))
    return make_run("gpt", Entry(["entry.yaml"], options), {"trainer.max_steps": 9}, Candidate(1e-3), 0, Path("logs"))


@pytest.mark.parametrize("file", ["text.txt", "lines.txt", "start/last.ckpt"])
def test_key__covers_the_content_of_what_a_run_reads(file: str, config: dict):
    before = run_of(config).key
    assert run_of(config).key == before
    Path(file).write_text("after")
    assert run_of(config).key != before


def test_key__covers_files_that_options_name(config: dict):
    Path("other.txt").write_text("before")
    before = run_of(config, **{"data.dataset": "other.txt"}).key
    Path("other.txt").write_text("after")
    assert run_of(config, **{"data.dataset": "other.txt"}).key != before


def test_key__ignores_comments_and_where_configurations_lie(config: dict):
    before = run_of(config).key
    written = Path("entry.yaml").read_text()
    Path("entry.yaml").write_text(f"# About five minutes.\n{written}")
    Path("folder").mkdir()
    Path("entry.yaml").rename("folder/entry.yaml")
    entry = Entry(["folder/entry.yaml"])
    assert make_run("gpt", entry, {"trainer.max_steps": 9}, Candidate(1e-3), 0, Path("logs")).key == before


def test_key__ignores_what_a_run_writes(config: dict):
    config["trainer"] = {"default_root_dir": "logs"}
    config["data"]["init_args"]["cache_dir"] = "cache"
    before = run_of(config).key
    for folder in ("logs", "cache"):
        Path(folder).mkdir()
        Path(folder, "written.txt").write_text("x")
    assert run_of(config).key == before


def test_key__covers_options_grid_seed_and_rate(config: dict):
    entry, settings = Entry(["entry.yaml"]), {"trainer.max_steps": 9}
    first = run_of(config)
    others = [
        run_of(config, **{"model.config.levels": 1}),
        make_run("gpt", entry, settings, Candidate(2e-3), 0, Path("logs")),
        make_run("gpt", entry, settings, Candidate(1e-3), 1, Path("logs")),
        make_run("gpt", entry, settings, Candidate(1e-3, '{"model.config.depth": 2}'), 0, Path("logs")),
    ]
    assert len({run.key for run in (first, *others)}) == 5


@pytest.mark.parametrize("text", ["text é 😀.txt", "\t", 'a "b"', '"', "a\\b", "1\n2"])
def test_make_run__texts_reach_the_command_line_as_they_are(config: dict, text: str):
    options = {"sample.prompt": text, "model.config.chunking": [{"ends": text}], "model.config.horizon": "full"}
    (stage,) = run_of(config, **options).stages
    given = dict(zip(stage[::2], stage[1::2], strict=True))
    assert given["--sample.prompt"] == text
    assert yaml.safe_load(given["--model.config.chunking"]) == [{"ends": text}]
    assert given["--model.config.horizon"] == "full"


def test_make_run__stages_of_a_growing_entry(config: dict):
    for name in ("small.yaml", "large.yaml"):
        Path(name).write_text("{}")
    growth = Growth(["large.yaml"], [0.25, 0.75], before={"model.optimizer.min_lr_ratio": 1.0})
    entry = Entry(["small.yaml"], {"model.config.levels": 1}, growth)
    run = make_run("grown", entry, {"budget.flops": 8.0}, Candidate(1e-3), 0, Path("logs"))
    first, second = [dict(zip(stage[::2], stage[1::2], strict=True)) for stage in run.stages]
    assert (first["--config"], second["--config"]) == ("small.yaml", "large.yaml")
    assert (first["--budget.flops"], second["--budget.flops"]) == ("2.0", "8.0")
    assert first["--model.config.levels"] == "1"
    assert "--model.config.levels" not in second
    assert "--model.optimizer.min_lr_ratio" not in second


def test_make_run__the_last_stage_ends_with_the_whole_budget(config: dict):
    for name in ("small.yaml", "large.yaml"):
        Path(name).write_text("{}")
    entry = Entry(["small.yaml"], growth=Growth(["large.yaml"], [0.7, 0.2, 0.1]))
    run = make_run("grown", entry, {"budget.flops": 1e13}, Candidate(1e-3), 0, Path("logs"))
    assert run.budget == {"flops": 1e13}


def test_key__separators_are_no_paths(config: dict):
    Path("small.yaml").write_text("{}")
    for separator in (".", "*", "/", "=>"):
        run = make_run("a", Entry(["small.yaml"]), {"data.task.separator": separator}, Candidate(1e-3), 0, Path("logs"))
        Path(f"{len(separator)}{ord(separator[0])}.txt").write_text("new")
        again = make_run(
            "a", Entry(["small.yaml"]), {"data.task.separator": separator}, Candidate(1e-3), 0, Path("logs")
        )
        assert run.key == again.key


def test_growth__levels_that_rules_cut(config: dict):
    for name in ("small.yaml", "large.yaml"):
        Path(name).write_text("{}")

    def grown(rules: list) -> Run:
        growth = Growth(["large.yaml"], [0.2, 0.2, 0.6], rules=rules)
        return make_run(
            "grown", Entry(["small.yaml"], growth=growth), {"budget.flops": 8.0}, Candidate(1e-3), 0, Path("logs")
        )

    bars, eights = grown([{"ends": "|\n", "max_length": 32}, "lines"]), grown([])
    assert bars.growth is not None
    assert eights.growth is not None
    assert bars.growth.arguments(1)[:3] == ["--init", "copy", "--rule"]
    assert yaml.safe_load(bars.growth.arguments(1)[3]) == {"ends": "|\n", "max_length": 32}
    assert bars.growth.arguments(2)[3] == "lines"
    assert eights.growth.arguments(1) == ["--init", "copy"]
    assert len({bars.key, eights.key, grown(["words", "lines"]).key}) == 3


def test_growth__levels_of_their_own_shape(config: dict):
    for name in ("small.yaml", "large.yaml"):
        Path(name).write_text("{}")
    thin = Growth(["large.yaml"], [0.5, 0.5], new_levels=[{"depth": 2, "sliding_window": None}])
    assert yaml.safe_load(thin.arguments(1)[3]) == {"depth": 2, "sliding_window": None}
    entries = [Entry(["small.yaml"], growth=one) for one in (thin, Growth(["large.yaml"], [0.5, 0.5]))]
    runs = [make_run("grown", one, {"budget.flops": 8.0}, Candidate(1e-3), 0, Path("logs")) for one in entries]
    assert runs[0].key != runs[1].key
    thin.check({"levels": 1, "width": 32, "depth": 4, "sharing": "separate"})
    with pytest.raises(InputError, match="depth must be one number"):
        thin.check({"levels": 1, "width": 32, "depth": 4, "sharing": "nested"})
    with pytest.raises(InputError, match="of 2 stages takes 1 new_levels, one for each level that is added, not 2"):
        Growth(["x"], [0.5, 0.5], new_levels=[{"depth": 2}, {}])


def test_growth__a_rule_for_each_later_stage():
    with pytest.raises(InputError, match="of 3 stages takes 2 rules, one for each level that is added, not 1"):
        Growth(["x"], [0.2, 0.2, 0.6], rules=["words"])
    with pytest.raises(InputError, match="unknown chunking rule .wrods."):
        Growth(["x"], [0.5, 0.5], rules=["wrods"])


def test_growth__shares_that_do_not_add_up():
    with pytest.raises(InputError, match="add up to 1"):
        Growth(["x"], [0.5, 0.6])


@pytest.mark.parametrize("name", ["options", "grid", "learning_rates"])
def test_entry__a_name_without_a_value(name: str):
    with pytest.raises(InputError, match=f"^{name} of an entry has no value: give one, or leave the name out"):
        Entry(["small.yaml"], **{name: None})


def test_growth__a_name_without_a_value():
    with pytest.raises(InputError, match="^before of growth has no value"):
        Growth(["large.yaml"], [0.5, 0.5], before=None)
