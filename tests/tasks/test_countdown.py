import re
from pathlib import Path

import numpy as np
import pytest
import torch

from nextconcept.cli.main import main
from nextconcept.core.chunk_ends import rule_ends
from nextconcept.core.chunk_rules import ends_behind
from nextconcept.core.errors import InputError
from nextconcept.core.hierarchy import Hierarchy
from nextconcept.tasks.countdown import Countdown
from nextconcept.tasks.task import pad
from nextconcept.tasks.windows import TaskWindows
from tests.helpers import fails

TASK = Countdown()
OTHERS = [Countdown(2, 9, 5, 30, 30), Countdown(4, 99, 10, 100, 999), Countdown(5, 9, 1, 1, 50)]


def lines_of(task: Countdown, split: str, count: int, seed: int = 0) -> list[tuple[list[int], int, str]]:
    """Numbers, target and answer of drawn lines."""
    lines = []
    for prompt, answer in zip(*task.draw(split, seed, range(count)), strict=True):
        numbers, target = task.tokenizer.decode(prompt)[:-1].split(">")
        lines.append((list(map(int, numbers.split(","))), int(target), task.tokenizer.decode(answer)))
    return lines


def verdicts_of(task: Countdown, prompt: str, answers: list[str]) -> dict[str, list[bool]]:
    end = task.tokenizer.end_of_text
    prompts = torch.from_numpy(np.repeat(task.tokenizer.encode(prompt)[None], len(answers), 0))
    written = torch.from_numpy(pad([task.tokenizer.encode(answer) for answer in answers], task.answer_length, end))
    found = task.judge(prompts, written, written.flip(0))
    return {name: verdict.tolist() for name, verdict in found.items()}


@pytest.mark.parametrize("task", [TASK, *OTHERS], ids=str)
def test_draw__equations_lead_from_the_numbers_to_the_target(task: Countdown):
    for numbers, target, answer in lines_of(task, "train", 8, seed=1):
        assert len(numbers) == task.numbers
        assert max(numbers) <= task.max_number
        assert task.min_target <= target <= task.max_target
        left = list(numbers)
        for equation in answer.split(","):
            operation, result = equation.split("=")
            sign = next(sign for sign in "+-*/" if sign in operation)
            for number in map(int, operation.split(sign)):
                left.remove(number)
            assert eval(operation) == int(result) <= task.max_result
            left.append(int(result))
        assert left == [target]


def test_draw__a_line_is_a_function_of_split_seed_and_index():
    prompts, answers = TASK.draw("train", 5, [4, 9, 2])
    again = TASK.draw("train", 5, [9])
    assert np.array_equal(prompts[1:2], again[0])
    assert np.array_equal(answers[1:2], again[1])
    assert not np.array_equal(prompts, TASK.draw("train", 6, [4, 9, 2])[0])
    assert np.array_equal(TASK.draw("val", 1, [3])[0], TASK.draw("val", 8, [3])[0])


def test_draw__no_problem_is_in_two_splits_and_equal_problems_have_equal_answers():
    task = Countdown(3, 6, 5, 20, 40)
    problems: dict[str, set] = {}
    solutions: dict[tuple, str] = {}
    for split in ("train", "val", "test"):
        lines = lines_of(task, split, 800)
        problems[split] = {(tuple(sorted(numbers)), target) for numbers, target, _ in lines}
        for numbers, target, answer in lines:
            assert solutions.setdefault((tuple(sorted(numbers)), target), answer) == answer
    assert sum(map(len, problems.values())) == len(set.union(*problems.values())) == len(solutions)
    assert len(problems["train"]) > 3 * len(problems["val"]) > 30
    # Numbers and targets reach both ends.
    assert {number for numbers, _ in problems["train"] for number in numbers} == {*range(1, 7)}
    assert {target for _, target in problems["train"]} == {*range(5, 21)}


@pytest.mark.parametrize("task", [TASK, *OTHERS], ids=str)
def test_judge__accepts_every_drawn_answer(task: Countdown):
    for split in ("train", "val"):
        prompts, answers = map(torch.from_numpy, task.draw(split, 0, range(20)))
        verdicts = task.judge(prompts, answers, answers.roll(1, 0))
        assert set(verdicts) == {"exact", "first_equation", "valid"}
        assert all(verdict.all() for verdict in verdicts.values())


def test_judge__any_solution_counts_and_each_kind_of_error_is_seen():
    # Answer; exact, first_equation, valid.
    cases = [
        ("4+3=7,7*2=14", True, True, True),
        ("3+4=7,2*7=14", True, True, True),
        ("4*3=12,12+2=14", True, True, True),
        ("3*4=12,2+12=14", True, True, True),
        ("4+3=7,7+2=9", False, True, True),  # not the target, which could be reached
        ("4-3=1,2*1=2", False, False, True),  # can't be reached any more
        ("4*3=12,12+2=15", False, True, False),  # wrong sum
        ("4+3=8,8*2=16", False, False, False),
        ("4+3=7,7+7=14", False, True, False),  # number taken twice
        ("4+4=8,8+2=10", False, False, False),  # number that is there once
        ("4+3=7,4*3=12", False, True, False),  # numbers that are used up
        ("9+5=14,2+3=5", False, False, False),  # numbers that never were
        ("3-4=1,7*2=14", False, False, False),  # below zero
        ("3/2=1,1+4=5", False, False, False),  # not exact
        ("4+3=7,", False, True, False),  # ends early
        ("4+3=7", False, False, False),
        ("4+3=7,7*2=14,", False, True, False),  # does not end
        ("4+3=7:7*2=14", False, False, False),  # wrong signs
        ("4+3-7,7*2=14", False, False, False),
        ("4=3=7,7*2=14", False, False, False),
        ("", False, False, False),
    ]
    found = verdicts_of(TASK, "2,3,4>14:", [answer for answer, *_ in cases])
    for column, name in enumerate(("exact", "first_equation", "valid"), 1):
        for case, right in zip(cases, found[name], strict=True):
            assert right == case[column], (name, case)


def test_judge__numbers_that_occur_twice_and_results_that_are_zero():
    assert verdicts_of(TASK, "5,5,12>12:", ["5-5=0,12+0=12", "5-5=0,0+12=12", "5/5=1,12*1=12"])["exact"] == [True] * 3
    assert verdicts_of(TASK, "5,5,12>22:", ["5+5=10,12+10=22", "12+5=17,17+5=22"])["exact"] == [True] * 2
    assert verdicts_of(TASK, "5,5,12>22:", ["5-5=0,12/0=22", "12-12=0,5+5=10"])["valid"] == [False] * 2


@pytest.mark.parametrize("task", [TASK, OTHERS[1]], ids=str)
def test_chunks__each_number_and_each_equation_is_one(task: Countdown):
    rules = [{"ends": ",>:", "max_length": 6, "mean_length": 3}]
    hierarchy = Hierarchy.of(2, 4, rules)
    tokens = TaskWindows(task, hierarchy, "train").__getitems__(list(range(20))).tokens[:, :-1]
    assert tokens.shape[1] == task.prompt_length + task.answer_length
    tables = map(torch.from_numpy, ends_behind(",>:").on_tokens(task.tokenizer.token_bytes()))
    ends = rule_ends(tokens, *tables)
    for line, cuts in zip(tokens, ends, strict=True):
        # The last equation ends with its sixth token, where the longest chunk does.
        chunks = torch.tensor_split(line, cuts.nonzero().flatten() + 1)
        texts = [task.tokenizer.decode(chunk) for chunk in chunks]
        assert [len(chunk) for chunk in chunks] == [2] * (task.numbers + 1) + [6] * (task.numbers - 1)
        assert all(text.count("=") == 1 for text in texts[task.numbers + 1 :])
    assert hierarchy.length(tokens.shape[1], 1) >= 2 * task.numbers


def test_chunks__with_three_levels_an_equation_is_one_of_the_third():
    hierarchy = Hierarchy.of(3, 4, [2, 3])
    layout = TASK.layout(hierarchy)
    tokens = TaskWindows(TASK, hierarchy, "val")[0].tokens[0, : layout.context_length]
    assert (layout.prompt, layout.answer, layout.context_length) == (4, 12, 24)
    texts = [TASK.tokenizer.decode(chunk) for chunk in tokens.view(-1, 6)]
    assert [text.count("=") for text in texts] == [0, 0, 1, 1]
    assert texts[1].endswith(":")


@pytest.mark.slow  # the tests of the experiments validate within a fit
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*lr_scheduler.step.*")
def test_commands__fit_and_validate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.chdir(tmp_path)
    small = {
        "--data.task": "Countdown",
        "--data.task.numbers": 2,
        "--data.task.test_lines": 8,
        "--data.eval_batch_size": 8,
        "--trainer.accelerator": "cpu",
    }
    options = [str(part) for option in small.items() for part in option]
    model = ["--model.config.depth", "1", "--model.config.width", "32", "--sample.max_new_tokens", "0"]
    steps = ["--trainer.max_steps", "2", "--trainer.val_check_interval", "2", "--plan_view.windows", "0"]
    main(["fit", "--config", "countdown/two_levels", *options, *model, *steps])
    capsys.readouterr()
    main(
        ["validate", "--config", "countdown/two_levels", *options, "--ckpt_path", "lightning_logs/countdown_two_levels"]
    )
    printed = capsys.readouterr().out
    for name in ("exact", "first_equation", "valid", "exact_zero", "exact_shuffled"):
        assert re.search(rf"val/answer/{name}\b", printed)


def test_commands__a_bad_option_is_one_sentence(capsys: pytest.CaptureFixture):
    said = fails(capsys, "fit", "--config", "countdown/two_levels", "--data.task.numbers", "9")
    assert "countdown: numbers 9 must be 2 to 5" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"numbers": 1}, "numbers 1 must be 2 to 5"),
        ({"max_number": 0}, "max_number 0 must be 1 or more"),
        ({"min_target": 100}, "min_target 100 from 0 to max_target 99"),
        ({"max_result": 30}, "max_result 30 must be at least max_number 40 and max_target 99"),
        ({"max_result": 100_000}, "below 100,000"),
        ({"test_lines": 0}, "test_lines 0"),
        ({"held_out": 0.6}, "held_out 0.6"),
        ({"max_number": 2, "min_target": 40}, "no line of the train split was found"),
    ],
)
def test_countdown__out_of_range(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        Countdown(**options)


def test_draw_answer__equations_below_the_numbers_that_they_take():
    """A right answer joins all numbers with the target; what is wrong or missing is not joined."""

    def drawn(answer: str) -> tuple[list[str], int]:
        written = TASK.tokenizer.encode(answer)
        (axes,) = TASK.draw_answer(TASK.tokenizer.encode("2,3,4>14:"), written).axes
        return [text.get_text() for text in axes.texts], len(axes.lines)

    right = ["2", "3", "4", "4 + 3 = 7", "7 * 2 = 14", "14"]
    assert drawn("4+3=7,7*2=14") == (right, 5)
    assert drawn("4+3=7,7*2=15") == ([*right[:4], "7 * 2 = 15", "14"], 4)
    assert drawn("4+3=7,9*9=81") == ([*right[:4], "9 * 9 = 81", "14"], 2)
    assert drawn("4+3=7,=*2") == ([*right[:4], "14"], 2)
    assert drawn("") == (["2", "3", "4", "14"], 0)
    with pytest.raises(InputError, match="signs where numbers belong"):
        TASK.draw_answer(TASK.tokenizer.encode("2,3,=>14:"), TASK.tokenizer.encode(""))
