"""The toy world: the same on every machine, and captions that a program can read."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from nodegraph_diffusion.recipes.bytepairs import WORD_END, byte_symbols
from nodegraph_diffusion.recipes.pixels import to_pixels, to_tensor
from nodegraph_diffusion.recipes.tiny import vocabulary
from nodegraph_diffusion.recipes.tiny.data import pictures, scene
from nodegraph_diffusion.recipes.tiny.examples import write_examples
from nodegraph_diffusion.recipes.tiny.text import attributes
from nodegraph_diffusion.recipes.tiny.world import COLOURS, HELD_OUT, KINDS, Request, caption, draw, parse, request, sample_scene


def test_scene_is_the_same_every_time() -> None:
    assert scene("train", 7) == scene("train", 7)
    assert scene("train", 7) != scene("valid", 7)
    np.testing.assert_array_equal(draw(scene("train", 7)), draw(scene("train", 7)))


def test_known_scene_does_not_change() -> None:
    """If the world or its random stream changes, figures can no longer be compared with those of the shipped weights."""
    known = scene("train", 0)
    assert request(known) == Request((("balloon", "purple"), ("castle", "blue")), "desert", "day")
    assert draw(known).mean() == pytest.approx(161.72, abs=0.3)


@pytest.mark.parametrize("size", [64, 128, 100])
def test_scene_is_drawn_at_any_size(size: int) -> None:
    picture = draw(scene("valid", 3), size)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8


def test_sizes_show_the_same_scene() -> None:
    small, large = (draw(scene("valid", 3), size).astype(float) for size in (64, 128))
    reduced = large.reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(small - reduced).mean() < 2


def test_held_out_combinations_are_not_trained() -> None:
    assert {kind for kind, _ in HELD_OUT} == set(KINDS)
    assert {colour for _, colour in HELD_OUT} == set(COLOURS)
    for index in range(300):
        assert not HELD_OUT & {(thing.kind, thing.colour) for thing in scene("train", index).things}
        assert {(thing.kind, thing.colour) for thing in scene("held-out", index).things} <= HELD_OUT


def test_white_things_do_not_stand_in_the_snow() -> None:
    for index in range(300):
        each = scene("judge", index)
        assert each.place != "snow" or all(thing.colour != "white" for thing in each.things)


def test_things_are_in_the_picture_from_left_to_right() -> None:
    for index in range(300):
        things = scene("judge", index).things
        assert [thing.x for thing in things] == sorted(thing.x for thing in things)
        assert all(0 < thing.x < 1 and thing.base < 1 for thing in things)


def test_full_captions_are_read_back() -> None:
    for index in range(500):
        each = scene("train", index)
        asked = parse(caption(each, Random(index), keep=1.0, colours=1.0))
        if each.things:
            assert asked == request(each)
        else:
            assert asked.things == ()


def test_partial_captions_agree_with_the_scene() -> None:
    for index in range(500):
        each = scene("train", index)
        asked = parse(caption(each, Random(index), keep=0.3, colours=0.5))
        assert asked.place in (None, each.place)
        assert asked.time in (None, each.time)
        assert [kind for kind, _ in asked.things] == [thing.kind for thing in each.things]


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("a red house", Request((("house", "red"),))),
        ("A red house under a night sky", Request((("house", "red"),), time="night")),
        ("an orange cat right of a tree", Request((("tree", None), ("cat", "orange")))),
        ("a blue boat to the left of a pink cat", Request((("boat", "blue"), ("cat", "pink")))),
        ("a picture of a blue boat and a pink cat in the snow", Request((("boat", "blue"), ("cat", "pink")), "snow")),
        ("an empty beach at sunset", Request((), "beach", "sunset")),
    ],
)
def test_captions_are_parsed(text: str, asked: Request) -> None:
    assert parse(text) == asked


def test_caption_outside_the_grammar_is_refused() -> None:
    with pytest.raises(ValueError, match="zebra"):
        parse("a red zebra in the snow")


def test_each_word_is_one_token_and_each_byte_has_two() -> None:
    table = vocabulary.vocabulary().numbers
    assert len(table) < 2000
    assert all(word + WORD_END in table for word in vocabulary.words())
    assert all({symbol, symbol + WORD_END} <= table.keys() for symbol in byte_symbols())
    assert len(set(byte_symbols())) == 256


def test_captions_fit_the_text_encoder() -> None:
    texts = [caption(scene("train", index), Random(index), keep=1.0) for index in range(500)]
    assert all(len(vocabulary.vocabulary().tokens(text)) == vocabulary.MAX_LENGTH for text in texts)


def test_open_attributes_have_class_0() -> None:
    assert attributes(parse("a cat")) == [1, KINDS.index("cat") + 1, 0, 0, 0, 0, 0]


def test_pixels_to_tensors_and_back() -> None:
    drawn = pictures("valid", 2)
    np.testing.assert_array_equal(to_pixels(to_tensor(drawn)), drawn)


def test_scenes_with_a_given_number_of_things() -> None:
    assert [len(sample_scene(Random(0), count=count).things) for count in range(4)] == [0, 1, 2, 3]


def test_example_pictures_are_of_the_world(tmp_path: Path) -> None:
    write_examples(tmp_path)
    committed = Path(__file__).parents[2] / "workflows" / "examples"
    assert {file.name for file in tmp_path.iterdir()} == {"scene.png", "mask.png", "castle.png"}
    for file in tmp_path.iterdir():
        ours, theirs = (np.asarray(Image.open(each), float) for each in (file, committed / file.name))
        assert np.abs(ours - theirs).mean() < 0.5, file.name
