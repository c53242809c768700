"""The node pack from the command line, with a small model of made-up weights: workflows, sampler plugins, bad input."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from nodegraph import Workflow
from nodegraph_diffusion.checkpoint import save_diffusers
from nodegraph_diffusion.schedule import NoiseSchedule
from tests.diffusion import small

WORKFLOWS = Path(__file__).parents[2] / "workflows"

SAMPLER = '''
"""A sampler in a file of its own."""

from nodegraph import hookimpl


def sample_leap(denoise, x, sigmas, *, noise, on_step, share: float = 1.0):
    """Leap to what the denoiser sees, a share of the way."""
    for i, sigma in enumerate(sigmas.tolist()[:-1]):
        denoised = denoise(x, sigma)
        x = x + (denoised - x) * share
        on_step(i, x, denoised)
    return x


@hookimpl
def register_samplers(register):
    register("leap", sample_leap)
'''


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A diffusers folder of networks that run in milliseconds."""
    folder = tmp_path_factory.mktemp("model")
    networks = small.our_unet(), small.our_vae(), small.our_text_encoder()
    tokenizer = small.write_tokenizer(folder / "vocabulary")
    save_diffusers(folder / "model", *networks, NoiseSchedule(), tokenizer, sample_size=32, dtype=torch.float32)
    return folder / "model"


@pytest.fixture
def shipped(cli, model):
    """The shipped workflows, with pictures of their own beside them; gives the words that run one with the small model."""
    shutil.copytree(WORKFLOWS, cli.folder / "workflows", ignore=shutil.ignore_patterns("examples"))
    examples = cli.folder / "workflows" / "examples"
    examples.mkdir()
    Image.effect_mandelbrot((48, 40), (-2, -1, 1, 1), 20).convert("RGB").save(examples / "scene.png")
    shutil.copy(examples / "scene.png", examples / "castle.png")
    mask = Image.new("L", (48, 40))
    mask.paste(255, (16, 12, 32, 28))
    mask.save(examples / "mask.png")

    def words(name, *args, steps=2):
        return ("run", f"workflows/{name}.yaml", "--set", f"model={model}", "--set", f"sampled.steps={steps}", *args)

    return words


def picture(cli, ran):
    assert ran.exit_code == 0, ran.stderr
    return Image.open(cli.folder / ran.stdout.strip())


@pytest.mark.parametrize(("name", "size"), [("txt2img", (32, 32)), ("img2img", (48, 40)), ("inpaint", (48, 40))])
def test_the_shipped_workflows_run(cli, shipped, name, size, nodes_of):
    ran = cli(*shipped(name))
    with picture(cli, ran) as image:
        assert image.size == size
        assert image.mode == "RGB"
        kept = Workflow.parse(str(image.text["nodegraph"]))
    assert kept.nodes["sampled"].inputs["steps"] == 2
    states = nodes_of(cli(*shipped(name, "--json")))
    assert set(states.values()) == {"cached", "pruned"}


def test_what_is_outside_the_mask_stays_to_the_last_bit(cli, shipped):
    with picture(cli, cli(*shipped("inpaint"))) as result, Image.open(cli.folder / "workflows/examples/scene.png") as scene:
        border = (0, 0, 48, 3)
        assert result.crop(border).tobytes() == scene.crop(border).tobytes()
        inside = (20, 16, 28, 24)
        assert result.crop(inside).tobytes() != scene.crop(inside).tobytes()


def test_a_cached_run_in_another_process_imports_no_torch(cli, shipped):
    picture(cli, cli(*shipped("inpaint"))).close()
    code = (
        "import sys\nfrom nodegraph.cli import main\n"
        f"try:\n    main({list(shipped('inpaint'))!r})\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print(*sorted({'torch', 'numpy', 'rich', 'safetensors', 'transformers'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **cli.env},
        cwd=cli.folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == ""


def test_a_sampler_in_a_folder_of_its_own_and_an_edit_of_it(cli, shipped, nodes_of):
    folder = cli.folder / "mine"
    folder.mkdir()
    plugin = folder / "leap.py"
    plugin.write_text(SAMPLER, encoding="utf-8")
    words = shipped("txt2img", "--plugin-dir", folder, "--set", "sampled.sampler=leap", "--json")
    first = nodes_of(cli.elsewhere(*words))
    assert first["sampled"] == "ran"
    assert "ran" not in nodes_of(cli.elsewhere(*words)).values()
    plugin.write_text(SAMPLER.replace("share: float = 1.0", "share: float = 0.5"), encoding="utf-8")
    edited = nodes_of(cli.elsewhere(*words))
    assert {name for name, state in edited.items() if state == "ran"} == {"model", "denoiser", "sampled", "picture"}
    assert "share = 0.5" in cli("samplers", "leap", "--plugin-dir", folder).stdout


def test_samplers_and_schedules_are_listed_with_their_plugin(cli):
    samplers = {line.split()[0]: line.split()[-1] for line in cli("samplers").stdout.splitlines()}
    assert set(samplers) == {"ddim", "ddpm", "dpmpp_2m", "euler", "euler_ancestral", "heun"}
    assert set(samplers.values()) == {"nodegraph_nodes"}
    schedules = cli("schedules").stdout.splitlines()
    assert [line.split()[0] for line in schedules] == ["karras", "normal", "simple"]
    assert "rho = 7.0" in cli("schedules", "karras").stdout


def test_a_model_is_described_without_reading_its_weights(cli, model):
    ran = cli("models", model)
    assert ran.exit_code == 0, ran.stderr
    assert "diffusers layout" in ran.stdout
    assert "32x32" in ran.stdout


# --- bad input


def assert_refused(cli, ran, *said, status=2):
    assert ran.exit_code == status, ran.stderr
    for part in said:
        assert part in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "unexpected" not in ran.stderr
    assert not list(cli.folder.glob("out/*"))


def test_a_picture_that_is_not_there(cli, shipped):
    assert_refused(cli, cli(*shipped("inpaint", "--set", "image=nowhere.png")), "nowhere.png", "--set image")


def test_a_picture_that_is_none(cli, shipped):
    (cli.folder / "text.png").write_text("no picture")
    assert_refused(cli, cli(*shipped("inpaint", "--set", "image=text.png")), "text.png", status=1)


def test_a_mask_of_another_size_is_resized_with_a_notice(cli, shipped):
    Image.new("L", (24, 20), 255).save(cli.folder / "small.png")
    ran = cli(*shipped("inpaint", "--set", "mask=small.png"))
    picture(cli, ran).close()
    assert "note:" in ran.stderr
    assert "24x20" in ran.stderr
    assert "48x40" in ran.stderr


def test_a_prompt_that_is_longer_than_the_model_takes(cli, shipped):
    picture(cli, cli(*shipped("txt2img", "--set", "prompt=" + "a tall tower by the sea, " * 30))).close()


@pytest.mark.parametrize("sampler", ["dpmpp_2n", "nonsense"])
def test_an_unknown_sampler(cli, shipped, sampler):
    assert_refused(cli, cli(*shipped("txt2img", "--set", f"sampled.sampler={sampler}")), sampler, "samplers")


def test_an_option_that_a_sampler_does_not_have(cli, shipped):
    words = shipped("txt2img", "--set", "sampled.sampler=euler", "--set", "sampled.options={etaa: 1}")
    assert_refused(cli, cli(*words), "etaa")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_checkpoint_that_is_none(cli, shipped, content):
    path = cli.folder / "other.safetensors"
    path.write_bytes(content)
    assert_refused(cli, cli(*shipped("txt2img", "--set", f"model={path}")), "other.safetensors")


def test_a_checkpoint_that_is_not_there(cli, shipped):
    assert_refused(cli, cli(*shipped("txt2img", "--set", "model=nowhere.safetensors")), "nowhere.safetensors")


def test_a_truncated_checkpoint(cli, shipped, model):
    copy = cli.folder / "truncated"
    shutil.copytree(model, copy)
    weights = next((copy / "unet").glob("*.safetensors"))
    with weights.open("r+b") as file:
        file.truncate(weights.stat().st_size // 2)
    assert_refused(cli, cli(*shipped("txt2img", "--set", f"model={copy}")), "truncated")


def test_an_output_folder_that_cannot_be_written_is_told_before_anything_runs(cli, shipped):
    (cli.folder / "taken").write_text("a file")
    ran = cli(*shipped("txt2img", "--out", "taken"))
    assert_refused(cli, ran, "taken", status=1)
    assert "sampled" not in ran.stderr


@pytest.mark.parametrize(("option", "value"), [("--device", "quantum"), ("--dtype", "float7")])
def test_a_device_or_dtype_that_is_none(cli, shipped, option, value):
    assert_refused(cli, cli(*shipped("txt2img", option, value)), value)
