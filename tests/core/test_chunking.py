import json
from dataclasses import asdict

import numpy as np
import pytest
from jsonargparse import ArgumentParser

from nextconcept import InputError, ModelConfig
from nextconcept.core.chunk_rules import ChunkRule, ends_behind
from nextconcept.core.chunking import ChunkingConfig, parse_chunking, same_chunking


def bars() -> ChunkRule:
    """A rule of somebody's own."""
    return ends_behind("|")


def leaves():
    raise SystemExit(3)


def nothing() -> int:
    """No rule."""
    return 3


OWN = f"{__name__}.bars"


def test_parse_chunking__numbers_names_and_groups():
    rules = parse_chunking([4, "words", {"ends": "|\n", "max_length": 9}, {"rule": OWN, "mean_length": 2}])
    assert [rule.of_text for rule in rules] == [False, True, True, True]
    assert [(rule.max_length, rule.mean_length) for rule in rules] == [(4, 4.0), (32, 4.0), (9, 4.0), (32, 2)]
    assert parse_chunking(["words"])[0].max_length == 16


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("wrds", "did you mean words"),
        (1, "2 elements or more"),
        ({"rule": 4, "max_length": 8}, "have a max_length of 4, not 8"),
        ({"rule": 3.5}, "a number of elements or a name, not 3.5"),
        ({"rule": True}, "chunking of level 1 can't be True: give a number"),
        ({}, "either a rule or the characters"),
        ({"rule": "words", "ends": "|"}, "either a rule or the characters"),
        ({"rule": "words", "max_length": 0}, "max_length 0 must be from 1 to"),
        ({"ends": ".", "max_length": 10**30}, "must be from 1 to 9223372036854775807"),
        ({"rule": "words", "mean_length": 99}, "between 1 and max_length"),
        ({"rule": "words", "max_length": 3.5}, "max_length can't be 3.5"),
        ({"rule": "words", "num_states": -1}, "num_states must be 0 or more, not -1"),
        ({"ends": ["a", "b"]}, "ends can't be"),
        ({"rule": "words", "length": 3}, "give a number of elements, the name of a rule"),
    ],
)
def test_parse_chunking__what_is_malformed_is_said(entry: object, message: str):
    with pytest.raises(InputError, match=message):
        parse_chunking([entry])
    with pytest.raises(InputError, match=message):
        ModelConfig(levels=2, chunking=[entry])


def test_chunking__has_a_rule_per_concept_level():
    with pytest.raises(InputError, match="1 rules where 3 levels need 2"):
        ModelConfig(levels=3, chunking=["words"])


def test_chunking__equal_numbers_are_a_chunk_size():
    config = ModelConfig(levels=3, chunking=[3, 3], num_heads=4, context_length=27)
    assert (config.chunk_size, config.chunking, config.hierarchy.rules) == (3, None, ())
    assert ModelConfig(levels=1, chunking=["words"]).hierarchy.rules == ()


@pytest.mark.parametrize(
    "other",
    [
        {"encoder": {"chunk_alignment": "end"}},
        {"encoder": {"position_binding": False}, "planner": {"mode": "rollout", "matching": {}}},
        {"encoder": {"flat": True}, "planner": {"mode": "rollout", "matching": {}}},
    ],
)
def test_chunking__what_rules_do_not_go_with_is_refused_with_a_reason(other: dict):
    with pytest.raises(InputError, match="chunking by rules does not go with .*, because .*: leave out one of them"):
        ModelConfig(levels=3, chunking=["words", 2], **other)


def test_hierarchy__bounds_what_a_window_may_hold():
    hierarchy = ModelConfig(levels=3, chunking=["words", 3], context_length=50).hierarchy
    assert hierarchy.alignment == 1
    assert [hierarchy.length(50, level) for level in (0, 1, 2)] == [50, 13, 5]
    assert hierarchy.span(2) == 48


def test_automaton__of_a_function_that_is_no_rule():
    for name in (f"{__name__}.nothing", f"{__name__}.leaves", f"{__name__}.missing", "no.such.module"):
        with pytest.raises(InputError, match=f"the chunking rule '{name}'"):
            ChunkingConfig(rule=name).automaton()


def test_chunk_rule__tables_that_do_not_fit_are_refused():
    good = bars()
    for following, ends in ((good.next + 9, good.ends), (good.next, good.ends[:, :9]), (good.next[0], good.ends[0])):
        with pytest.raises(InputError, match="needs two tables"):
            ChunkRule(following, ends)


def test_chunk_rule__tables_of_other_types_are_converted_or_refused():
    good = bars()
    lists = ChunkRule(good.next.tolist(), good.ends.tolist())
    assert (lists.next == good.next).all()
    assert (lists.ends == good.ends).all()
    assert ChunkRule(good.next.astype(np.uint8), good.ends).next.dtype == np.int64
    halves = good.next + 0.5
    for following, ends in ((halves * np.nan, good.ends), (halves, good.ends), (good.next, good.ends * 7), ("a", None)):
        with pytest.raises(InputError, match="integers for the states and truth values"):
            ChunkRule(following, ends)
    with pytest.raises(InputError, match="integers for the states and truth values"):
        ChunkRule([[0] * 256, [0]], good.ends)


@pytest.mark.parametrize("characters", ["#", "{}", "[]", "0123", "null", "~", "no", "|\n"])
def test_chunking__the_command_line_reads_characters_as_they_are(characters: str):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(ModelConfig, "config")
    chunking = json.dumps([{"ends": characters, "max_length": 9, "mean_length": 2.5}])
    read = parser.parse_args([f"--config.chunking={chunking}"]).config.chunking
    assert parse_chunking(read) == [ChunkingConfig(ends=characters, max_length=9, mean_length=2.5)]


def test_from_dict__a_stored_rule_of_ones_own_must_have_been_built():
    config = ModelConfig(levels=2, chunking=[OWN])
    with pytest.raises(InputError, match="loading imports nothing by name"):
        ModelConfig.from_dict(config.to_dict())
    built = [asdict(ChunkingConfig(rule=OWN, num_states=1))]
    assert ModelConfig.from_dict(config.to_dict() | {"chunking": built}).hierarchy.rules[0].num_states == 1


def test_same_chunking__however_much_is_spelt_out():
    stored = [asdict(rule) | {"num_states": 3} for rule in parse_chunking(["words", 3])]
    assert same_chunking(stored, ["words", 3])
    assert not same_chunking(stored, ["words", 4])
    assert not same_chunking(stored, ["no rule", 3])
    assert not same_chunking(stored, None)
