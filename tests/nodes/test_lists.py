"""LoadImages, LoadTable and FromList."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image as pillow

from nodegraph import Engine, Workflow, WorkflowError
from nodegraph_nodes.nodes.lists import find_pictures, from_list, load_images, load_table


@pytest.fixture
def folder(tmp_path):
    for name, red in {"b10.png": 10, "b2.png": 2, "A.PNG": 1, "deep/c.png": 3}.items():
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pillow.new("RGBA", (2, 1), (red, 0, 0, 255 - red)).save(path)
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    return tmp_path / "pictures"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("pictures", ["A", "b2", "b10"]),
        ("pictures/b*.png", ["b2", "b10"]),
        ("pictures/**/*.png", ["b2", "b10", "deep/c"]),
        ("pictures/?2.png", ["b2"]),
        ("p*/*.png", ["pictures/b2", "pictures/b10"]),
    ],
)
def test_a_folder_or_a_pattern_is_a_sorted_list(folder, text, names):
    loaded = load_images(find_pictures(text, folder.parent).value)
    assert loaded.names == names
    reds = {"A": 1, "b2": 2, "b10": 10, "c": 3}
    assert [round(float(image.pixels[0, 0, 0, 0]) * 255) for image in loaded.images] == [reds[Path(name).name] for name in names]
    assert all(torch.allclose(mask.values, image.pixels[..., 0]) for mask, image in zip(loaded.masks, loaded.images, strict=True))


@pytest.mark.parametrize(
    ("text", "message"), [("gone", "there is no folder"), ("p*/*.jpg", "no file matches"), ("empty", "no picture")]
)
def test_nothing_to_read_is_found_before_a_run(folder, text, message):
    (folder.parent / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=message):
        find_pictures(text, folder.parent)
    workflow = Workflow("list")
    workflow.output("all", workflow.add("Grid", images=workflow.add("LoadImages", path=folder.parent / text).images))
    with pytest.raises(WorkflowError, match=message):
        Engine(None).check(workflow)


def test_lists_go_into_nodes_and_the_cache_follows_the_files(folder, tmp_path):
    workflow = Workflow("list")
    loaded = workflow.add("LoadImages", path=folder)
    workflow.output("all", workflow.add("Grid", images=loaded.images, gap=0))
    with Engine(tmp_path / "cache") as engine:

        def width():
            (path,) = engine.run(workflow, out=tmp_path / "out", overwrite=True).outputs["all"]
            with pillow.open(path) as picture:
                return picture.width

        assert width() == 6
        assert not engine.run(workflow, out=tmp_path / "out").ran
        (folder / "deep" / "c.png").rename(folder / "c.png")
        assert width() == 8
        before = (tmp_path / "out" / "list-all.png").read_bytes()
        pillow.new("RGB", (2, 1), (0, 99, 0)).save(folder / "b2.png")
        assert width() == 8
        assert (tmp_path / "out" / "list-all.png").read_bytes() != before


def test_a_new_name_is_a_new_list(folder, tmp_path):
    workflow = Workflow("list")
    workflow.output("names", workflow.add("LoadImages", path=folder).names)
    with Engine(tmp_path / "cache") as engine:
        first = engine.run(workflow, out=tmp_path / "out").outputs["names"]
        before = [file.read_text() for file in first]
        (folder / "A.PNG").rename(folder / "z.png")
        second = engine.run(workflow, out=tmp_path / "out").outputs["names"]
    assert any("A" in text for text in before)
    assert not any("A" in file.read_text() for file in second)
    assert any("z" in file.read_text() for file in second)


def test_one_item_feeds_other_nodes(folder, tmp_path):
    (tmp_path / "scenes.csv").write_text("prompt,seed\na red house,7\na tree,8\n")
    workflow = Workflow("item")
    table = workflow.add("LoadTable", path=tmp_path / "scenes.csv")
    images = workflow.add("LoadImages", path=folder)
    text = workflow.add("FromList", items=table.rows, index=-1, key="prompt")
    picture = workflow.add("FromList", items=images.images, index=1)
    workflow.output("labelled", workflow.add("Label", image=workflow.add("Resize", image=picture, width=64), text=text))
    with Engine(None) as engine:
        assert engine.run(workflow, out=tmp_path / "out").outputs["labelled"][0].is_file()


@pytest.mark.parametrize(
    "content",
    [
        'name,text\na,"x, y"\nb,"two\nlines"\n',
        '\ufeffname;text\r\na;"x, y"\r\nb;"two\nlines"\r\n',
        'name\ttext\na\t"x, y"\nb\t"two\nlines"\n\n',
        '{"name": "a", "text": "x, y"}\n\n{"name": "b", "text": "two\\nlines"}\n',
    ],
)
def test_tables_are_lists(tmp_path, content):
    (tmp_path / "t").write_text(content, encoding="utf-8", newline="")
    table = load_table(tmp_path / "t", column="text")
    assert table.values == ["x, y", "two\nlines"]
    assert table.columns == ["name", "text"]
    assert table.rows == [{"name": "a", "text": "x, y"}, {"name": "b", "text": "two\nlines"}]
    assert load_table(tmp_path / "t").values == ["a", "b"]


def test_json_lines_keep_their_types(tmp_path):
    (tmp_path / "t").write_text('{"seed": 7, "tags": ["a"]}\n{"cfg": 2.5}\n')
    table = load_table(tmp_path / "t", column="seed")
    assert table.values == [7, None]
    assert table.columns == ["seed", "tags", "cfg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found an empty file"),
        (b"a,b\n1\n", "line 2: expected 2 values, found 1"),
        (b"a,a\n1,2\n", "found one twice"),
        (b'a,b\n"1,2\n', "line 2"),
        (b'{"a": 1}\n{"a"\n', "line 2"),
        (b'{"a": 1}\n[1]\n', "line 2: expected a mapping, found list"),
        (b"\xff\xfe\x00", "is not a table"),
    ],
)
def test_damaged_tables_are_errors_with_their_line(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_table(tmp_path / "t.csv")


def test_an_unknown_column_is_an_error(tmp_path):
    (tmp_path / "t.csv").write_text("prompt,seed\na,1\n")
    with pytest.raises(ValueError, match=r"found 'promt'. Did you mean 'prompt'"):
        load_table(tmp_path / "t.csv", column="promt")


def test_items_of_a_list():
    assert from_list(["a", "b", "c"], 1) == "b"
    assert from_list(["a", "b", "c"], -3) == "a"
    assert from_list([{"x": 5}], key="x") == 5
    for index in (3, -4):
        with pytest.raises(ValueError, match=f"expected an item of a list of 3, counted from 0, found {index}"):
            from_list(["a", "b", "c"], index)
    with pytest.raises(ValueError, match="expected a mapping with 'y', found x"):
        from_list([{"x": 5}], key="y")
    with pytest.raises(ValueError, match="expected a mapping with 'y', found int"):
        from_list([5], key="y")
