from pathlib import Path

import numpy as np
import pytest

from nextconcept.core.errors import InputError
from nextconcept.tasks.lines import LinesTask

SUMS = [f"{a}+{b}={a + b}" for a in range(3, 13) for b in (1, 95)]


@pytest.fixture
def sums(tmp_path: Path) -> str:
    path = tmp_path / "sums.txt"
    path.write_text("\n".join(SUMS))
    return str(path)


def texts(task: LinesTask, split: str) -> list[str]:
    """Lines of a split as the model sees them, padding as dots."""
    rows = np.concatenate(task.draw(split, 0, range(task.num_lines(split))), 1).tolist()
    end = task.tokenizer.end_of_text
    return ["".join("." if token == end else task.tokenizer.symbols[token] for token in row) for row in rows]


def test_lines__prompts_end_and_answers_begin_at_one_position(sums: str):
    task = LinesTask(sums, val=0.2, test=0.1)
    assert (task.prompt_length, task.answer_length) == (6, 4)
    train, val, test = (texts(task, split) for split in ("train", "val", "test"))
    assert [task.num_lines(split) for split in ("train", "val", "test")] == [14, 4, 2]
    assert sorted(line.strip(".") for line in train + val + test) == sorted(SUMS)
    assert all(line[5] == "=" and line[-1] == "." for line in train + val + test)
    assert task.tokenizer.symbols == [*"+0123456789", "="]


def test_lines__the_choice_of_held_out_lines_follows_its_seed(sums: str):
    assert texts(LinesTask(sums), "val") == texts(LinesTask(sums), "val")
    assert texts(LinesTask(sums), "val") != texts(LinesTask(sums, split_seed=1), "val")


def test_lines__a_prompt_stays_in_one_split(tmp_path: Path):
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"{prompt}={answer}\n" for answer in "xyz" for prompt in "abcdef"))
    task = LinesTask(str(path), val=0.3, test=0.3)
    prompts = [{line[0] for line in texts(task, split)} for split in ("train", "val", "test")]
    assert [len(part) for part in prompts] == [2, 2, 2]
    assert len(set.union(*prompts)) == 6
    assert sum(task.num_lines(split) for split in ("train", "val", "test")) == 18


def test_lines__prompts_that_differ_in_white_space_are_one(tmp_path: Path):
    path = tmp_path / "lines.txt"
    path.write_text(
        "".join(f"{a}{gap}plus{gap}{b}={a + b}\n" for gap in (" ", "  ") for a in range(5) for b in range(4))
    )
    task = LinesTask(str(path), tokens="words", val=0.2, test=0.2)
    drawn = [task.draw(split, 0, list(range(task.num_lines(split))))[0] for split in ("train", "val", "test")]
    prompts = [set(map(tuple, some.tolist())) for some in drawn]
    assert len(set.union(*prompts)) == sum(map(len, prompts)) == 20


def test_lines__files_of_their_own(sums: str, tmp_path: Path):
    for name, text in (("val.txt", "1+1=2\n"), ("test.txt", "11+11=1234\n1=1\n")):
        (tmp_path / name).write_text(text)
    task = LinesTask(sums, str(tmp_path / "val.txt"), str(tmp_path / "test.txt"))
    assert [task.num_lines(split) for split in ("train", "val", "test")] == [20, 1, 2]
    assert texts(task, "val") == ["..1+1=2...."]
    assert texts(task, "test") == ["11+11=1234.", "....1=1...."]
    half = LinesTask(sums, test_file=str(tmp_path / "test.txt"))
    assert [half.num_lines(split) for split in ("train", "val", "test")] == [18, 2, 2]


@pytest.mark.parametrize("separator", [" -> ", "\t", "=>"])
def test_lines__words_and_longer_separators(separator: str, tmp_path: Path):
    path = tmp_path / "lines.txt"
    lines = [("go left", "west"), ("turn  around", "south now"), ("stop", "here")]
    path.write_bytes(b"\xef\xbb\xbf" + "\n\n".join(separator.join(line) for line in lines).encode())
    task = LinesTask(str(path), separator=separator, tokens="words", val=0, test=0)
    assert task.tokenizer.symbols == [
        *sorted(["go", "left", "turn", "around", "stop", "west", "south", "now", "here"]),
        separator,
    ]
    prompts, answers = task.draw("train", 0, [1])
    assert task.tokenizer.decode([*prompts[0], *answers[0]]) == f"turn around{separator}south now"
    assert answers.shape == (1, 3)
    characters = LinesTask(str(path), separator=separator, val=0, test=0)
    assert characters.tokenizer.symbols[-1] == separator
    prompts, answers = characters.draw("train", 0, [1])
    assert characters.tokenizer.decode([*prompts[0], *answers[0]]) == f"turn  around{separator}south now"


def test_lines__an_answer_may_hold_the_separator(tmp_path: Path):
    path = tmp_path / "lines.txt"
    path.write_text("x=y=z\n")
    for tokens in ("characters", "words"):
        task = LinesTask(str(path), tokens=tokens, val=0, test=0)
        assert (task.prompt_length, task.answer_length) == (2, 4)
        assert [task.tokenizer.decode(part[0]) for part in task.draw("train", 0, [0])] == ["x=", "y=z"]


def test_tokenizer__pads_a_typed_prompt_as_training_does(sums: str):
    task = LinesTask(sums)
    tokenizer = task.tokenizer.with_prompt_length(8)
    end = tokenizer.end_of_text
    assert tokenizer.encode_prompt("3+1=").tolist() == [end] * 4 + tokenizer.encode("3+1=").tolist()
    begun = tokenizer.encode_prompt("3+1=4")
    assert begun.tolist() == [end] * 4 + tokenizer.encode("3+1=4").tolist()
    assert tokenizer.decode(begun) == "3+1=4"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1=2\n12\n", "line 2: there is no separator '=' between prompt and answer"),
        ("1=2\n =2\n", "line 2: the prompt is empty"),
        ("1=2\n\n1= \n", "line 3: the answer is empty"),
        ("1=2\n", "has too few prompts to hold some out"),
        ("", "is empty"),
    ],
)
def test_lines__bad_file(content: str, message: str, tmp_path: Path):
    path = tmp_path / "lines.txt"
    path.write_text(content)
    with pytest.raises(InputError, match=f"{path}.*{message}"):
        LinesTask(str(path))


@pytest.mark.parametrize("tokens", ["characters", "words"])
def test_lines__a_held_out_file_with_an_unknown_token(tokens: str, tmp_path: Path):
    train, val = tmp_path / "train.txt", tmp_path / "val.txt"
    train.write_text("a b=b\nb=a\n")
    val.write_text("a=b\nb=c\n")
    with pytest.raises(InputError, match=f"{val}, line 2: 'c' is none of the tokens"):
        LinesTask(str(train), str(val), str(val), tokens=tokens)


@pytest.mark.parametrize(
    "options",
    [{"separator": ""}, {"val": -0.1}, {"val": 0.5, "test": 0.5}, {"split_seed": -1}, {"tokens": "character"}],
)
def test_lines__bad_options(options: dict, sums: str):
    with pytest.raises(InputError, match="lines"):
        LinesTask(sums, **options)
