"""A picture is made again from the workflow in it, and shows how it was made, also if another program made it."""

from __future__ import annotations

import json
import re
import shutil
import struct
import zlib

import pytest
from click.testing import CliRunner
from PIL import Image as pillow
from PIL.PngImagePlugin import PngInfo

from nodegraph.cli import main
from nodegraph_nodes.pictures.foreign import describe_picture
from nodegraph_nodes.pictures.texts import text_chunks

SETTINGS = ("prompt=a boat, a house: red", "sampled.schedule=karras")


@pytest.fixture
def nodegraph(workspace):
    """Runs a command in the folder of the workspace."""

    def run(*words):
        return CliRunner().invoke(main, [*map(str, words)], prog_name="nodegraph", env={"NODEGRAPH_CACHE_DIR": "cache"})

    return run


@pytest.fixture
def made(workspace):
    """An inpainted picture, made of a picture, a mask and a model."""
    return workspace("inpaint", *SETTINGS, "seed=7").path(workspace.folder)


def pixels(path):
    with pillow.open(path) as picture:
        return picture.tobytes()


def texts(path):
    return text_chunks(path.read_bytes())


def test_a_picture_is_made_again_bit_for_bit_and_varied(nodegraph, workspace, made):
    before = made.read_bytes()
    ran = nodegraph("run", made, "--base", "workflows", "--no-cache", "-q")
    assert ran.exit_code == 0, ran.stderr
    assert ran.stdout.split() == [str(made.relative_to(workspace.folder))]  # the same file, which is left as it is
    assert made.read_bytes() == before
    ran = nodegraph("run", made, "--base", "workflows", "--set", "seed=8", "-q")
    varied = workspace.folder / ran.stdout.strip()
    assert varied.name == "inpaint-8.png"
    assert pixels(varied) != pixels(made)
    assert "seed: 8" in texts(varied)["nodegraph"]
    nodegraph("run", varied, "--base", "workflows", "--out", "again", "--no-cache", "-q")
    assert pixels(workspace.folder / "again" / varied.name) == pixels(varied)


def test_parameters_are_those_that_galleries_read(made):
    prompt, negative, settings = texts(made)["parameters"].splitlines()
    assert prompt == "a boat, a house: red"
    assert negative == "Negative prompt: "
    assert settings.startswith(
        "Steps: 2, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 3.0, Seed: 7, Size: 43x37, Model: small"
    )
    found = describe_picture(made.read_bytes())
    assert (found["program"], found["prompt"], found["seed"], found["width"]) == ("AUTOMATIC1111", prompt, "7", "43")


def test_files_are_looked_for_beside_the_picture_in_the_current_folder_and_in_base(nodegraph, workspace, made):
    other = workspace.folder / "other"
    other.mkdir()
    moved = shutil.copy(made, other / "moved.png")
    missing = nodegraph("run", moved, "-q")
    assert missing.exit_code == 2
    assert "examples/scene.png: expected the recorded file, found nothing that can be used in" in missing.stderr
    assert "--base" in missing.stderr
    shutil.copy(workspace.examples / "scene.png", other)  # beside the picture, under its name alone
    shutil.copytree(workspace.examples, workspace.folder / "examples")  # in the current folder
    assert nodegraph("run", moved, "-q").exit_code == 0
    pillow.new("RGB", (43, 37)).save(other / "scene.png")  # another one: the right one is in the current folder
    assert nodegraph("run", moved, "-q").exit_code == 0
    shutil.rmtree(workspace.folder / "examples")
    wrong = nodegraph("run", moved, "-q")
    assert wrong.exit_code == 2
    assert "examples/scene.png: expected the recorded file (SHA-256 " in wrong.stderr
    assert "found another one" in wrong.stderr
    assert str(other / "scene.png") in wrong.stderr
    assert nodegraph("run", moved, "--base", "workflows", "-q").exit_code == 0
    assert nodegraph("check", moved, "--base", "workflows").exit_code == 0


def test_a_model_that_was_changed_is_refused_by_name(nodegraph, workspace, made, tmp_path, model):
    changed = shutil.copytree(model, tmp_path / "changed")
    copy = workspace("txt2img", f"model={changed}").path(workspace.folder)
    assert nodegraph("run", copy, "-q").exit_code == 0
    weights = next(changed.glob("vae/*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\x80\x3f")
    ran = nodegraph("run", copy, "-q")
    assert ran.exit_code == 2
    assert f"{changed.as_posix()}: expected the recorded file" in ran.stderr.replace("~", str(tmp_path))


def test_no_metadata_leaves_nothing(nodegraph, workspace, made):
    words = workspace.words("inpaint", *SETTINGS, "seed=7", options=("--no-metadata", "--out", "bare"))
    assert CliRunner().invoke(main, words).exit_code == 0
    bare = workspace.folder / "bare/inpaint-7.png"
    assert texts(bare) == {}
    assert pixels(bare) == pixels(made)
    assert nodegraph("run", bare).exit_code == 2


def test_a_picture_is_swept_with_and_without_metadata(nodegraph, workspace, made):
    words = ("sweep", made, "--base", "workflows", "--over", "seed=7,8", "--out", "swept", "-q")
    ran = nodegraph(*words, "--no-metadata")
    assert ran.exit_code == 0, ran.stderr
    first, second = (workspace.folder / path for path in ran.stdout.split())
    assert pixels(first) == pixels(made) != pixels(second)
    assert texts(first) == texts(second) == {}
    assert nodegraph(*words).stdout == ran.stdout  # it does not count as done, since the files are others
    assert "seed: 8" in texts(second)["nodegraph"]


def test_no_path_names_the_home_folder(workspace, monkeypatch):
    home = workspace.folder / "home" / "anna"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    shutil.copy(workspace.examples / "scene.png", home / "own.png")
    shutil.copy(workspace.examples / "mask.png", home / "mask.png")
    made = workspace("inpaint", f"image={home / 'own.png'}", "mask=home/anna/mask.png").path(workspace.folder)
    assert b"anna" not in made.read_bytes()
    assert "image: {default: ~/own.png" in texts(made)["nodegraph"].replace('"', "")
    assert set(json.loads(texts(made)["nodegraph_run"])["files"]) >= {"~/own.png", "~/mask.png"}
    ran = CliRunner().invoke(main, ["run", str(made), "-q", "--cache-dir", "cache"])
    assert ran.exit_code == 0, ran.stderr
    assert b"anna" not in (workspace.folder / ran.stdout.strip()).read_bytes()


def test_show_says_how_it_was_made_without_its_files(nodegraph, workspace, made, monkeypatch):
    shutil.rmtree(workspace.examples)
    ran = nodegraph("show", made)
    assert ran.exit_code == 0, ran.stderr
    assert "made by nodegraph, run " in ran.stdout
    assert re.search(r"examples/scene.png +SHA-256 ", ran.stdout)
    assert "use: UNetDenoise" in ran.stdout
    shown = json.loads(nodegraph("show", made, "--json").stdout)
    assert shown["program"] == "nodegraph"
    assert shown["workflow"] == texts(made)["nodegraph"]


def test_damaged_metadata_is_an_error_for_people(nodegraph, workspace, made):
    data = made.read_bytes()
    for broken in (data[:300], data.replace(b"nodegraph: 1", b"nodegraph: 9"), data.replace(b'"files": {', b'"files": [')):
        (workspace.folder / "broken.png").write_bytes(broken)
        ran = nodegraph("run", "broken.png")
        assert ran.exit_code == 2, ran.output
        assert "Traceback" not in ran.stderr
        assert "bug in nodegraph" not in ran.stderr


API = {
    "3": {
        "class_type": "KSampler",
        "inputs": {"seed": 5, "steps": 20, "cfg": 8.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
        | {"model": ["10", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]},
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a castle", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
    "10": {"class_type": "LoraLoader", "inputs": {"lora_name": "x.safetensors", "model": ["4", 0], "clip": ["4", 1]}},
}
A1111 = """a castle, (night:1.2)
second line
Negative prompt: blurry,
grey
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 5, Size: 512x768, Model hash: 6ce0161689, Model: v1-5, \
Lora hashes: "x: 0123, y: 4567", Version: v1.10.1"""
INVOKE = {
    "app_version": "5.0.0",
    "generation_mode": "txt2img",
    "positive_prompt": "a castle",
    "negative_prompt": "blurry",
    "width": 512,
    "height": 768,
    "seed": 5,
    "cfg_scale": 7.5,
    "steps": 20,
    "scheduler": "dpmpp_2m_k",
    "model": {"name": "v1-5", "base": "sd-1", "hash": "blake3:ab"},
}
SETS = """Steps: 30, Sampler: UniPC, Schedule type: Karras, CFG scale: 7, Seed: 5, Size: 512x768, Model hash: 3d1b, Model: v1-5, \
VAE hash: df3c, VAE: kl.ckpt, Denoising strength: 0.5, Clip skip: 2, \
Tiled Diffusion: {"Method": "MultiDiffusion", "Tile": [112, 144]}, \
ControlNet 0: "Module: canny, Model: control_v11p [d14c], Weight: 0.6", \
Hires prompt: "a castle, \\"high\\"\\nhills", Hires upscale: 2, \
Hires steps: 15, Hires upscaler: Latent, Lora hashes: "x: 0123, y: 4567", TI hashes: "easynegative: c74b", \
Hashes: {"vae": "df3c", "model": "3d1b"}, Version: v1.6.0"""
HIRES = f"a castle <lora:x:0.8>,\nat night\nNegative prompt: easynegative\n{SETS}"
FLUX = """a castle
Steps: 25, Sampler: Euler, Schedule type: Simple, CFG scale: 1, Distilled CFG Scale: 3.5, Seed: 5, Size: 896x1152, \
Model: flux1-dev-Q8_0, Version: f2.0.1v1.10.1-previous-313-g8a042934, Module 1: ae, Module 2: clip_l, Module 3: t5xxl_fp16"""
INVOKE_3 = {
    "app_version": "3.3.0post3",
    "generation_mode": "txt2img",
    "positive_prompt": "a castle",
    "seed": 5,
    "scheduler": "dpmpp_2m_sde_k",
    "clip_skip": 0,
    "model": {"model_name": "v1-5", "base_model": "sd-1", "model_type": "main"},
    "controlnets": [{"control_model": {"model_name": "canny", "base_model": "sd-1"}, "control_weight": 1.0}],
    "loras": [{"lora": {"model_name": "ink", "base_model": "sd-1"}, "weight": 0.75}, {"model": {"name": "new"}, "weight": 1}],
    "vae": {"model_name": "sd-vae-ft-mse", "base_model": "sd-1"},
}
OLD_INVOKE = {
    "app_version": "2.3.5",
    "model_weights": "v1-5",
    "image": {"prompt": [{"prompt": "a castle", "weight": 1.0}], "steps": 20, "cfg_scale": 7.5, "seed": 5, "sampler": "k_lms"},
}


def picture(chunks, *, compressed=False):
    import io

    info, file = PngInfo(), io.BytesIO()
    for name, text in chunks.items():
        (info.add_text(name, text, zip=True) if compressed else info.add_itxt(name, text))
    pillow.new("RGB", (2, 2)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("chunks", "program", "expected"),
    [
        ({"prompt": json.dumps(API), "workflow": "{}"}, "ComfyUI", {"model": "v1-5.safetensors", "sampler": "euler", "steps": 20}),
        ({"parameters": A1111}, "AUTOMATIC1111", {"version": "v1.10.1", "sampler": "DPM++ 2M", "Lora hashes": "x: 0123, y: 4567"}),
        ({"parameters": A1111.replace("v1.10.1", "f2.0.1v1.10.1")}, "Forge", {"version": "f2.0.1v1.10.1", "schedule": "Karras"}),
        ({"invokeai_metadata": json.dumps(INVOKE), "invokeai_graph": "{}"}, "InvokeAI", {"version": "5.0.0", "model": "v1-5"}),
        ({"sd-metadata": json.dumps(OLD_INVOKE)}, "InvokeAI", {"model": "v1-5", "sampler": "k_lms"}),
        (
            {"parameters": HIRES},
            "AUTOMATIC1111",
            {
                "prompt": "a castle <lora:x:0.8>,\nat night",
                "negative": "easynegative",
                "model": "v1-5",
                "height": "768",
                "Tiled Diffusion": '{"Method": "MultiDiffusion", "Tile": [112, 144]}',
                "ControlNet 0": "Module: canny, Model: control_v11p [d14c], Weight: 0.6",
                "Hires prompt": 'a castle, "high"\nhills',
                "Hires upscaler": "Latent",
                "TI hashes": "easynegative: c74b",
                "Hashes": '{"vae": "df3c", "model": "3d1b"}',
                "version": "v1.6.0",
            },
        ),
        ({"parameters": FLUX}, "Forge", {"Distilled CFG Scale": "3.5", "Module 3": "t5xxl_fp16", "model": "flux1-dev-Q8_0"}),
        (
            {"invokeai_metadata": json.dumps(INVOKE_3)},
            "InvokeAI",
            {"model": "v1-5", "vae": "sd-vae-ft-mse", "loras": "ink: 0.75, new: 1", "controls": "canny: 1.0", "mode": "txt2img"},
        ),
        ({"sd-metadata": json.dumps({"image": {"prompt": "a castle", "seed": 5}})}, "InvokeAI", {}),
        (
            {"Dream": '"a castle of \\"salt\\"" -s50 -W512 -H768 -C7.5 -Ak_lms -S5'},
            "InvokeAI",
            {"prompt": 'a castle of "salt"', "steps": "50", "height": "768", "sampler": "k_lms", "cfg": "7.5"},
        ),
        ({"Dream": '"a castle" -s50 -b1 -W512 -H512 -C7.5 -mk_lms -S5'}, "InvokeAI", {"sampler": "k_lms", "cfg": "7.5"}),
        ({"Dream": '"a castle" -s 20 -S 5 -W 512 -H 768 -C 7.5 -A k_lms'}, "InvokeAI", {"sampler": "k_lms", "cfg": "7.5"}),
    ],
)
def test_pictures_of_other_programs_are_described(nodegraph, workspace, chunks, program, expected, compressed):
    data = picture(chunks, compressed=compressed)
    found = describe_picture(data)
    assert found["program"] == program
    assert found["prompt"].startswith("a castle")
    assert str(found["seed"]) == "5"
    assert {name: found[name] for name in expected} == expected
    if not compressed:
        (workspace.folder / "x.png").write_bytes(data)
        shown = nodegraph("show", "x.png")
        assert shown.stdout.startswith(f"x.png: made by {program}")
        assert nodegraph("run", "x.png").exit_code == 2


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.slow
def test_hostile_pictures_are_described_as_far_as_they_can_be():
    start = picture({})[:-12]
    bomb = chunk(b"zTXt", b"parameters\0\0" + zlib.compress(bytes(1 << 28)))
    deep = "[" * 100_000
    circle = {
        "1": {"class_type": "KSampler", "inputs": {"positive": ["2", 0]}},
        "2": {"class_type": "X", "inputs": {"a": ["2", 0]}},
    }
    others = [
        bomb,
        chunk(b"iTXt", b"prompt\0"),
        chunk(b"iTXt", b""),
        chunk(b"zTXt", b"prompt\0\0no"),
        b"\xff\xff\xff\xfftEXtprompt\0{}",
    ]
    for part in others:
        assert describe_picture(start + part) is None
    graph = {"nodes": {"a": {"type": "l2i"}, "b": {"type": "denoise_latents"}, "c": 3}, "edges": []}
    assert describe_picture(picture({"invokeai_graph": json.dumps(graph)})) == {
        "program": "InvokeAI",
        "nodes": "denoise_latents, l2i",
    }
    for value in ('"' * 60_000, "[" * 60_000, 'a: "' * 15_000):
        assert describe_picture(picture({"parameters": f"Steps: 2, X: {value}"}))["steps"] == "2"
    for key in ("prompt", "parameters", "invokeai_metadata", "invokeai_graph", "sd-metadata", "Dream"):
        for text in (deep, "", "{}", "[]", "null", '{"image": 3, "1": {"class_type": 4, "inputs": {}}}', '{"a":' * 5000):
            assert describe_picture(picture({key: text})) is None
    assert describe_picture(picture({"prompt": json.dumps(circle)})) == {"program": "ComfyUI", "nodes": "KSampler, X"}
