"""Data sets: drawn pictures, and pictures in folders with captions in several forms, some of them damaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nodegraph_training.data.folder import find_folder
from nodegraph_training.nodes.data import image_folder, picture_world
from nodegraph_training.training.texts import vocabulary_files
from nodegraph_training.types import DataSet
from tests.support.recording_run import RecordingRun


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three pictures, two of them in a folder inside."""
    (tmp_path / "more").mkdir()
    for name, colour in (("a.png", "red"), ("more/b.jpg", "green"), ("more/c.png", "blue")):
        Image.new("RGB", (12, 8), colour).save(tmp_path / name)
    return tmp_path


def opened(folder: Path, run: RecordingRun | None = None, **inputs: object) -> DataSet:
    found = find_folder(".", folder)
    return image_folder(found.value, side=8, run=run or RecordingRun(), **inputs)


def captions(folder: Path, **inputs: object) -> list[str]:
    pictures = opened(folder, **inputs).pictures
    return [pictures.caption(index) for index in range(len(pictures))]


def test_drawn_pictures():
    pictures = picture_world(count=3, side=16, seed=5, things=1).pictures
    assert len(pictures) == 3
    assert pictures.pixels(0).shape == (16, 16, 3)
    assert pictures.caption(0, 0) != pictures.caption(0, 1)
    assert pictures.label(0) in pictures.caption(0) or pictures.label(0) is not None
    assert {word for index in range(3) for word in pictures.caption(index).replace(",", " ").split()} <= set(pictures.words())


@pytest.mark.parametrize("suffix", [".txt", ".caption"])
def test_captions_beside_pictures(folder, suffix):
    for name in ("a", "more/b", "more/c"):
        (folder / f"{name}{suffix}").write_text(f"a picture of {name}\n")
    assert captions(folder) == ["a picture of a", "a picture of more/b", "a picture of more/c"]


TABLES = {
    "metadata.csv": "file_name,text\na.png,one\nmore/b.jpg,two\nmore/c.png,three\n",  # Hugging Face's
    "metadata.jsonl": "\n".join(
        json.dumps({"file_name": name, "text": text})
        for name, text in (("a.png", "one"), ("more/b.jpg", "two"), ("more/c.png", "three"))
    ),
    "musubi.jsonl": "\n".join(
        json.dumps({"image_path": name, "caption": text})
        for name, text in (("a.png", "one"), ("more/b.jpg", "two"), ("more/c.png", "three"))
    ),
    "meta_cap.json": json.dumps({"a": {"caption": "one"}, "more/b": {"caption": "two"}, "c": {"tags": "three"}}),  # kohya's
}


@pytest.mark.parametrize("name", TABLES)
def test_captions_in_tables(folder, name):
    (folder / name).write_text(TABLES[name])
    assert captions(folder) == ["one", "two", "three"]


def test_tags_follow_the_caption_and_a_table_may_be_beside_its_pictures(folder):
    (folder / "more" / "metadata.csv").write_text('file_name,text,tags\nb.jpg,two,"green, plain"\nc.png,,blue\n')
    (folder / "a.txt").write_text("one")
    assert captions(folder) == ["one", "two, green, plain", "blue"]


def test_absolute_paths_name_pictures(folder):
    lines = [json.dumps({"image_path": str(folder / name), "caption": name}) for name in ("a.png", "more/b.jpg", "more/c.png")]
    (folder / "data.jsonl").write_text("\n".join(lines))
    assert captions(folder) == ["a.png", "more/b.jpg", "more/c.png"]


def test_faults_are_listed_with_a_reason_and_skipped_only_on_request(folder):
    (folder / "metadata.jsonl").write_text(
        '{"file_name": "a.png", "text": "one"}\nnot json\n{"file_name": "gone.png", "text": "x"}\n[]\n'
    )
    (folder / "more" / "b.txt").write_bytes(b"\xff\xfe\xfa")
    (folder / "d.png").write_bytes((folder / "a.png").read_bytes()[:-30])
    (folder / "d.txt").write_text("damaged")
    with pytest.raises(ValueError, match="found 6 that cannot") as raised:
        opened(folder)
    for expected in (
        "metadata.jsonl line 2: it is not JSON",
        "metadata.jsonl: it names 'gone.png', and there is no such picture",
        "metadata.jsonl line 4: expected an object, found list",
        "more/b.txt: it is not UTF-8 text",
        "d.png: it is not a whole picture",
        "more/c.png: it has no caption",
        "give 'skip_faults: true'",
    ):
        assert expected in str(raised.value)
    run = RecordingRun()
    assert len(opened(folder, run, skip_faults=True).pictures) == 1
    assert run.notices[0].startswith("6 files are left out:\n- ")


def test_caption_for_pictures_without_one(folder):
    (folder / "a.txt").write_text("one")
    assert captions(folder, caption="plain") == ["one", "plain", "plain"]


def test_folder_that_is_missing_or_without_pictures(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        find_folder("gone", tmp_path)
    with pytest.raises(ValueError, match=r"expected pictures .* found none"):
        find_folder(".", tmp_path)


def test_pictures_are_upright_squares(folder):
    (folder / "a.png").unlink()
    picture = Image.new("RGB", (16, 8), "red")
    exif = picture.getexif()
    exif[0x0112] = 6  # turned by a quarter
    picture.save(folder / "a.jpg", exif=exif)
    pictures = opened(folder, caption="x").pictures
    assert pictures.pixels(0).shape == (8, 8, 3)
    assert pictures.pixels(0).dtype == np.uint8
    assert pictures.label(1) == "more"


def test_vocabulary_has_each_word_as_one_token():
    vocabulary = json.loads(vocabulary_files(["a cat", "two cats", "café 12"], 16)["vocab.json"])
    assert {"cat</w>", "cats</w>", "two</w>", "<|endoftext|>"} <= set(vocabulary)


def test_pictures_keep_about_their_aspect_ratio_in_buckets(tmp_path):
    """At a side of 512 the sizes are those of kohya's trainers; a picture that lies on its side is turned first."""
    shapes = {"wide": (640, 320), "tall": (300, 700), "square": (200, 200)}
    for name, size in shapes.items():
        Image.new("RGB", size, "red").save(tmp_path / f"{name}.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (640, 320), "red").save(tmp_path / "turned.jpg", exif=exif)
    pictures = image_folder(find_folder(".", tmp_path).value, side=512, buckets=True, caption="x").pictures
    sizes = dict(zip(("square.png", "tall.png", "turned.jpg", "wide.png"), map(pictures.size, range(4)), strict=True))
    assert sizes == {"square.png": (512, 512), "tall.png": (768, 320), "turned.jpg": (704, 320), "wide.png": (320, 704)}
    assert all(pictures.pixels(index).shape == (*pictures.size(index), 3) for index in range(4))
    plain = image_folder(find_folder(".", tmp_path).value, side=512, caption="x").pictures
    assert {plain.size(index) for index in range(4)} == {(512, 512)}


@pytest.mark.parametrize("side", [8, 16, 64, 100, 128, 512, 768, 1024])
def test_buckets_of_any_side_have_about_its_area_and_whole_cells(side, tmp_path):
    for index, size in enumerate([(40, 40), (80, 40), (40, 80), (120, 40)]):
        Image.new("RGB", size).save(tmp_path / f"{index}.png")
    pictures = image_folder(find_folder(".", tmp_path).value, side=side, buckets=True, caption="x").pictures
    sizes = [pictures.size(index) for index in range(4)]
    assert all(part % 8 == 0 and part > 0 for size in sizes for part in size)
    assert all(height * width <= side**2 for height, width in sizes)
    if side >= 64:
        assert all(height * width > 0.6 * side**2 for height, width in sizes)
        assert sizes[1] == sizes[2][::-1] != sizes[0]


def test_class_of_a_drawn_picture():
    scenes = [picture_world(count=8, side=16, things=1).pictures.scene(index) for index in range(8)]
    for classes, expected in {
        "kind": [each.things[0].kind for each in scenes],
        "colour": [each.things[0].colour for each in scenes],
        "place": [each.place for each in scenes],
        "time": [each.time for each in scenes],
    }.items():
        pictures = picture_world(count=8, side=16, things=1, classes=classes).pictures
        assert [pictures.label(index) for index in range(8)] == expected
    assert picture_world(count=1, side=16, things=2).pictures.label(0) is None
