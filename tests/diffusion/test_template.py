"""Text templates: choices, weights, nesting, wildcards and styles, by a seed."""

from __future__ import annotations

from collections import Counter

import pytest

from nodegraph_diffusion.text.template import Style, expand, from_mapping, read_styles, with_style

WILDCARDS = {"colour": ["red", "blue"], "light/night": ["a {full|new} moon"], "self": ["a __self__"], "big-cats_2": ["lion"]}


def made(template, seed=0):
    return expand(template, seed, from_mapping(WILDCARDS, "in a test"))


def every(template, count=200):
    return Counter(made(template, seed) for seed in range(count))


def test_plain_text_stays_as_it_is():
    for text in ("", "a (red:1.2) house, [x], <lora>, 50%", "snake_case_name", "a __ b", "a|b", "a::b", "back\\slash"):
        assert made(text) == text


def test_one_part_is_chosen():
    assert set(every("a {red|blue|} house")) == {"a red house", "a blue house", "a  house"}
    assert set(every("{only}")) == {"only"}
    assert set(every("{a|b}{a|b}")) == {"aa", "ab", "ba", "bb"}


def test_the_same_seed_makes_the_same_text():
    template = "{a|b|c} __colour__ {d|e|{f|g}}"
    for seed in (0, 1, 7, 2**64 - 1):
        assert made(template, seed) == made(template, seed)
    assert [made(template, seed) for seed in range(4)] == ["c blue e", "a blue f", "c blue d", "a blue e"]


def test_weights_count_in_proportion():
    found = every("{3::often|1::seldom|0::never}", 2000)
    assert set(found) == {"often", "seldom"}
    assert 0.7 < found["often"] / 2000 < 0.8
    assert set(every("{0.5::a|b}")) == {"a", "b"}


def test_choices_may_be_nested():
    assert set(every("{a {red|blue} house|{0::x|a tree}}")) == {"a red house", "a blue house", "a tree"}


def test_wildcards_are_lines_that_may_hold_choices():
    assert set(every("a __colour__ house")) == {"a red house", "a blue house"}
    assert set(every("__light/night__")) == {"a full moon", "a new moon"}
    assert set(every("{__colour__|green} __big-cats_2__")) == {"red lion", "blue lion", "green lion"}


def test_characters_can_be_written():
    assert made(r"\{a\|b\} \_\_colour__ {x\|y}") == "{a|b} __colour__ x|y"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a {b|c", r"expected a \} for the \{ at character 3"),
        ("a b}", r"expected a \{ before the \} at character 4"),
        ("{a|{b}", r"expected a \} for the \{ at character 1"),
        ("{0::a|0::b}", "expected a weight above 0"),
        ("__nothing__", "__nothing__: expected the name of a file of lines in a test, which has big-cats_2, colour"),
        ("__self__", "a wildcard may hold itself"),
    ],
)
def test_mistakes_are_errors(template, message):
    with pytest.raises(ValueError, match=message):
        made(template)


def test_styles_of_a_table():
    table = 'name,prompt,negative_prompt\r\nNight,"{prompt}, at night, moon",sun\r\nInk,"ink, black",\r\nNone,,\r\n'
    styles = read_styles("\ufeff" + table)
    assert styles == {"Night": Style("{prompt}, at night, moon", "sun"), "Ink": Style("ink, black"), "None": Style()}
    assert with_style("a house", styles["Night"].prompt) == "a house, at night, moon"
    assert with_style("a house", styles["Ink"].prompt) == "a house, ink, black"
    assert with_style("a house", "") == "a house"
    assert with_style("", "sun") == "sun"
    with pytest.raises(ValueError, match="columns name, prompt and negative_prompt"):
        read_styles("a,b\n1,2\n")
    with pytest.raises(ValueError, match="unexpected end"):
        read_styles('name,prompt\na,"b\n')
