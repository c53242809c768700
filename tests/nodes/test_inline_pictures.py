"""Pictures shown in terminals: what is sent is decoded by others, and shows the picture."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as pillow

from nodegraph.plugin_api import Terminal
from nodegraph_nodes.models.backend import TorchBackend
from nodegraph_nodes.pictures.inline import sixel
from nodegraph_nodes.pictures.inline.show import fitted
from tests.support.sixel import decode_sixel


def saved(folder: Path, pixels: np.ndarray, name: str = "picture.png") -> Path:
    pillow.fromarray(pixels).save(folder / name)
    return folder / name


def shown(path: Path, protocol: str, width: int = 400, height: int = 200) -> str:
    text = TorchBackend().inline(path, Terminal(protocol=protocol, width=width, height=height))
    assert text is not None
    return text


def random_pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_kitty_receives_the_picture_in_commands_of_its_size(tmp_path):
    pixels = random_pixels(150, 160)
    text = shown(saved(tmp_path, pixels), "kitty")
    commands = re.findall("\x1b_G([^;]*);([A-Za-z0-9+/=]*)\x1b\\\\", text)
    assert "".join(f"\x1b_G{keys};{data}\x1b\\" for keys, data in commands) == text
    assert len(commands) > 2
    assert [keys for keys, _ in commands] == ["a=T,f=100,q=2,m=1", *["m=1"] * (len(commands) - 2), "m=0"]
    assert all(len(data) == 4096 for _, data in commands[:-1])
    assert 0 < len(commands[-1][1]) <= 4096
    received = pillow.open(io.BytesIO(base64.b64decode("".join(data for _, data in commands))))
    assert received.format == "PNG"
    assert np.array_equal(np.array(received), pixels)


def test_iterm_receives_the_picture(tmp_path):
    pixels = random_pixels(150, 160)
    text = shown(saved(tmp_path, pixels), "iterm")
    match = re.fullmatch("\x1b\\]1337;File=inline=1;size=(\\d+);width=160px;height=150px:([A-Za-z0-9+/=]*)\x07", text)
    assert match is not None
    data = base64.b64decode(match[2], validate=True)
    assert len(data) == int(match[1])
    assert np.array_equal(np.array(pillow.open(io.BytesIO(data))), pixels)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_sixel_draws_few_colours_as_they_are(data):
    width, height = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 20))
    colours = data.draw(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=9))
    chosen = data.draw(st.lists(st.sampled_from(colours), min_size=width * height, max_size=width * height))
    pixels = np.array(chosen, dtype=np.uint8).reshape(height, width, 3)
    drawn = decode_sixel(sixel.encode(pillow.fromarray(pixels)))
    assert np.array_equal(drawn.pixels, np.round(pixels * (100 / 255)))
    assert drawn.colours <= len(set(colours))


def test_sixel_draws_many_colours_nearly(tmp_path):
    ramp = np.linspace(0, 255, 90).astype(np.uint8)
    pixels = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], ramp[::-1, None]), axis=-1)  # thousands of colours
    drawn = decode_sixel(shown(saved(tmp_path, pixels), "sixel", width=90, height=90))
    assert drawn.colours <= 256
    assert (drawn.pixels >= 0).all()  # every pixel is drawn
    apart = drawn.pixels - pixels * (100 / 255)
    assert np.abs(apart).max() < 20
    means = apart.reshape(9, 10, 9, 10, 3).mean(axis=(1, 3))
    assert np.abs(means).max() < 3  # dithered: of the right colour on the whole


def test_rows_that_are_alike_are_sent_short(tmp_path):
    text = shown(saved(tmp_path, np.zeros((60, 400, 3), np.uint8)), "sixel")
    assert text.count("!400~") == 10
    assert len(text) < 200


@pytest.mark.parametrize(
    ("size", "expected"),
    [((3, 2), (300, 200)), ((128, 128), (128, 128)), ((400, 200), (400, 200)), ((64, 64), (192, 192)), ((1, 1), (200, 200))],
    ids=str,
)
def test_small_pictures_are_enlarged_without_blur(size, expected):
    picture = pillow.fromarray(random_pixels(size[1], size[0]))
    larger = fitted(picture, 400, 200)
    assert larger.size == expected
    factor = expected[0] // size[0]
    assert np.array_equal(np.array(larger), np.array(picture).repeat(factor, 0).repeat(factor, 1))


@pytest.mark.parametrize(
    ("size", "expected"), [((800, 400), (400, 200)), ((401, 10), (400, 9)), ((50, 1000), (10, 200)), ((9, 9000), (1, 200))]
)
def test_large_pictures_are_reduced_to_the_room(size, expected):
    assert fitted(pillow.new("RGB", size), 400, 200).size == expected


def test_what_is_transparent_is_white(tmp_path):
    pixels = np.zeros((6, 6, 4), np.uint8)
    pixels[:3] = (255, 0, 0, 255)
    drawn = decode_sixel(shown(saved(tmp_path, pixels), "sixel", 6, 6))
    assert np.array_equal(drawn.pixels[:3], np.broadcast_to([100, 0, 0], (3, 6, 3)))
    assert (drawn.pixels[3:] == 100).all()


def test_files_that_are_no_pictures_are_not_shown_and_damaged_ones_are_errors(tmp_path):
    terminal = Terminal(protocol="sixel", width=100, height=100)
    (tmp_path / "words.json").write_text('"words"')
    assert TorchBackend().inline(tmp_path / "words.json", terminal) is None
    path = saved(tmp_path, random_pixels(50, 50))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="truncated"):
        TorchBackend().inline(path, terminal)
    with pytest.raises(ValueError, match="9000x9000 pixels"):
        TorchBackend().inline(saved(tmp_path, np.zeros((9000, 9000), bool), "large.png"), terminal)
