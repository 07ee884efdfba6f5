"""The picture of planning tasks side by side."""

import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from benchmarks.planning_picture import chosen_runs, main
from nextconcept import InputError

EXACT = "val/answer/exact"


def record(entry: str, rate: float, seed: int, exact: float) -> dict:
    return {
        "entry": entry,
        "learning_rate": rate,
        "seed": seed,
        "budget": {"flops": 2e12},
        "stages": [[0, 1e11]],
        "final": {EXACT: exact},
        "curves": {EXACT: [[9, exact / 2]]},
        "steps": 20,
    }


def results(path: Path, *runs: dict) -> Path:
    path.write_text(json.dumps({"runs": runs}))
    return path


def test_chosen_runs__those_of_most_seeds_and_then_the_best(tmp_path: Path):
    runs = [record("gpt", 1e-3, 0, 0.9), *(record("gpt", 2e-3, seed, 0.5) for seed in (0, 1))]
    runs += [record("two_levels", rate, 0, exact) for rate, exact in ((1e-3, 0.7), (2e-3, 1.0), (4e-3, 0.8))]
    chosen = chosen_runs(results(tmp_path / "a.json", *runs))
    assert {entry: (some[0]["learning_rate"], len(some)) for entry, some in chosen.items()} == {
        "gpt": (2e-3, 2),
        "two_levels": (2e-3, 1),
    }


def test_chosen_runs__of_equal_seeds_those_of_the_largest_budget(tmp_path: Path):
    longer = record("gpt", 1e-3, 0, 0.5) | {"budget": {"flops": 4e12}, "steps": 40}
    runs = [record("gpt", 1e-3, 0, 0.6), longer, record("gpt", 2e-3, 0, 0.7)]
    assert chosen_runs(results(tmp_path / "a.json", *runs)) == {"gpt": [longer]}


@pytest.mark.parametrize("text", ["", "[]", '{"runs": [{"entry": "gpt"}]}'])
def test_chosen_runs__of_another_file_say_so(tmp_path: Path, text: str):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError, match="is not the results file of a comparison of val/answer/exact"):
        chosen_runs(path)


def test_main__names_panels_and_all_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    star = results(tmp_path / "g2_16.json", record("gpt", 1e-3, 0, 0.5), record("more_loops", 1e-3, 0, 1.0))
    maze = results(tmp_path / "maze.json", record("two_levels", 1e-3, 0, 1.0))
    main([str(star), str(maze)])
    assert [axes.get_title() for axes in drawn[0].axes] == ["G(2, 16)", "maze"]
    found = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in drawn[0].axes]
    assert found == [["GPT: 0 of 1", "more_loops: 1 of 1"], ["two levels: 1 of 1"]]


def test_main__draws_a_panel_per_file(tmp_path: Path):
    sizes = []
    for names in (["g2_5"], ["g2_5", "g3_4"]):
        paths = [results(tmp_path / f"{name}.json", record("gpt", 1e-3, 0, 0.5)) for name in names]
        main([str(path) for path in paths], str(tmp_path / "picture.png"))
        sizes.append(imread(tmp_path / "picture.png").shape[1])
    assert sizes[1] == 2 * sizes[0]
