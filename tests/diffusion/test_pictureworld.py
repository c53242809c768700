"""The picture world: the same pictures on every machine, captions that a program reads back, and a split of combinations."""

from __future__ import annotations

import hashlib
import re
from itertools import combinations as pairs_of

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph_diffusion.recipes.pictureworld import (
    CLASSES,
    COLOURS,
    KINDS,
    PLACES,
    SIZES,
    TIMES,
    Box,
    Demands,
    Reading,
    Scene,
    Thing,
    caption,
    class_label,
    demands_of,
    downscaled,
    draw,
    draw_with_map,
    faults,
    layout,
    parse,
    reading_of,
    scene,
    words,
)
from nodegraph_diffusion.recipes.pictureworld.captions import Group, Link, Seen, Style
from nodegraph_diffusion.recipes.pictureworld.captions.phrases import COLOUR_WORDS, NOUNS, SIZE_WORDS
from nodegraph_diffusion.recipes.pictureworld.combinations import HELD_OUT_THINGS, is_held_out_pair, is_training_scene, pairs
from nodegraph_diffusion.recipes.pictureworld.hashing import Stream, hashed
from nodegraph_diffusion.recipes.pictureworld.scene import UNIT, relation
from nodegraph_diffusion.recipes.pictureworld.sheet import contact_sheet

STYLES: tuple[Style, ...] = ("full", "mixed", "open")
NUMBERS = st.integers(0, 2**40)
PLURALS = {plural for names in NOUNS.values() for _, plural in names}
ADJECTIVES = "|".join(word for options in (*SIZE_WORDS.values(), *COLOUR_WORDS.values()) for word in options)


def test_hashes_are_those_of_splitmix64() -> None:
    """The first outputs of SplitMix64 from seed 0, as its authors publish them."""
    stream = Stream()
    assert [stream.bits() for _ in range(3)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert len({hashed("a"), hashed("b"), hashed("a", "b"), hashed("b", "a"), hashed(0), hashed(0, 0), hashed(-1)}) == 7


@pytest.mark.parametrize(
    ("index", "side", "digest"),
    [(0, 128, "91b9e62c55e65ef7"), (3, 128, "81f5dd5956102513"), (12, 128, "b0c4bdb6afea213a"), (5, 64, "34b88cf480378f41")],
)
def test_pictures_are_the_same_bytes_on_every_machine(index: int, side: int, digest: str) -> None:
    """If the world changes, figures can no longer be compared with those of the shipped weights."""
    assert hashlib.sha256(draw(scene(0, index), side).tobytes()).hexdigest()[:16] == digest


def test_scene_and_caption_depend_on_seed_and_index_only() -> None:
    assert scene(1, 7) == scene(1, 7)
    assert len({scene(1, 7), scene(1, 8), scene(2, 7)}) == 3
    assert caption(scene(1, 7), 4) == caption(scene(1, 7), 4)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_scenes_have_the_number_of_things_that_is_asked_for(count: int) -> None:
    assert {len(scene(0, index, count=count).things) for index in range(20)} == {count}


def test_every_attribute_occurs() -> None:
    scenes = [scene(0, index) for index in range(400)]
    things = [thing for each in scenes for thing in each.things]
    assert {thing.kind for thing in things} == set(KINDS)
    assert {thing.colour for thing in things} == set(COLOURS)
    assert {thing.size for thing in things} == set(SIZES)
    assert {(each.place, each.time) for each in scenes} == {(place, time) for place in PLACES for time in TIMES}
    assert {word for each in scenes for _, _, word, _, _ in pairs(each)} >= {"left", "above"}
    assert {len(each.things) for each in scenes} == {0, 1, 2, 3}


@settings(max_examples=100, deadline=None)
@given(NUMBERS, NUMBERS)
def test_things_are_inside_the_picture_and_apart(seed: int, index: int) -> None:
    boxes = [thing.box for thing in scene(seed, index, combinations="all").things]
    assert all(0 < box.left < box.right < UNIT and 0 < box.top < box.bottom < UNIT for box in boxes)
    for first, second in pairs_of(boxes, 2):
        apart = first.right <= second.left or second.right <= first.left or first.bottom <= second.top or second.bottom <= first.top
        assert apart, (first, second)


def test_relations_are_those_of_boxes() -> None:
    cat, right, below = Box(100, 100, 200, 200), Box(300, 120, 400, 220), Box(120, 400, 220, 500)
    assert [relation(cat, right), relation(right, cat)] == ["left", "right"]
    assert [relation(cat, below), relation(below, cat)] == ["above", "below"]
    assert relation(cat, Box(400, 400, 500, 500)) is None


def test_a_tenth_of_the_combinations_is_held_out() -> None:
    assert {kind for kind, _ in HELD_OUT_THINGS} == set(KINDS)
    assert {colour for _, colour in HELD_OUT_THINGS} == set(COLOURS)
    trained = [(kind, colour) for kind in KINDS for colour in COLOURS if (kind, colour) not in HELD_OUT_THINGS]
    held_out = [is_held_out_pair((*first, "left", *second)) for first in trained[::9] for second in trained]
    assert 0.06 < sum(held_out) / len(held_out) < 0.14
    assert is_held_out_pair(("cat", "red", "right", "owl", "pink")) == is_held_out_pair(("owl", "pink", "left", "cat", "red"))


def test_held_out_combinations_are_not_trained() -> None:
    for index in range(150):
        assert is_training_scene(scene(0, index))
        held_out = scene(0, index, combinations="held-out")
        assert held_out.things
        assert not is_training_scene(held_out)
        if index % 2 == 0:
            assert {(thing.kind, thing.colour) for thing in held_out.things} <= HELD_OUT_THINGS


@settings(max_examples=150, deadline=None)
@given(NUMBERS, NUMBERS, st.integers(0, 9), st.sampled_from(STYLES))
def test_captions_demand_only_what_their_scene_shows(seed: int, index: int, number: int, style: Style) -> None:
    each = scene(seed, index, combinations="all")
    text = caption(each, number, style)
    demands = parse(text)
    assert faults(demands, reading_of(each)) == [], text
    if style == "full" and each.things:
        assert demands.place
        assert demands.time
        assert all(group.colour and group.size for group in demands.groups)
    assert set(text.replace(",", "").split()) <= set(words())
    assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text), text
    assert all(noun in PLURALS for noun in re.findall(rf"\b(?:two|three|pair of)(?: (?:{ADJECTIVES}))* (\w+)", text)), text
    assert all(noun not in PLURALS for noun in re.findall(rf"\b(?:an?|another)(?: (?:{ADJECTIVES}))* (\w+)", text)), text


def test_captions_say_little_or_much() -> None:
    """Some name no place, no time, no colour or no relation; some count; the full ones are all different."""
    scenes = [scene(0, index, count=2) for index in range(120)]
    demands = [parse(caption(each, 0, "open")) for each in scenes]
    assert any(found == Demands(tuple(Group(group.kind) for group in found.groups)) for found in demands)
    assert any(group.count == 2 for found in demands for group in found.groups)
    assert len({caption(each, 0, "full") for each in scenes}) == len(scenes)
    assert len({caption(scenes[0], number) for number in range(40)}) > 15


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cat", Demands((Group("cat"),))),
        ("An orange owl at night", Demands((Group("owl", "orange"),), time="night")),
        (
            "a small red cat left of a large blue tree on a beach at night",
            Demands((Group("cat", "red", "small"), Group("tree", "blue", "large")), (Link("left", (0,), (1,)),), "beach", "night"),
        ),
        ("two trees", Demands((Group("tree", count=2),))),
        ("a pair of red bunnies side by side", Demands((Group("rabbit", "red", count=2),), (Link("beside", (0,), (0,)),))),
        ("in the snow, a house under a balloon", Demands((Group("house"), Group("balloon")), (Link("above", (1,), (0,)),), "snow")),
        (
            "a cat to the right of a car and above another cat",
            Demands((Group("cat"), Group("car"), Group("cat")), (Link("left", (1,), (0,)), Link("above", (0,), (2,)))),
        ),
        ("a castle between two palaces", Demands((Group("castle"), Group("castle", count=2)), (Link("between", (0,), (1,)),))),
        ("a drawing of an owl, a car, and a flower", Demands((Group("owl"), Group("car"), Group("flower")))),
        ("an empty beach at sunset", Demands((), (), "beach", "sunset")),
        ("a starry night", Demands(time="night")),
        ("by the sea", Demands(place="beach")),
    ],
)
def test_captions_are_parsed(text: str, expected: Demands) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a red zebra in the snow", "zebra"),
        ("cats", "two cats"),
        ("two cats and two dogs", "two dogs"),
        ("two cats and two owls", "at most 3"),
        ("", "expected"),
    ],
)
def test_caption_outside_the_grammar_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


PAIR = (Seen("house", "red", "large", x=250, y=700), Seen("boat", "blue", "small", x=750, y=720))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a large red house left of a small blue boat on a beach at night", []),
        ("a boat and a house", []),
        ("a red house right of a blue boat", ["relation"]),
        ("a red house above a blue boat", ["relation"]),
        ("a red boat and a blue house", ["colour"]),
        ("a house and a pink boat", ["colour"]),
        ("a small house and a small boat", ["size"]),
        ("two houses", ["kind"]),
        ("a house", ["count"]),
        ("a house and a boat in the snow by day", ["place", "time"]),
    ],
)
def test_faults_are_named(text: str, expected: list[str]) -> None:
    assert faults(parse(text), Reading(PAIR, "beach", "night")) == expected


def test_between_needs_a_thing_on_either_side() -> None:
    row = tuple(Seen(kind, "red", "small", x=x, y=800) for kind, x in (("cat", 200), ("owl", 500), ("cat", 800)))
    assert faults(parse("an owl between two cats"), Reading(row, "snow", "day")) == []
    moved = (row[0], Seen("owl", "red", "small", x=950, y=800), row[2])
    assert faults(parse("an owl between two cats"), Reading(moved, "snow", "day")) == ["relation"]


@settings(max_examples=100, deadline=None)
@given(NUMBERS, NUMBERS)
def test_a_scene_meets_all_demands_that_can_be_made_of_it(seed: int, index: int) -> None:
    each = scene(seed, index, combinations="all")
    assert faults(demands_of(each), reading_of(each)) == []


@pytest.mark.parametrize("side", [64, 100, 128])
def test_scene_is_drawn_at_any_size(side: int) -> None:
    picture, labels = draw_with_map(scene(0, 4), side)
    assert (picture.shape, picture.dtype) == ((side, side, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((side, side), np.uint8)
    np.testing.assert_array_equal(picture, draw(scene(0, 4), side))


def test_sizes_show_the_same_scene() -> None:
    small, large = draw(scene(0, 4), 64), downscaled(draw(scene(0, 4), 128), 2)
    assert np.abs(small.astype(int) - large.astype(int)).mean() < 9


def test_map_and_layout_agree() -> None:
    """The pixels of a kind are in the boxes of its things, but for their outline, and fill a good part of them."""
    for index in range(12):
        each = scene(0, index)
        _, labels = draw_with_map(each)
        inside = np.zeros_like(labels, bool)
        for box in layout(each):
            left, top, right, bottom = (round(128 * edge) for edge in (box.left, box.top, box.right, box.bottom))
            covered = labels[top:bottom, left:right] == CLASSES.index(KINDS[box.label])
            assert covered.mean() > 0.35, (index, box)
            inside[max(0, top - 3) : bottom + 3, max(0, left - 3) : right + 3] = True
        assert not (~inside & (labels >= CLASSES.index(KINDS[0]))).any()


def test_surroundings_are_in_the_map() -> None:
    empty = Scene("beach", "night", (), horizon=560, seed=1)
    names = {CLASSES[number] for number in np.unique(draw_with_map(empty)[1])}
    assert {"sky", "moon", "sea", "sand"} <= names <= {"sky", "moon", "cloud", "sea", "sand"}


def test_class_label_is_the_kind_of_a_single_thing() -> None:
    thing = Thing("owl", "pink", "small", x=500, base=900, scale=240)
    assert class_label(Scene("snow", "day", (thing,), horizon=560, seed=1)) == KINDS.index("owl")
    with pytest.raises(ValueError, match="count=1"):
        class_label(Scene("snow", "day", (), horizon=560, seed=1))


def test_downscaled_is_the_mean_of_blocks() -> None:
    picture = np.asarray([[[0], [10]], [[20], [31]]], np.uint8)
    assert downscaled(picture, 2).tolist() == [[[15]]]
    with pytest.raises(ValueError, match="multiple"):
        downscaled(picture, 3)


def test_contact_sheet_has_a_cell_for_each_scene() -> None:
    scenes = [scene(0, index) for index in range(3)]
    sheet = contact_sheet(scenes, 2, 32)
    assert sheet.shape == (64, 64, 3)
    np.testing.assert_array_equal(sheet[32:, :32], draw(scenes[2], 32))
    assert (sheet[32:, 32:] == 255).all()
