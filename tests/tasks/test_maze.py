import re
from pathlib import Path

import numpy as np
import pytest
import torch

from nextconcept.cli.main import main
from nextconcept.core.errors import InputError
from nextconcept.core.hierarchy import Hierarchy
from nextconcept.tasks.maze import Maze
from nextconcept.tasks.task import pad
from nextconcept.tasks.windows import TaskWindows
from tests.helpers import fails

TASK = Maze()
LOOPS = Maze(3, 3, loops=2, min_way=3, max_way=6)

#   a2-b2-c2
#   |  |  |    and a dead end: d1
#   a1-b1-c1-d1
LADDER = "a1,a2|b2,b1|c1,c2|a2,b2|c2,b2|b1,a1|b1,c1|d1,c1|d2,d1"
"""Passages of a maze of 4 times 2 cells with two loops."""


def parts(task: Maze, split: str, count: int, seed: int = 0) -> list[tuple[set[frozenset[str]], str, str, list[str]]]:
    """Passages, start, goal and way of drawn lines."""
    lines = []
    for prompt, answer in zip(*task.draw(split, seed, range(count)), strict=True):
        passages, ends = task.tokenizer.decode(prompt)[:-1].split("/")
        pairs = {frozenset(pair.split(",")) for pair in passages.split("|")}
        lines.append((pairs, *ends.split(","), task.tokenizer.decode(answer).split(",")))
    return lines


def ways(passages: set[frozenset[str]], start: str, goal: str) -> list[list[str]]:
    """All ways without a cell twice, by recursion."""
    found, unfinished = [], [[start]]
    while unfinished:
        way = unfinished.pop()
        if way[-1] == goal:
            found.append(way)
            continue
        after = {cell for pair in passages if way[-1] in pair for cell in pair} - set(way)
        unfinished += [[*way, cell] for cell in after]
    return found


def judged(task: Maze, prompts: list[str], answers: list[str]) -> dict[str, list[bool]]:
    encode, end = task.tokenizer.encode, task.tokenizer.end_of_text
    asked = torch.from_numpy(np.stack([encode(prompt) for prompt in prompts]))
    written = torch.from_numpy(pad([encode(answer) for answer in answers], task.answer_length, end))
    return {name: right.tolist() for name, right in task.judge(asked, written, written.flip(0)).items()}


@pytest.mark.parametrize("task", [TASK, LOOPS, Maze(3, 5, min_way=2, max_way=15)], ids=str)
def test_draw__ways_are_the_shortest_and_their_start_is_a_fork(task: Maze):
    places = {f"{'abcdefgh'[x]}{y + 1}": (x, y) for x in range(task.width) for y in range(task.height)}
    for passages, start, goal, way in parts(task, "train", 30, seed=1):
        assert len(passages) == task.passages
        assert set().union(*passages) == set(places)
        for one, other in map(tuple, passages):
            assert sum(abs(a - b) for a, b in zip(places[one], places[other], strict=True)) == 1
        assert sum(start in pair for pair in passages) > 1
        found = ways(passages, start, goal)
        assert way in found
        assert len(way) == min(map(len, found))
        assert task.min_way <= len(way) <= task.max_way
        assert len(found) == 1 or task.loops


def test_draw__ways_of_every_length_and_any_of_several():
    lengths, chosen = set(), set()
    for passages, start, goal, way in parts(LOOPS, "train", 60):
        lengths.add(len(way))
        same = [one for one in ways(passages, start, goal) if len(one) == len(way)]
        shortest = sorted(same, key=lambda one: [cell[::-1] for cell in one])  # in the order of cells
        if len(shortest) > 1:
            chosen.add(way == shortest[0])
    assert lengths >= {3, 4, 5}
    assert chosen == {True, False}


def test_draw__passages_stand_anywhere_in_any_direction():
    first = {tuple(prompt[:2]) for prompt in TASK.draw("train", 0, range(600))[0].tolist()}
    assert len(first) == 48


def test_draw__a_line_is_a_function_of_split_seed_and_index():
    prompts, answers = LOOPS.draw("train", 5, [4, 9, 2])
    again = LOOPS.draw("train", 5, [9])
    assert np.array_equal(prompts[1:2], again[0])
    assert np.array_equal(answers[1:2], again[1])
    assert not np.array_equal(prompts, LOOPS.draw("train", 6, [4, 9, 2])[0])
    assert np.array_equal(LOOPS.draw("val", 1, [3])[0], LOOPS.draw("val", 8, [3])[0])


def test_draw__no_maze_is_in_two_splits():
    task = Maze(3, 3, min_way=3, max_way=9)
    mazes = {split: {frozenset(line[0]) for line in parts(task, split, 500)} for split in ("train", "val", "test")}
    assert sum(map(len, mazes.values())) == len(set.union(*mazes.values())) > 100
    assert len(mazes["train"]) > 3 * len(mazes["val"]) > 30


@pytest.mark.parametrize("task", [TASK, LOOPS], ids=str)
def test_judge__accepts_every_drawn_way_and_every_other_shortest_one(task: Maze):
    prompts, answers = map(torch.from_numpy, task.draw("val", 0, range(100)))
    verdicts = task.judge(prompts, answers, answers.roll(1, 0))
    assert set(verdicts) == {"exact", "first_move", "reached"}
    assert all(verdict.all() for verdict in verdicts.values())
    several = 0
    for prompt, (passages, start, goal, way) in zip(prompts, parts(task, "val", 100), strict=True):
        found = ways(passages, start, goal)
        several += sum(len(one) == len(way) for one in found) > 1
        fitting = [one for one in found if len(one) <= task.max_way]
        text = task.tokenizer.decode(prompt.tolist())
        verdicts = judged(task, [text] * len(fitting), [",".join(one) for one in fitting])
        assert verdicts["exact"] == [len(one) == len(way) for one in fitting]
        assert all(verdicts["reached"])
        second = {one[1] for one in found if len(one) == len(way)}
        assert verdicts["first_move"] == [one[1] in second for one in fitting]
    assert (several > 0) == (task.loops > 0)


def test_judge__each_kind_of_error_is_seen():
    task = Maze(4, 2, loops=2, min_way=2, max_way=8)
    # Answer; exact, first_move, reached.
    cases = [
        ("a1,b1,c1", True, True, True),
        ("a1,a2,b2,c2,c1", False, False, True),  # a longer way
        ("a1,b1,b2,c2,c1", False, True, True),
        ("a1,b1,c1,d1", False, True, False),  # beyond the goal
        ("a1,b1,c1,b1,c1", False, True, False),
        ("a1,b1", False, True, False),  # ends early
        ("a1,c1", False, False, False),  # through a wall
        ("a1,b1,c2,c1", False, True, False),
        ("b1,c1", False, False, False),  # not from the start
        ("b1,b1,c1", False, False, False),
        ("a1|b1,c1", False, False, False),  # not a cell
        ("a1,b1|c1", False, True, False),
        ("a1,c2,c1", False, False, False),  # near to the goal, but through a wall
        ("c1", False, False, False),
        ("", False, False, False),
    ]
    found = judged(task, [f"{LADDER}/a1,c1="] * len(cases), [answer for answer, *_ in cases])
    for column, name in enumerate(("exact", "first_move", "reached"), 1):
        for case, right in zip(cases, found[name], strict=True):
            assert right == case[column], (name, case)


def test_judge__both_ways_round_a_loop_and_a_way_of_full_length():
    task = Maze(4, 2, loops=2, min_way=2, max_way=3)
    answers = ["a1,b1,b2", "a1,a2,b2", "a1,b1,c1"]
    assert judged(task, [f"{LADDER}/a1,b2="] * 3, answers)["exact"] == [True, True, False]


def test_chunks__each_passage_is_one():
    hierarchy = Hierarchy(2, 3)
    layout = TASK.layout(hierarchy)
    tokens = TaskWindows(TASK, hierarchy, "train").__getitems__(list(range(10))).tokens
    chunks = tokens[:, : layout.context_length].view(10, -1, 3)
    assert (layout.prompt, layout.answer, layout.context_length) == (0, 3 * 16, 3 * 19)
    assert (chunks[:, :15, :2] < TASK.cells).all()
    assert (chunks[:, :14, 2] == TASK.tokenizer.encode("|")[0]).all()
    assert [TASK.tokenizer.decode(chunk)[-1] for chunk in chunks[0, 14:16].tolist()] == ["/", "="]
    assert not TASK.single_answers


def test_draw_answer__shows_walls_and_way():
    prompts, answers = LOOPS.draw("val", 0, [0])
    lines = LOOPS.draw_answer(prompts[0], answers[0]).axes[0].get_lines()
    walls = 3 * 2 * 2 - LOOPS.passages + 6 + 1  # inner ones, the frame above and right, and the rest of it
    assert len(lines) == walls + 3
    way = [cell for cell in answers[0].tolist() if cell < 9]
    assert lines[walls].get_xydata().tolist() == [[cell % 3 + 0.5, cell // 3 + 0.5] for cell in way]
    LOOPS.draw_answer(torch.from_numpy(prompts[0]), torch.full((6,), LOOPS.tokenizer.end_of_text))


@pytest.mark.slow  # the tests of the experiments validate within a fit
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*lr_scheduler.step.*")
def test_commands__fit_and_validate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.chdir(tmp_path)
    small = {
        "--data.task": "Maze",
        "--data.task.width": 3,
        "--data.task.height": 3,
        "--data.task.loops": 1,
        "--data.task.max_way": 6,
        "--data.task.test_lines": 8,
        "--data.eval_batch_size": 8,
        "--trainer.accelerator": "cpu",
    }
    options = [str(part) for option in small.items() for part in option]
    model = ["--model.config.depth", "1", "--model.config.num_loops", "1", "--sample.max_new_tokens", "0"]
    steps = ["--trainer.max_steps", "2", "--trainer.val_check_interval", "2", "--plan_view.windows", "0"]
    main(["fit", "--config", "maze/two_levels", *options, *model, *steps])
    capsys.readouterr()
    main(["validate", "--config", "maze/two_levels", *options, "--ckpt_path", "lightning_logs/maze_two_levels"])
    printed = capsys.readouterr().out
    for name in ("exact", "first_move", "reached", "exact_zero", "exact_shuffled"):
        assert re.search(rf"val/answer/{name}\b", printed)


def test_commands__a_bad_option_is_one_sentence(capsys: pytest.CaptureFixture):
    said = fails(capsys, "fit", "--config", "maze/two_levels", "--data.task.width", "1")
    assert "maze: width 1 must be 2 to 26" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 27}, "width 27 must be 2 to 26"),
        ({"height": 1}, "height 1 2 or more"),
        ({"width": 26, "height": 2000}, "are more than 1000: give a smaller height"),
        ({"loops": 10}, "loops 10 must be 0 to 9 in a grid of 4 times 4"),
        ({"min_way": 1}, "min_way 1 must be 2 or more"),
        ({"max_way": 17}, "max_way 17 from there to 16"),
        ({"train_lines": 0}, "train_lines 0"),
        ({"held_out": 0.0}, "held_out 0.0"),
        ({"width": 2, "height": 2, "max_way": 4}, "no line of the .* split was found"),
    ],
)
def test_maze__out_of_range(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        Maze(**options)
