"""The shipped workflows: what they write, what a change recomputes, and how bad input fails."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from nodegraph import Engine, Workflow
from nodegraph.errors import WorkflowError
from nodegraph_nodes.nodes.image import load_image
from nodegraph_nodes.nodes.mask import mask
from tests.support.slow import slow_except
from tests.support.small_model import SIDE, save_single_file, save_small_model
from tests.support.workspace import SIZE, WORKFLOWS

NAMES = ("txt2img", "img2img", "inpaint")
ABOVE_THE_SAMPLER = {"model", "positive", "negative", "latent", "noise", "denoiser"}

SAMPLER = '''
"""A sampler in a file of its own."""

from nodegraph import hookimpl


def sample_leap(denoise, x, sigmas, *, noise, on_step, share: float = 1.0):
    """Leap to what the denoiser sees, a share of the way."""
    for i, sigma in enumerate(sigmas.tolist()[:-1]):
        x = x + (denoise(x, sigma) - x) * share
        on_step(i, x, x)
    return x


@hookimpl
def register_samplers(register):
    register("leap", sample_leap)
'''


def chunks(path):
    """The chunks of a PNG file, (type, data) in order."""
    data, position, found = path.read_bytes(), 8, []
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        found.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += 12 + length
    return found


def picture_bytes(path):
    return [data for kind, data in chunks(path) if kind in (b"IHDR", b"IDAT")]


def keys(ran):
    return {name: node["key"] for name, node in ran.nodes.items()}


# --- outputs and the cache


@pytest.mark.parametrize("name", NAMES)
def test_second_process_computes_nothing_without_torch(workspace, name):
    first = workspace(name)
    path = first.path(workspace.folder)
    assert not first.named("cached")
    seed = Workflow.load(WORKFLOWS / f"{name}.yaml").params["seed"].default
    assert path.name == f"{name}-{seed}.png"
    with Image.open(path) as picture:
        assert picture.size == (SIZE if name != "txt2img" else (SIDE, SIDE))
        assert picture.mode == "RGB"
        text = picture.text["nodegraph"]
    before = picture_bytes(path)
    path.unlink()
    code = (
        "import sys\nfrom nodegraph.cli import main\n"
        f"try:\n    main({workspace.words(name)!r})\nexcept SystemExit as end:\n    status = end.code\n"
        "heavy = {'torch', 'numpy', 'PIL', 'safetensors', 'transformers', 'rich'}\n"
        "print(status, *sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    second = workspace.other_process(code=code)
    assert second.stderr.splitlines()[-1].strip() == "0"
    assert second.named("ran") == set()
    assert keys(second) == keys(first)
    assert second.path(workspace.folder) == path
    assert picture_bytes(path) == before
    with Image.open(path) as picture:
        assert picture.text["nodegraph"] == text


def test_fresh_process_computes_the_same_keys(workspace):
    fresh = workspace.other_process(*workspace.words("inpaint"))
    assert not fresh.named("cached")
    again = workspace("inpaint")
    assert again.named("ran") == set()
    assert keys(again) == keys(fresh)


@pytest.mark.parametrize("name", NAMES)
def test_workflow_from_a_picture_has_the_same_keys(workspace, name):
    first = workspace(name, "seed=random", "prompt=Häuschen 🏠: $x #1", "noise.draw=sequential")
    with Image.open(first.path(workspace.folder)) as picture:
        text = picture.text["nodegraph"]
    workflow = Workflow.parse(text)
    assert workflow.nodes["sampled"].inputs["steps"] == 2
    (workspace.folder / "workflows" / "again.yaml").write_text(text, encoding="utf-8")
    again = workspace("again")
    assert keys(again) == keys(first)
    assert again.named("ran") == set()


def test_shipped_workflows_run_in_python(workspace):
    engine = Engine(cache_dir=None, dtype="float32")
    for name in NAMES:
        workflow = Workflow.load(workspace.folder / "workflows" / f"{name}.yaml")
        result = engine.run(workflow, params={"model": str(workspace.model), "sampled.steps": 2})
        (output,) = workflow.outputs
        width, height = SIZE if name != "txt2img" else (SIDE, SIDE)
        assert result[output].pixels.shape == (1, height, width, 3)
        assert result.outputs == {}


@pytest.mark.parametrize("name", NAMES)
def test_dumped_workflow_is_equivalent(workspace, name):
    workflow = Workflow.load(workspace.folder / "workflows" / f"{name}.yaml")
    again = Workflow.parse(workflow.dump(), base=workflow.base)
    engine = Engine(cache_dir=None)
    params = {"model": str(workspace.model)}
    assert engine.plan(again, params=params).keys == engine.plan(workflow, params=params).keys


def test_pixels_outside_the_mask_are_unchanged(workspace):
    path = workspace("inpaint").path(workspace.folder)
    scene, result = (load_image(file).image.pixels for file in (workspace.examples / "scene.png", path))
    repainted = mask(path=workspace.examples / "mask.png", grow=4, blur=2).values > 0
    assert torch.equal(result[~repainted], scene[~repainted])
    assert not torch.equal(result[repainted], scene[repainted])
    rows, columns = repainted[0].any(dim=1).nonzero()[:, 0], repainted[0].any(dim=0).nonzero()[:, 0]
    reach = 4 + 3 * 2  # what is grown, and three standard deviations
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (12 - reach, 19 + reach, 14 - reach, 21 + reach)


def test_mask_of_another_size_is_resized_with_a_notice(workspace):
    Image.new("L", (86, 74), 255).save(workspace.folder / "large.png")
    ran = workspace("inpaint", "mask=large.png")
    assert ran.status == 0, ran.stderr
    assert "note: the mask is 86x74 and the picture 43x37: the mask is resized" in ran.stderr


def test_long_prompt_is_encoded_in_chunks(workspace):
    ran = workspace("txt2img", "prompt=" + "a red house at night " * 20)
    assert ran.status == 0, ran.stderr
    assert "note: the prompt is longer than the 14 tokens that the model reads at once: it is read in" in ran.stderr
    again = workspace("txt2img", "prompt=" + "a red house at night " * 20)
    assert again.named("ran") == set()


# --- what runs again


def test_new_prompt_reruns_only_dependent_nodes(workspace):
    workspace("img2img")
    ran = workspace("img2img", "prompt=a blue boat").named("ran")
    assert ran == {"model", "positive", "denoiser", "sampled", "result"}


def test_copied_or_touched_weights_are_a_hit(workspace):
    first = workspace("txt2img")
    copied = shutil.copytree(workspace.model, workspace.folder / "elsewhere")
    for file in copied.rglob("*"):
        os.utime(file, (1, 1))
    again = workspace("txt2img", f"model={copied}")
    assert again.named("ran") == set()
    assert keys(again) == keys(first)


def test_other_weights_of_the_same_name_are_a_miss(workspace):
    copied = shutil.copytree(workspace.model, workspace.folder / "model")
    workspace("txt2img", f"model={copied}")
    before = workspace("txt2img", f"model={copied}")
    assert before.named("ran") == set()
    weights = copied / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor * 1.01 for name, tensor in load_file(weights).items()}, weights)
    after = workspace("txt2img", f"model={copied}")
    assert after.named("ran") == set(after.nodes) - {"noise"}  # an empty latent of the same size asks for the same noise
    assert all(keys(after)[name] != key for name, key in keys(before).items())


@pytest.mark.slow
def test_edited_sampler_plugin_runs_again(workspace):
    plugin = workspace.folder / "mine" / "leap.py"
    plugin.parent.mkdir()
    plugin.write_text(SAMPLER, encoding="utf-8")
    settings = {"options": ("--plugin-dir", plugin.parent)}
    first = workspace("txt2img", "sampled.sampler=leap", **settings)
    assert "sampled" in first.named("ran")
    assert workspace("txt2img", "sampled.sampler=leap", **settings).named("ran") == set()
    plugin.write_text(SAMPLER.replace("share: float = 1.0", "share: float = 0.5"), encoding="utf-8")
    edited = workspace.other_process(*workspace.words("txt2img", "sampled.sampler=leap", **settings))
    assert {name for name, key in keys(edited).items() if key == keys(first)[name]} == ABOVE_THE_SAMPLER
    assert edited.named("ran") == {"model", "denoiser", "sampled", "picture"}  # the first two lead to what is not stored
    listed = workspace.other_process("samplers", "leap", "--plugin-dir", str(plugin.parent))
    assert "share  float  default 0.5" in listed.stdout
    shipped = workspace("txt2img", **settings)
    assert keys(workspace("txt2img")) == keys(shipped)  # a workflow that does not use it does not depend on it


def test_error_in_a_plugin_sampler_names_the_plugin(workspace):
    plugin = workspace.folder / "mine" / "leap.py"
    plugin.parent.mkdir()
    plugin.write_text(SAMPLER.replace("* share", "* shares"), encoding="utf-8")
    ran = workspace("txt2img", "sampled.sampler=leap", options=("--plugin-dir", plugin.parent))
    assert ran.status == 1
    assert "node 'sampled' (Sampler) failed: NameError: name 'shares' is not defined" in ran.stderr
    assert f"({plugin}:10). If its inputs are right, this is a mistake in plugin 'leap'" in ran.stderr
    assert workspace.left() == []


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_stops_at_a_step_and_keeps_results(workspace):
    settings = "sampled.sampler=euler", "sampled.schedule=normal"
    command = [sys.executable, "-m", "nodegraph", *workspace.words("txt2img", *settings, steps=1000)]
    process = subprocess.Popen(command, cwd=workspace.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    done = set()
    while done != ABOVE_THE_SAMPLER:
        line = process.stderr.readline()
        assert line
        done |= {line.split()[0]} if " done in " in line else set()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    summary = json.loads(stdout)
    assert summary["status"] == "cancelled"
    assert {name for name, node in summary["nodes"].items() if node["status"] == "ran"} == ABOVE_THE_SAMPLER
    assert workspace.left() == []
    again = workspace("txt2img", *settings)
    assert again.named("cached") >= {"positive", "negative", "noise"}


def test_batch_pictures_equal_single_pictures(workspace):
    engine = Engine(cache_dir=None, dtype="float32")
    workflow = Workflow.load(workspace.folder / "workflows" / "txt2img.yaml")
    params = {"model": str(workspace.model), "sampled.steps": 3, "seed": 7}
    together = engine.run(workflow, params={**params, "batch": 2}, targets=["noise", "picture"])
    single = engine.run(workflow, params={**params, "seed": 8}, targets=["noise", "picture"])
    assert torch.equal(together["noise"].values[1], single["noise"].values[0])
    assert torch.allclose(together["picture"].pixels[1], single["picture"].pixels[0], atol=2e-3)
    assert not torch.allclose(together["picture"].pixels[0], single["picture"].pixels[0], atol=2e-2)


def test_each_picture_of_a_batch_is_a_file(workspace):
    assert workspace("txt2img", "batch=2").status == 0
    assert workspace.left() == ["txt2img-7-0.png", "txt2img-7-1.png"]


def test_strength_0_returns_the_autoencoded_picture(workspace):
    engine = Engine(cache_dir=None, dtype="float32")
    workflow = Workflow.load(workspace.folder / "workflows" / "img2img.yaml")
    result = engine.run(workflow, params={"model": str(workspace.model), "strength": 0}, targets=["latent", "sampled"])
    assert torch.equal(result["sampled"].samples, result["latent"].samples)


def test_model_is_described_without_reading_weights(workspace):
    ran = workspace.other_process("models", str(workspace.model))
    assert "Stable Diffusion 1.x, as model_index.json (StableDiffusionPipeline) and the configs say" in ran.stdout
    assert ran.status == 0, ran.stderr
    assert "diffusers layout" in ran.stdout
    assert f"{SIDE}x{SIDE}" in ran.stdout


def test_model_can_be_a_folder(workspace):
    other = save_small_model(workspace.folder / "other", salt="other")
    first = workspace("txt2img").path(workspace.folder)
    before = picture_bytes(first)
    assert picture_bytes(workspace("txt2img", f"model={other}").path(workspace.folder)) != before


def test_model_can_be_a_single_file(workspace):
    save_single_file(workspace.folder / "single.safetensors")
    ran = workspace("inpaint", "model=single.safetensors", "prompt=a lighthouse (at dawn:1.2)")
    with Image.open(ran.path(workspace.folder)) as picture:
        assert picture.size == SIZE
        assert "single.safetensors" in picture.text["nodegraph"]
    assert workspace("inpaint", "model=single.safetensors", "prompt=a lighthouse (at dawn:1.2)").named("ran") == set()


# --- bad input


def assert_refused(workspace, ran, *parts, status):
    """Check that a run ended with `status` and this message, without a traceback or written files."""
    assert ran.status == status, ran.stderr
    for part in parts:
        assert part in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "unexpected" not in ran.stderr
    assert "mistake in" not in ran.stderr
    assert workspace.left() == []


@pytest.mark.parametrize("name", ["img2img", "inpaint"])
def test_missing_picture_is_an_error(workspace, name):
    assert_refused(
        workspace,
        workspace(name, "image=nowhere.png"),
        "--set image",
        "there is no file",
        "nowhere.png",
        "Check the path",
        status=2,
    )


def test_missing_mask_is_an_error(workspace):
    (workspace.examples / "mask.png").unlink()
    assert_refused(workspace, workspace("inpaint"), "inpaint.yaml:9:", "there is no file", "mask.png", "Check the path", status=2)


@pytest.mark.parametrize("what", ["image", "mask"])
def test_file_that_is_not_a_picture_is_an_error(workspace, what):
    (workspace.folder / "text.png").write_text("no picture")
    assert_refused(
        workspace, workspace("inpaint", f"{what}=text.png"), "text.png is not a picture that can be read. Give a PNG", status=1
    )


def test_folder_instead_of_a_picture_is_an_error(workspace):
    assert_refused(workspace, workspace("inpaint", "image=workflows"), "workflows is not a file", "Check the path", status=2)


@pytest.mark.parametrize("what", ["image", "mask"])
def test_truncated_picture_is_an_error(workspace, what):
    whole = (workspace.examples / "scene.png").read_bytes()
    (workspace.folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    assert_refused(workspace, workspace("inpaint", f"{what}=cut.png"), "cut.png cannot be read", "Copy or save it again", status=1)


@pytest.mark.parametrize(
    ("sampler", "message"),
    [("euller", "Did you mean 'euler'?"), ("dpmpp_2n", "Did you mean 'dpmpp_2m'?"), ("xyz", "'nodegraph samplers' lists them")],
)
def test_unknown_sampler_is_an_error(workspace, sampler, message):
    assert_refused(workspace, workspace("txt2img", f"sampled.sampler={sampler}"), f"'{sampler}'", "sampler", message, status=2)


@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint", b"\x80\x04K\x01.", b"\x02\0\0\0\0\0\0\0{}", b"\x08\0\0\0\0\0\0\0{}      "]
)
def test_file_that_is_not_a_checkpoint_is_an_error(workspace, content):
    (workspace.folder / "other.safetensors").write_bytes(content)
    ran = workspace("txt2img", "model=other.safetensors")
    assert_refused(workspace, ran, "--set model", "other.safetensors: expected", "found", status=2)


def test_folder_that_is_not_a_model_is_an_error(workspace):
    assert_refused(
        workspace, workspace("txt2img", "model=workflows"), "expected a folder with model_index.json, found none", status=2
    )


@pytest.mark.parametrize("model", ["nowhere.safetensors", "~unknown-user-name/model", "a" * 300, "builtin:tyni", ""])
def test_missing_checkpoint_is_an_error(workspace, model):
    assert_refused(workspace, workspace("txt2img", f"model={model}"), "--set model", status=2)


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_truncated_checkpoint_is_an_error(workspace, part):
    copied = shutil.copytree(workspace.model, workspace.folder / "model")
    weights = copied / part / "diffusion_pytorch_model.safetensors"
    with weights.open("r+b") as file:
        file.truncate(weights.stat().st_size // 2)
    assert_refused(
        workspace, workspace("txt2img", f"model={copied}"), part, "truncated", "Download or copy the file again", status=2
    )


def test_checkpoint_without_a_tensor_is_an_error(workspace):
    copied = shutil.copytree(workspace.model, workspace.folder / "model")
    weights = copied / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor for name, tensor in load_file(weights).items() if name != "conv_in.bias"}, weights)
    assert_refused(workspace, workspace("txt2img", f"model={copied}"), "'model' of node 'model'", "1 missing", status=2)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("promt=x", "Did you mean 'prompt'?"),
        ("sampled.stepps=3", "Did you mean 'steps'?"),
        ("smapled.steps=3", "sampled.steps"),
        ("sampled.steps=many", "expected a whole number, found 'many'"),
        ("sampled.steps=0", "found 0"),
        ("seed=-1", "found -1"),
        ("batch=0", "found 0"),
        ("sampled.strength=1.5", "found 1.5"),
        ("sampled.options={etta: 1}", "etta"),
        ("noise.draw=squential", "Did you mean 'sequential'?"),
        ("latent.width=7", "found 7"),
        ("sampled.latent=x", "--set sampled.latent"),
    ],
)
def test_wrong_setting_is_an_error(workspace, setting, message):
    assert_refused(workspace, workspace("txt2img", setting), message, status=2)


@pytest.mark.parametrize("out", ["taken", "taken/here"])
def test_unwritable_output_folder_fails_before_the_run(workspace, out):
    (workspace.folder / "taken").write_text("a file")
    ran = workspace("txt2img", options=("--out", out))
    assert_refused(workspace, ran, "cannot write", "taken", "--out", status=1)
    assert "done in" not in ran.stderr


def test_picture_must_fit_its_original(workspace):
    text = (workspace.folder / "workflows" / "inpaint.yaml").read_text()
    text = text.replace("vae: $model.vae, image: $picture.image", "vae: $model.vae, image: $small.image")
    text = text.replace("nodes:\n", "nodes:\n  small: {use: LoadImage, path: ../small.png}\n")
    Image.new("RGB", (16, 24)).save(workspace.folder / "small.png")
    (workspace.folder / "workflows" / "mixed.yaml").write_text(text)
    assert_refused(
        workspace,
        workspace("mixed"),
        "'result' (Composite) failed: expected two pictures of one size, found 16x24 and 43x37",
        status=1,
    )


def test_unknown_placeholder_is_an_error(workspace):
    text = (workspace.folder / "workflows" / "inpaint.yaml").read_text()
    (workspace.folder / "workflows" / "typo.yaml").write_text(text.replace("{seed}", "{sede}"))
    assert_refused(
        workspace, workspace("typo"), "typo.yaml:33:", "there is no placeholder {sede}", "Did you mean 'seed'?", status=2
    )


@pytest.mark.parametrize("option", [("--device", "quantum"), ("--device", "cuda:77"), ("--dtype", "float7")])
def test_unknown_device_or_dtype_is_an_error(workspace, option):
    assert_refused(workspace, workspace("txt2img", options=option), option[1], "expected a", status=2)


def words_of(text):
    """The words of a workflow's structure, (position, word): all but values of params, templates, and names of outputs."""
    section = ""
    for line in re.finditer(r".+", text):
        section = line[0].split(":")[0] if not line[0].startswith(" ") else section
        written = (
            line[0].partition(":")[0] if section in ("description", "params", "nodegraph") else line[0].partition("{workflow}")[0]
        )
        for word in re.finditer(r"[A-Za-z_]\w*", written):
            if section != "outputs" or word.start() != 2:
                yield line.start() + word.start(), word[0]


@pytest.mark.parametrize("name", slow_except(["inpaint"], NAMES))
def test_typos_are_reported_with_their_location(workspace, name):
    text = (workspace.folder / "workflows" / f"{name}.yaml").read_text()
    engine = Engine(cache_dir=None)

    def complaint(text):
        try:
            workflow = Workflow.parse(text, file="typo.yaml", base=workspace.folder / "workflows")
            engine.check(workflow, params={"model": str(workspace.model)})
        except WorkflowError as error:
            return str(error)
        return ""

    assert not complaint(text)
    for position, word in words_of(text):
        typo = f"{word[:-1]}q{word[-1]}"
        mistyped = text[:position] + typo + text[position + len(word) :]
        message = complaint(mistyped)
        line = mistyped[:position].count("\n") + 1
        assert f"typo.yaml:{line}:" in message or f"'{word}" in message, (typo, message)
