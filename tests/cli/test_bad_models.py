"""Bad model files on the command line give a clear error and change nothing."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nodegraph_diffusion.checkpoint.layouts.configs import write_unet
from nodegraph_diffusion.networks.controlnet import ControlNet
from tests.support.bad_models import LOADERS, assert_clear, assert_refused, assert_refused_by_all, workflow, workflow_of
from tests.support.cli import Ran
from tests.support.small_model import UNET

LORA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"  # (16, 32)


def header(content: object, data: bytes = b"") -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


HEADERS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "an empty file"),
    "zeros": (bytes(1000), "do not begin like one"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "do not begin like one"),
    "a page of the web": (b"<!DOCTYPE html>" * 9, "do not begin like one"),
    "an archive of something": (b"PK\x03\x04" + bytes(100), "a PyTorch pickle"),
    "a header of 2^63 bytes": ((1 << 63).to_bytes(8, "little") + b"{}", "do not begin like one"),
    "a header longer than the file": ((1000).to_bytes(8, "little") + b"{}", "a truncated one"),
    "a list": (header([1, 2]), "a list instead of an object"),
    "no JSON": (header(b"{'a': 1}"), "a damaged one"),
    "not UTF-8": (header(b'{"\xff": 1}'), "a damaged one"),
    "deep": (header(b'{"a":' * 50_000), "a damaged one"),
    "a number too long": (header(b'{"a":' + b"9" * 10_000 + b"}"), "a damaged one"),
    "a key twice": (
        header(b'{"a":%b,"a":%b}' % ((json.dumps(entry(0, 4, [1])).encode(),) * 2), bytes(4)),
        "'a' occurs twice",
    ),
    "a shape of NaN": (header(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', bytes(4)), "not lists of sizes"),
    "a shape that does not fit": (
        header({"a": entry(0, 4, [2])}, bytes(4)),
        "'a' with shape [2] of F32 does not fill bytes 0 to 4",
    ),
    "too many dimensions": (header({"a": entry(0, 4, [1] * 100_000)}, bytes(4)), "not lists of sizes"),
    "a size beyond all memory": (header({"a": entry(0, 4 << 70, [1 << 70])}, bytes(4)), "not lists of sizes"),
    "more than there is": (header({"a": entry(0, 4 << 40, [1 << 40])}, bytes(4)), "the file is truncated"),
    "something behind": (header({"a": entry(0, 4, [1])}, bytes(5)), "something was appended"),
    "two in one place": (
        header({"a": entry(0, 4, [1]), "b": entry(0, 4, [1])}, bytes(4)),
        "tensors one after another ('b' at byte 4)",
    ),
    "one over another": (header({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, bytes(12)), "'b' at byte 8"),
    "a hole": (header({"a": entry(4, 8, [1])}, bytes(8)), "'a' at byte 0"),
    "half a letter": (header(b'{"\\ud800":%b}' % json.dumps(entry(0, 4, [1])).encode(), bytes(4)), "a damaged one"),
    "no tensor": (header({}), "no tensor"),
}


@pytest.mark.parametrize(("content", "message"), HEADERS.values(), ids=HEADERS)
def test_false_header_is_refused(cli, content, message):
    (cli.folder / "bad.safetensors").write_bytes(content)
    assert_refused_by_all(cli, cli.folder / "bad.safetensors", message)


@pytest.mark.parametrize("node", LOADERS)
def test_words_for_a_terminal_are_refused(cli, models, node):
    (cli.folder / "bad.safetensors").write_bytes(header({"\x1b]0;mine\x07": entry(0, 4, [1])}, bytes(4)))
    assert_refused(cli, models, node, cli.folder / "bad.safetensors", "bad.safetensors: expected")


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.5, 0.9, 0.9999])
def test_truncated_model_is_refused(cli, models, share):
    content = (models / "single.safetensors").read_bytes()
    (cli.folder / "cut.safetensors").write_bytes(content[: int(len(content) * share)])
    assert_refused(cli, models, "LoadModel", cli.folder / "cut.safetensors", "cut.safetensors")


def copy(models: Path, folder: Path) -> Path:
    import shutil

    return Path(shutil.copytree(models / "small", folder / "small"))


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def _pipe(path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no pipes with names here")
    path.unlink(missing_ok=True)
    os.mkfifo(path)


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (lambda folder: (folder / "model_index.json").unlink(), "a folder with model_index.json"),
    "a truncated part": (
        lambda folder: os.truncate(folder / "vae" / "diffusion_pytorch_model.safetensors", 5000),
        "vae/diffusion_pytorch_model.safetensors",
    ),
    "no weights": (lambda folder: (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink(), "found no weights"),
    "NaN": (
        lambda folder: edit(folder / "vae" / "config.json", scaling_factor=float("nan")),
        "vae/config.json: expected a JSON config, found NaN, which is not a finite number",
    ),
    "no end": (
        lambda folder: edit(folder / "vae" / "config.json", scaling_factor=float("inf")),
        "Infinity, which is not a finite number",
    ),
    "a number beyond all": (
        lambda folder: (folder / "vae" / "config.json").write_text(
            (folder / "vae" / "config.json").read_text().replace("0.18215", "1e999")
        ),
        "expected a JSON config, found 1e999, which is not a finite number",
    ),
    "10^9 channels": (
        lambda folder: edit(folder / "unet" / "config.json", block_out_channels=[10**9, 2 * 10**9], norm_num_groups=8),
        "model_channels must be 1 to 1,048,576, got 1000000000",
    ),
    "10^9 blocks": (
        lambda folder: edit(folder / "unet" / "config.json", layers_per_block=10**9),
        "num_res_blocks must be 1 to 256",
    ),
    "10^9 layers": (
        lambda folder: edit(folder / "text_encoder" / "config.json", num_hidden_layers=10**9),
        "layers must be 1 to 256",
    ),
    "10^9 words": (lambda folder: edit(folder / "text_encoder" / "config.json", vocab_size=10**9), "vocab_size must be 1 to"),
    "10^9 groups": (lambda folder: edit(folder / "vae" / "config.json", norm_num_groups=10**9), "norm_groups must be 1 to"),
    "10^9 cells": (
        lambda folder: edit(folder / "unet" / "config.json", sample_size=10**9),
        "sample_size is 1000000000, not 1 to 4096",
    ),
    "10^12 steps": (
        lambda folder: edit(folder / "scheduler" / "scheduler_config.json", num_train_timesteps=10**12),
        "expected 2 to 1,000,000 steps, found 1000000000000",
    ),
    "half a block": (
        lambda folder: edit(folder / "unet" / "config.json", in_channels=4.5),
        "in_channels must be a whole number, got 4.5",
    ),
    "a word for a number": (lambda folder: edit(folder / "vae" / "config.json", layers_per_block="many"), "got 'many'"),
    "a list for a number": (lambda folder: edit(folder / "vae" / "config.json", latent_channels=[4]), "got [4]"),
    "deep": (lambda folder: (folder / "vae" / "config.json").write_text("[" * 100_000), "vae/config.json: expected a JSON config"),
    "a config that is a folder": (
        lambda folder: ((folder / "vae" / "config.json").unlink(), (folder / "vae" / "config.json").mkdir()),
        "something that is not a file",
    ),
    "a config that is a pipe": (
        lambda folder: _pipe(folder / "scheduler" / "scheduler_config.json"),
        "something that is not a file",
    ),
    "an index that is a pipe": (lambda folder: _pipe(folder / "model_index.json"), "a folder with model_index.json"),
    "weights that are a pipe": (lambda folder: _pipe(folder / "unet" / "diffusion_pytorch_model.safetensors"), "unet"),
    "a word twice as wide": (
        lambda folder: edit(folder / "unet" / "config.json", cross_attention_dim=64),
        "of shape [16, 64], found",
    ),
}


@pytest.mark.parametrize(("change", "message"), FOLDERS.values(), ids=FOLDERS)
def test_damaged_folder_is_refused(cli, models, change, message):
    folder = copy(models, cli.folder)
    change(folder)
    assert_refused(cli, models, "LoadModel", folder, message)


def test_folder_without_a_shard_is_refused(cli, models):
    folder = copy(models, cli.folder)
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = list(load_file(file).items())
    file.unlink()
    places = {}
    for number, some in enumerate((tensors[::2], tensors[1::2])):
        name = f"diffusion_pytorch_model-{number}.safetensors"
        save_file(dict(some), folder / "unet" / name)
        places |= dict.fromkeys((key for key, _ in some), name)
    index = folder / "unet" / f"{file.name}.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert cli("models", folder).exit_code == 0
    for wrong in ("../../model_index.json", "..", "", "a\0b", "\ud800"):
        index.write_text(json.dumps({"weight_map": places | {"conv_in.bias": wrong}}))
        assert_refused(cli, models, "LoadModel", folder, "expected all 3 files of weights, found 1 missing")
    index.write_text(json.dumps({"weight_map": places}))
    (folder / "unet" / "diffusion_pytorch_model-1.safetensors").unlink()
    assert_refused(cli, models, "LoadModel", folder, "expected all 2 files of weights, found 1 missing (diffusion_pytorch_model-1")
    index.write_text('{"weight_map": 7}')
    assert_refused(cli, models, "LoadModel", folder, "found no files named")


# --- a file of another kind


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, models: Path) -> dict[str, Path]:
    """A file of each kind. Tests must not change them."""
    folder = tmp_path_factory.mktemp("files")
    kinds = {
        name: folder / f"{name}.safetensors" for name in ("vae", "lora", "wide lora", "style", "wide style", "control", "text")
    }
    vae = {k: v for k, v in load_file(models / "single.safetensors").items() if k.startswith("first_stage_model.")}
    save_file({key.removeprefix("first_stage_model."): value for key, value in vae.items()}, kinds["vae"])
    for name, rows in (("lora", 16), ("wide lora", 24)):
        save_file({f"{LORA}.lora_up.weight": torch.ones(rows, 2), f"{LORA}.lora_down.weight": torch.ones(2, 32)}, kinds[name])
    save_file({"emb_params": torch.ones(1, 32)}, kinds["style"])
    save_file({"emb_params": torch.ones(1, 48)}, kinds["wide style"])
    save_file({f"control_model.{k}": v for k, v in ControlNet(UNET).state_dict().items()}, kinds["control"])
    text = {k: v for k, v in load_file(models / "single.safetensors").items() if k.startswith("cond_stage_model.")}
    save_file({key.removeprefix("cond_stage_model.transformer."): value for key, value in text.items()}, kinds["text"])
    folders = {
        "folder": models / "small",
        "text folder": models / "small/text_encoder",
        "tokenizer folder": models / "small/tokenizer",
    }
    return kinds | {"model": models / "single.safetensors"} | folders


@pytest.mark.parametrize(
    ("node", "kind", "message"),
    [
        ("LoadModel", "vae", "VAE"),
        ("LoadModel", "lora", "found a LoRA"),
        ("LoadModel", "style", "found a textual inversion"),
        ("LoadModel", "control", "found a ControlNet"),
        ("LoadLora", "model", "found a whole model, which LoadModel takes"),
        ("LoadLora", "vae", "expected a LoRA"),
        ("LoadLora", "folder", "in the folder, found a whole model, which LoadModel takes"),
        ("LoadLora", "text folder", "in the folder, found only a text encoder, which LoadTextEncoder takes"),
        ("LoadLora", "tokenizer folder", "in the folder, found neither"),
        ("LoadLora", "wide lora", "expected a change of 16x32"),
        ("LoadEmbedding", "model", "expected vectors for a prompt's word"),
        ("LoadEmbedding", "wide style", "expected vectors of 32 numbers"),
        ("LoadEmbedding", "folder", "found a folder"),
        ("LoadControlNet", "model", "expected a ControlNet"),
        ("LoadControlNet", "folder", "expected a ControlNet, found a whole model, which LoadModel takes"),
        ("LoadControlNet", "text folder", "expected a ControlNet, found only a text encoder, which LoadTextEncoder takes"),
        ("LoadControlNet", "tokenizer folder", "expected a ControlNet, found no diffusion_pytorch_model.safetensors in the folder"),
    ],
)
def test_wrong_kind_of_file_is_refused(cli, models, files, node, kind, message):
    assert_refused(cli, models, node, files[kind], message)


def test_lora_as_embedding_fails_the_check(cli, models, files):
    cli.write(workflow(models, "LoadEmbedding", files["lora"]), "bad.yaml")
    ran = cli("check", "bad.yaml")
    assert ran.exit_code == 2
    assert_clear(ran, "expected vectors for a prompt's word, found a LoRA, which LoadLora takes")


@pytest.mark.parametrize("node", LOADERS)
def test_missing_file_fails_the_check(cli, models, node):
    cli.write(workflow(models, node, "missing.safetensors"), "bad.yaml")
    ran = cli("check", "bad.yaml")
    assert ran.exit_code == 2
    assert_clear(ran, "found nothing. Check the path; relative ones start from")
    assert "missing.safetensors: expected a" in ran.stderr


@pytest.mark.parametrize("width", [{"model_channels": 32}, {"context_dim": 64}])
def test_controlnet_of_another_width_is_refused(cli, models, width):
    import dataclasses

    config = dataclasses.replace(UNET, **width)
    (cli.folder / "net").mkdir()
    from nodegraph_diffusion.checkpoint.layouts.controlnet import controlnet_modules
    from nodegraph_diffusion.checkpoint.layouts.modules import rename

    table = controlnet_modules(config)
    state = {rename(key, table): value for key, value in ControlNet(config).state_dict().items()}
    save_file(state, cli.folder / "net" / "diffusion_pytorch_model.safetensors")
    (cli.folder / "net" / "config.json").write_text(json.dumps(write_unet(config, 8)))
    assert_refused(
        cli, models, "LoadControlNet", cli.folder / "net", "expected one for a UNet of 16 channels and prompts of width 32"
    )


@pytest.mark.parametrize("change", [{"block_out_channels": [10**9]}, {"layers_per_block": float("nan")}, {"down_block_types": 7}])
def test_controlnet_with_absurd_config_is_refused(cli, models, change):
    (cli.folder / "net").mkdir()
    save_file(
        {"controlnet_cond_embedding.conv_in.weight": torch.ones(1)}, cli.folder / "net" / "diffusion_pytorch_model.safetensors"
    )
    (cli.folder / "net" / "config.json").write_text(json.dumps(write_unet(UNET, 8) | change))
    assert_refused(cli, models, "LoadControlNet", cli.folder / "net", "net/")


# --- paths that are not regular files


@pytest.mark.parametrize("kind", ["pipe", "device", "nothing", "link in a circle", "no name", "behind a file", "long"])
def test_pipes_devices_and_circular_links_are_refused(cli, kind):
    path: Path | str = cli.folder / "bad"
    if kind == "pipe":
        _pipe(cli.folder / "bad")
    elif kind == "device":
        path = Path("/dev/zero")
        if not path.exists():
            pytest.skip("there is no such device here")
    elif kind == "link in a circle":
        with contextlib.suppress(OSError, NotImplementedError):
            (cli.folder / "bad").symlink_to(cli.folder / "bad")
    elif kind == "no name":
        path = "a\0b"
    elif kind == "behind a file":
        (cli.folder / "bad").write_bytes(b"x")
        path = cli.folder / "bad" / "model.safetensors"
    elif kind == "long":
        path = cli.folder / ("x" * 5000)
    cli.write(workflow_of(str(path), LOADERS, path), "bad.yaml")
    for command in ("check", "run"):
        ran = cli(command, "bad.yaml")
        assert ran.exit_code == 2, ran.stderr
        assert [name for name in ("model", "lora", "style", "net") if f"of node '{name}'" not in ran.stderr] == []
        assert "Traceback" not in ran.stderr
        assert "unexpected" not in ran.stderr


@pytest.mark.parametrize("node", LOADERS)
def test_unreadable_file_is_refused(cli, models, node, monkeypatch):
    (cli.folder / "bad.safetensors").write_bytes(b"x")
    cli.write(workflow(models, node, "bad.safetensors"), "bad.yaml")
    allowed = Path.open

    def refused(path: Path, *args: Any, **options: Any) -> Any:  # the tests may run as root, who can read everything
        if path.name == "bad.safetensors":
            raise PermissionError(13, "Permission denied", str(path))
        return allowed(path, *args, **options)

    monkeypatch.setattr(Path, "open", refused)
    ran = cli("check", "bad.yaml")
    assert ran.exit_code == 2
    assert_clear(ran, "bad.safetensors: expected a readable file, found one that cannot be read: Permission denied")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="names of files are text there")
def test_undecodable_file_name_is_no_crash(cli, models):
    name = os.fsdecode(b"bad-\xff.safetensors")
    (cli.folder / name).write_bytes(b"x")
    for ran in (cli.other_process("models", name), cli.other_process("convert", name, "new.safetensors")):
        assert ran.exit_code == 2
        assert "Traceback" not in ran.stderr
        assert "expected a safetensors file" in ran.stderr


# --- many tensors: more than any model has

MANY = 8_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("node", "name", "message"),
    [
        ("LoadModel", "tensor.{}", "tensors whose names begin with"),
        ("LoadModel", "model.diffusion_model.input_blocks.{}.0.in_layers.2.weight", "found only a UNet, which LoadUNet takes"),
        ("LoadLora", "lora_unet_block_{}.diff", "changes of modules that this model's unet has"),
        ("LoadEmbedding", "word {}", "a file of other tensors"),
        ("LoadControlNet", "control_model.input_hint_block.{}.weight", "control_model.input_blocks.0.0.weight"),
    ],
)
def test_many_tensors_are_refused(cli, models, node, name, message):
    tensors = {name.format(i): entry(4 * i, 4 * i + 4, [1]) for i in range(MANY)}
    (cli.folder / "many.safetensors").write_bytes(header(tensors, bytes(4 * MANY)))
    assert_refused(cli, models, node, cli.folder / "many.safetensors", message)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["dtype", "extra", "missing", "width"])
def test_check_and_models_find_without_torch_what_cannot_load(cli, models, damage):
    content = (models / "single.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    tensors, name = json.loads(content[8 : 8 + length]), "model.diffusion_model.out.0.bias"
    if damage == "dtype":
        tensors[name]["dtype"] = "I16"
    elif damage == "width":
        tensors[name]["shape"] = [2, 16]
    else:
        tensors["model.diffusion_model.surprise"] = tensors.pop(name) if damage == "missing" else entry(0, 0, [0])
    (cli.folder / "bad.safetensors").write_bytes(header(tensors, content[8 + length :]))
    message = {"dtype": "F8_E5M2, found I16", "width": "shape [2, 16]"}.get(damage, "1 unknown (model.diffusion_model.surprise")
    cli.write(workflow(models, "LoadModel", cli.folder / "bad.safetensors"), "bad.yaml")
    for args in (["check", "bad.yaml"], ["models", "bad.safetensors"]):
        hidden = "import sys; sys.modules |= dict.fromkeys(('torch', 'numpy'))"
        script = f"{hidden}; sys.argv[1:] = {args}; from nodegraph.cli import main; main()"
        ran = subprocess.run(
            [sys.executable, "-c", script],
            cwd=cli.folder,
            env={**os.environ, **cli.env},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert ran.returncode == 2
        assert_clear(Ran(ran.returncode, ran.stdout, ran.stderr), message)


@pytest.mark.slow
def test_many_extra_tensors_are_refused(cli, models):
    """They are refused by name inside the networks; outside they are ignored, with one note."""
    content = (models / "single.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    known = json.loads(content[8 : 8 + length])
    end = len(content) - 8 - length
    for prefix in ("model.diffusion_model.more", "more"):
        more = {f"{prefix}.{i}": entry(end + 4 * i, end + 4 * i + 4, [1]) for i in range(MANY)}
        (cli.folder / "many.safetensors").write_bytes(header(known | more, content[8 + length :] + bytes(4 * MANY)))
        if prefix == "more":
            note = f"{MANY} tensors belong to no part of the model and are ignored ('more.0', ...)"
            assert note in cli("models", "many.safetensors").stdout
            cli.write(workflow(models, "LoadModel", cli.folder / "many.safetensors"), "many.yaml")
            assert f": many.safetensors: {note}" in cli("check", "many.yaml").stderr
            [found] = cli("check", "many.yaml", "--json").json["notes"]
            assert found["message"].startswith(f"many.safetensors: {note}")
        else:
            assert_refused(cli, models, "LoadModel", cli.folder / "many.safetensors", f"{MANY} unknown")
