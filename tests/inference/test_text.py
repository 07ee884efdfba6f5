"""Text in, text out."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nextconcept import InputError, generate, load
from nextconcept.checkpoints.hub import save_pretrained
from nextconcept.data.bpe_training import train_bpe
from nextconcept.data.tokenizers import ByteTokenizer
from nextconcept.inference.plan_edits import PlanEdit
from nextconcept.inference.sampling import Sampling
from nextconcept.inference.text import TextStream, Writer, generate_text
from tests.helpers import open_model, small_config


def model():
    return open_model(small_config(vocab_size=256))


def stream(text: str, stop: list[str]) -> tuple[str, list[str], bool]:
    """Feed ``text`` byte by byte; return the text, its pieces, and whether the text ended."""
    made, pieces = TextStream(ByteTokenizer(), stop), []
    for token in text.encode():
        if not made.done:
            pieces.append(made.add(token))
    ended = made.done
    if not ended:
        pieces.append(made.end())
    return "".join(pieces), pieces, ended


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ([], "to be or not"),
        (["or"], "to be "),
        (["xx", "not"], "to be or "),
        (["not to"], "to be or not"),
        (["be", "b"], "to "),
    ],
)
def test_text_stream__ends_at_a_stop_string(stop: list[str], expected: str):
    text, _, ended = stream("to be or not", stop)
    assert text == expected
    assert ended == (text != "to be or not")


def test_text_stream__holds_back_what_may_become_a_stop_string():
    _, pieces, _ = stream("aaxy", ["xz"])
    assert pieces == ["a", "a", "", "xy", ""]


def test_text_stream__characters_of_several_bytes_come_whole():
    assert stream("é€", [])[1] == ["", "é", "", "", "€", ""]


def test_text_stream__ends_with_its_document():
    made = TextStream(ByteTokenizer(), [])
    assert made.add(65) == "A"
    assert made.add(0) == ""
    assert made.done


def test_generate_text__pieces_of_bpe_join_to_the_whole_text():
    tokenizer = train_bpe(["été in the plaza, über alles " * 20], 270)
    language_model = open_model(small_config(vocab_size=270))
    prompt = "été in"
    pieces = generate_text(language_model, tokenizer, [prompt], 30, seed=3)
    tokens = torch.tensor([tokenizer.encode_prompt(prompt).tolist()])
    generator = torch.Generator().manual_seed(3)
    ids = generate(language_model, tokens, 30, generator=generator)[0, tokens.shape[1] :].tolist()
    whole = tokenizer.decode(ids[: ids.index(tokenizer.end_of_text)] if tokenizer.end_of_text in ids else ids)
    assert "".join(piece for _, piece in pieces) == whole


def test_generate_text__prompts_of_different_lengths():
    prompts = ["abcdefg", "x"]
    together = ["", ""]
    for index, piece in generate_text(model(), ByteTokenizer(), prompts, 12, Sampling(0.0)):
        together[index] += piece
    for index, prompt in enumerate(prompts):
        alone = generate_text(model(), ByteTokenizer(), [prompt], 12, Sampling(0.0))
        assert "".join(piece for _, piece in alone) == together[index]


def test_generate_text__empty_stop_string():
    with pytest.raises(InputError, match="stop string is empty"):
        list(generate_text(model(), ByteTokenizer(), ["a"], 3, stop=[""]))


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    save_pretrained(model(), ByteTokenizer(), tmp_path / "export")
    return load(tmp_path / "export")


def test_load__writes_a_prompt_and_its_continuation(writer: Writer):
    text = writer.write("abc", 12, temperature=0.0)
    pieces = [piece for _, piece in generate_text(model(), ByteTokenizer(), ["abc"], 12, Sampling(0.0))]
    assert text == "abc" + "".join(pieces)
    assert list(writer.stream("abc", 12, temperature=0.0)) == pieces
    assert repr(writer) == "Writer(2 levels of widths [16, 32], 0.05 M parameters)"


def test_write__several_prompts_in_one_batch(writer: Writer):
    prompts = ["abcdefg", "x"]
    assert writer.write(prompts, 5, temperature=0.0) == [writer.write(p, 5, temperature=0.0) for p in prompts]
    assert len(set(writer.write(["abc"] * 3, 20, seed=1))) > 1


def test_write__ends_at_a_stop_string(writer: Writer):
    text = writer.write("abc", 20, temperature=0.0)[3:]
    assert writer.write("abc", 20, temperature=0.0, stop=text[4:6]) == "abc" + text[: text.find(text[4:6])]


def test_write__leaves_a_model_in_training_mode(writer: Writer):
    writer.model.train()
    writer.write("abc", 2)
    writer.plan("abc")
    assert writer.model.training


def test_plan__the_report_has_tables_and_plain_values(writer: Writer):
    report = writer.plan("abcdef")
    assert [step.step for step in report.steps] == [0, 1, 2]
    assert len(report.written.encode()) >= 1
    assert report.to_dict()["plan"][0] == report.steps[0].to_dict()
    lines = str(report).splitlines()
    assert lines[0] == 'prompt   "abcdef"'
    assert lines[3] == "level 1"
    assert 'prompt ends after "ef"' in lines[5]
    assert lines[-1].startswith("plan and text part at step")


def test_plan__edits_as_text_or_as_concepts(writer: Writer):
    edit = PlanEdit(1, 1, writer.compose("kiwi"), torch.tensor(list(b"kiwi")))
    by_text, by_concept = writer.plan("abcdef", "1:1=kiwi"), writer.plan("abcdef", [edit])
    assert str(by_text) == str(by_concept)
    assert [step.edited for step in by_text.steps] == [False, True, False]
    assert "edited" in str(by_text)


def test_compose__takes_a_text_as_it_is_on_a_planning_task_too():
    writer = load("star-graph")
    tokens = torch.from_numpy(writer.tokenizer.encode("1,2|")).long()
    assert torch.equal(writer.compose("1,2|"), writer.model.compose(tokens))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda writer: writer.write(""), "prompt is empty"),
        (lambda writer: writer.compose(3), "must be a text, .* not int"),
        (lambda writer: writer.write(3), "a prompt must be a text, .* not int"),
        (lambda writer: writer.write(["a", None]), "not NoneType"),
        (lambda writer: writer.plan(["a"]), "not list"),
        (lambda writer: writer.plan("a", edits={(1, 0): "kiwi"}), r"or a PlanEdit, not \{\(1, 0\): 'kiwi'\}"),
        (lambda writer: writer.plan("a", edits=3), "or a PlanEdit, not 3"),
        (lambda writer: writer.stream("a", temperature=-1), "temperature must be 0 or more"),
        (lambda writer: writer.write([]), "list of prompts is empty"),
        (lambda writer: writer.write("a", temperature=-1), "temperature must be 0 or more"),
        (lambda writer: writer.write("a", stop=""), "stop string is empty"),
        (lambda writer: writer.write("a", seed="x"), "seed of the sampling must be from 0 to .*, not x"),
        (lambda writer: writer.write("a", stop=3), "stop must be a text or a list of texts, not 3"),
        (lambda writer: writer.plan("a", "1:7=kiwi"), "has steps 0 to 2, not 7"),
        (lambda writer: writer.compose("kiwis"), "has 5 tokens, but a concept of level 1 has 4"),
        (lambda writer: writer.compose("kiwi", 2), "the model has no concept level 2: those are 1"),
    ],
)
def test_writer__bad_input(call: Callable[[Writer], object], message: str, writer: Writer):
    with pytest.raises(InputError, match=message):
        call(writer)


def test_plan__needs_concepts():
    with pytest.raises(InputError, match="has tokens alone, and no plan"):
        Writer(open_model(small_config(vocab_size=256, levels=1)), ByteTokenizer()).plan("a")


def test_load__nothing_there():
    with pytest.raises(InputError, match="no checkpoint or run at nowhere"):
        load("nowhere")
    with pytest.raises(InputError, match="nor can a model of that name be loaded from the Hugging Face Hub"):
        load("nobody/nothing")
