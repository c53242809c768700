"""A picture that workflows of many levels made holds all of them, and is made again from itself alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft7Validator
from PIL import Image as pillow

from nodegraph.cli import main
from nodegraph.plugins.manager import load_plugins
from nodegraph.workflow.editors.json_schema import workflow_schema
from nodegraph_nodes.pictures.texts import text_chunks

LEVELS = 300


def level(use: str, output: str) -> str:
    return f"""nodegraph: 1
params: {{image: {{type: Image}}, width: 8}}
nodes: {{next: {{use: {use}, image: $params.image, width: $params.width}}}}
outputs: {{picture: {{from: $next{output}}}}}
"""


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    """A workflow of files that use each other, the last of which enlarges a picture."""
    monkeypatch.chdir(tmp_path)
    pillow.new("RGB", (2, 4), "red").save("red.png")
    folder = tmp_path / "levels"
    folder.mkdir()
    for i in range(1, LEVELS):
        (folder / f"{i}.yaml").write_text(level(f"./{i + 1}.yaml", ".picture"))
    (folder / f"{LEVELS}.yaml").write_text(level("Resize, height: 16", ""))
    start = (
        level("./levels/1.yaml", ".picture")
        .replace("{type: Image}", "{type: path, default: red.png}")
        .replace("width: 8", "width: 6")
    )
    main_file = tmp_path / "deep.yaml"
    main_file.write_text(
        start.replace("nodes: {", "nodes: {first: {use: LoadImage, path: $params.image}, ").replace(
            "image: $params.image", "image: $first.image"
        )
    )
    return main_file


def nodegraph(*words: object) -> str:
    ran = CliRunner().invoke(main, [*map(str, words)], env={"NODEGRAPH_CACHE_DIR": "cache"})
    assert ran.exit_code == 0, ran.output
    return ran.stdout


@pytest.mark.slow
def test_picture_of_three_hundred_levels_is_whole(file: Path) -> None:
    schema = Draft7Validator(workflow_schema(load_plugins(with_code=False)))
    for path in (file, *sorted(Path("levels").iterdir())[:3]):
        schema.validate(yaml.safe_load(path.read_text()))
    (made,) = nodegraph("run", file, "-q").split()
    with pillow.open(made) as picture:
        assert (picture.size, picture.getpixel((3, 3))) == ((6, 16), (255, 0, 0))
    text = text_chunks(Path(made).read_bytes())["nodegraph"]
    shutil.rmtree("levels")
    file.unlink()
    document = yaml.safe_load(text)
    schema.validate(document)
    assert len(document["workflows"]) == LEVELS
    assert json.loads(nodegraph("show", made, "--json"))["workflow"] == text
    before = Path(made).read_bytes()
    assert nodegraph("run", made, "-q", "--no-cache", "--out", "again").split() == [f"again/{Path(made).name}"]
    assert pillow.open(f"again/{Path(made).name}").tobytes() == pillow.open(made).tobytes()
    assert Path(made).read_bytes() == before
    varied = nodegraph("run", made, "-q", "--set", "width=5", "--out", "varied").strip()
    with pillow.open(varied) as picture:
        assert picture.size == (5, 16)
