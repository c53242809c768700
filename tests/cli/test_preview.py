"""`nodegraph run --preview`: preview files while nodes run, at no cost without the option."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from nodegraph.cli import previews
from nodegraph.cli.previews import PreviewFiles
from nodegraph.plugins.codecs import Codecs
from nodegraph.run import events
from nodegraph_diffusion.networks.config import TAESDConfig
from nodegraph_diffusion.networks.taesd import TAESD
from tests.support import synthetic_checkpoints as synthetic
from tests.support.imported_modules import imported_by
from tests.support.small_model import save_small_model

TXT2IMG = Path(__file__).parent.parent.parent / "workflows" / "txt2img.yaml"

SKETCHES = """
nodegraph: 1
nodes:
  sketch: {use: Sketch, kind: KIND}
outputs: {sketch: {from: $sketch}}
"""

PLUGIN = '''
from nodegraph import Run, hookimpl, node


@node("Sketch")
def sketch(kind: str, run: Run = Run()) -> str:
    """Takes three steps, and offers to look at each."""
    def preview():
        if kind == "raises":
            raise RuntimeError("no pencil")
        return {"text": "a line", "object": object()}[kind]

    for i in range(3):
        run.step(i + 1, 3, preview)
    return kind


@hookimpl
def register_nodes(register):
    register(sketch)
'''


@pytest.fixture
def paint(cli):
    """Run txt2img with few steps."""

    def run(*args, process: bool = False):
        call = cli.other_process if process else cli
        return call("run", TXT2IMG, "--set", "sampled.steps=4", "--out", "out", *args)

    return run


@pytest.fixture
def sketch(cli):
    """Run a node that offers a preview."""
    folder = cli.folder / "plugins"
    folder.mkdir()
    (folder / "sketching.py").write_text(PLUGIN)

    def run(kind: str, *args):
        return cli("run", cli.write(SKETCHES.replace("KIND", kind), "sketches.yaml"), "--plugin-dir", folder, *args)

    return run


def pixels(path: Path | str) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), dtype=np.float64)


def write_decoder(path: Path) -> Path:
    network = TAESD(TAESDConfig())
    synthetic.fill(network)
    save_file(network.state_dict(), path)
    return path


def test_preview_shows_the_current_picture(paint, cli):
    ran = paint("--preview", "seen/here")
    assert ran.exit_code == 0, ran.stderr
    files = [path.name for path in (cli.folder / "seen/here").iterdir()]
    assert files == ["txt2img-sampled.png"]  # and no partial file beside it
    path = Path("seen/here/txt2img-sampled.png")
    assert ran.stderr.count(f"sampled   note: its preview is {path}") == 1
    preview, picture = pixels(path), pixels(ran.stdout.strip())
    assert preview.shape == picture.shape == (64, 64, 3)
    assert np.corrcoef(preview.ravel(), picture.ravel())[0, 1] > 0.9


def test_batch_preview_is_one_picture(paint):
    assert paint("--preview", "seen", "--set", "batch=3").exit_code == 0
    assert pixels("seen/txt2img-sampled.png").shape == (128, 128, 3)


@pytest.mark.slow
def test_previews_change_no_key(paint, cli):
    keys = []
    for folder in ("seen", "again"):
        ran = paint("--json", "--preview", folder, process=folder == "again")
        assert ran.exit_code == 0, ran.stderr
        nodes = json.loads(ran.stdout)["nodes"]
        keys.append({name: node["key"] for name, node in nodes.items() if name in ("sampled", "picture")})
    assert keys[0]["picture"] == keys[1]["picture"]
    assert nodes["picture"]["status"] == "cached"
    assert (cli.folder / "seen/txt2img-sampled.png").exists()
    assert not list((cli.folder / "again").iterdir())
    assert "preview" not in ran.stderr
    unseen = paint("--json", "--no-cache")
    assert json.loads(unseen.stdout)["nodes"]["picture"]["key"] == keys[0]["picture"]


def test_cached_run_with_previews_imports_no_torch(paint, cli):
    decoder = write_decoder(cli.folder / "taesd_decoder.safetensors")
    assert paint().exit_code == 0
    looking = ("--preview", "seen", "--preview-decoder", decoder)
    found = imported_by(cli, ["run", TXT2IMG, "--set", "sampled.steps=4", *looking])
    assert set().union(*found.values()) <= {"networkx"}, found


def test_quiet_run_writes_previews(paint, cli):
    ran = paint("-q", "--preview", "seen")
    assert ran.stderr == ""
    assert (cli.folder / "seen/txt2img-sampled.png").exists()


def test_decoder_makes_previews_sharper(cli, paint):
    model = save_small_model(cli.folder / "small")
    decoder = write_decoder(cli.folder / "taesd_decoder.safetensors")
    size = ("--set", f"model={model}", "--set", "latent.width=48", "--set", "latent.height=40")
    for folder, more in (("plain", ()), ("sharp", ("--preview-decoder", decoder))):
        ran = paint(*size, "--no-cache", "--preview", folder, *more)
        assert ran.exit_code == 0, ran.stderr
        assert "not used" not in ran.stderr
    plain, sharp = (pixels(f"{folder}/txt2img-sampled.png") for folder in ("plain", "sharp"))
    assert plain.shape == sharp.shape == (40, 48, 3)
    assert not np.array_equal(plain, sharp)


def test_decoder_for_other_latents_warns_once(cli, paint):
    decoder = write_decoder(cli.folder / "taesd_decoder.safetensors")
    assert paint("--no-cache", "--preview", "plain").exit_code == 0
    ran = paint("--no-cache", "--preview", "seen", "--preview-decoder", decoder)
    assert ran.exit_code == 0
    assert ran.stderr.count("note: the preview decoder is not used: ") == 1
    assert f"{decoder} decodes latents of Stable Diffusion 1 and 2, and these are of builtin:tiny" in ran.stderr
    assert np.array_equal(pixels("seen/txt2img-sampled.png"), pixels("plain/txt2img-sampled.png"))


def test_broken_decoder_fails_before_the_run(cli, sketch):
    broken = write_decoder(cli.folder / "taesd_decoder.safetensors")
    broken.write_bytes(broken.read_bytes()[:-1])
    ran = sketch("text", "--preview", "seen", "--preview-decoder", broken)
    assert ran.exit_code == 2
    assert ran.stderr.startswith("[E401] the preview decoder cannot be used: ")
    assert "truncated" in ran.stderr
    assert not (cli.folder / "out").exists()
    from_environment = cli("run", cli.folder / "sketches.yaml", "--preview", "seen", env={"NODEGRAPH_PREVIEW_DECODER": "~/gone"})
    assert from_environment.exit_code == 2
    assert f"{Path.home() / 'gone'}: expected a .safetensors file or a diffusers folder" in from_environment.stderr


def test_previews_are_made_only_on_request(sketch, cli):
    ran = sketch("raises")
    assert ran.exit_code == 0
    assert "pencil" not in ran.stderr


@pytest.mark.parametrize(
    ("kind", "message"), [("raises", "no preview: no pencil"), ("object", "no preview: object cannot be written to a file")]
)
def test_failing_preview_warns_once(sketch, cli, kind, message):
    ran = sketch(kind, "--preview", "seen")
    assert ran.exit_code == 0
    assert ran.stderr.count(message) == 1
    assert not list((cli.folder / "seen").iterdir())


def test_any_value_with_a_codec_can_be_previewed(sketch, cli):
    assert sketch("text", "--preview", "seen").exit_code == 0
    assert json.loads((cli.folder / "seen/sketches-sketch.json").read_text()) == "a line"


def test_unwritable_preview_folder_fails_before_the_run(sketch, cli):
    (cli.folder / "taken").write_text("")
    ran = sketch("text", "--preview", "taken")
    assert ran.exit_code == 1
    assert ran.stderr.startswith("[E211] cannot write to taken: ")
    assert not (cli.folder / "out").exists()


# --- how often


class Clock:
    """A clock that moves only when a test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(previews, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("step_seconds", "cost", "expected"),
    [
        (0.01, 0.0, [1, 51, 100]),  # twice a second, and the last
        (1.0, 0.0, [*range(1, 101)]),
        (0.1, 1.0, [1, 41, 81, 100]),  # the run gets four times the time of its preview
    ],
)
def test_previews_are_rate_limited(tmp_path, clock, step_seconds, cost, expected):
    messages, shown = [], []
    listener = PreviewFiles(tmp_path, Codecs(), messages.append)
    listener(events.NodeStarted("node"))
    for step in range(1, 101):

        def preview(step: int = step) -> int:
            shown.append(step)
            clock.now += cost
            return step

        listener(events.NodeProgress("node", step, 100, preview))
        clock.now += step_seconds * 1.0001
    assert shown == expected
    assert len(messages) == 1
    assert (tmp_path / "_-node.json").read_text().strip() == "100"


def test_preview_rate_is_limited_per_node(tmp_path, clock):
    shown = []
    listener = PreviewFiles(tmp_path, Codecs(), lambda event: None)
    for node in ("a", "b", "a", "b"):
        listener(events.NodeProgress(node, 1, 9, lambda node=node: shown.append(node)))
    assert shown == ["a", "b"]
    listener(events.NodeStarted("a"))
    listener(events.NodeProgress("a", 1, 9, lambda: shown.append("a")))
    assert shown == ["a", "b", "a"]
