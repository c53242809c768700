"""`hf://` addresses are accepted wherever a file is: by every node that reads one, and by every command."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image as pillow
from safetensors.torch import load_file, save_file

from nodegraph.node_types.fetching import NotFetchedError, without_fetching
from nodegraph.plugin_api import load_plugins
from nodegraph_diffusion.checkpoint.files import hub
from nodegraph_diffusion.networks.config import TAESDConfig
from nodegraph_diffusion.networks.taesd import TAESD
from tests.support.hub import save_in_hub_cache
from tests.support.lora_files import kohya

FOLDERS = {("LoadImages", "path"), ("TextTemplate", "wildcards")}
"""Inputs that read folders of files that are no models."""

WORKFLOW = """
nodegraph: 1
nodes:
  picture: {use: LoadImage, path: "hf://org/files/red.png"}
  mask: {use: Mask, path: "hf://org/files/red.png", channel: red}
  table: {use: LoadTable, path: "hf://org/files/scenes.csv"}
  text: {use: TextTemplate, text: a house, styles: "hf://org/files/styles.csv", style: ink}
  model: {use: LoadModel, model: "hf://org/model"}
  unet: {use: LoadUNet, unet: "hf://org/model"}
  vae: {use: LoadVAE, vae: "hf://org/model/vae"}
  words: {use: LoadTextEncoder, text_encoder: "hf://org/model"}
  word: {use: LoadEmbedding, text_encoder: $words, file: "hf://org/files/word.safetensors", word: thing}
  adapted: {use: LoadLora, unet: $unet, text_encoder: $word, file: "hf://org/files/lora.safetensors"}
  prompt: {use: TextEncode, text_encoder: $adapted.text_encoder, text: $text.text}
  latent: {use: VAEEncode, vae: $vae, image: $picture.image}
outputs:
  picture: {from: $picture.image}
  mask: {from: $mask}
  values: {from: $table.values}
  text: {from: $text.text}
  prompt: {from: $prompt}
  latent: {from: $latent}
"""


@pytest.fixture(autouse=True)
def empty_hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No hub, and an empty cache of it."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


@pytest.fixture
def files(tmp_path: Path, models: Path) -> Path:
    """Files of every kind, and the same in the hub's cache."""
    folder = tmp_path / "files"
    folder.mkdir()
    pillow.new("RGB", (32, 32), (255, 0, 0)).save(folder / "red.png")
    (folder / "scenes.csv").write_text("name\na\nb\n")
    (folder / "styles.csv").write_text('name,prompt,negative_prompt\nink,"{prompt}, ink",\n')
    shutil.copy(models / "small/vae/diffusion_pytorch_model.safetensors", folder / "vae.safetensors")
    save_file({"emb_params": torch.ones(1, 32)}, folder / "word.safetensors")
    module = kohya("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k")
    save_file({f"{module}.diff": torch.ones(16, 32)}, folder / "lora.safetensors")
    for file in folder.iterdir():
        save_in_hub_cache(file, "org/files")
    save_in_hub_cache(models / "small", "org/model")
    (hub._snapshot(hub.parse("hf://org/model")) / "vae" / ".nodegraph").write_text(".")
    return folder


def test_every_input_that_reads_files_takes_an_address(tmp_path):
    inputs = [
        (entry.value.name, port)
        for entry in load_plugins().nodes.entries()
        if entry.origin.plugin == "nodegraph_nodes"
        for port in entry.value.inputs
        if port.reads is not None
    ]
    assert len(inputs) > 10
    with without_fetching():
        for name, port in inputs:
            refused, message = (
                (ValueError, "a folder on this machine") if (name, port.name) in FOLDERS else (NotFetchedError, "fetched yet")
            )
            with pytest.raises(refused, match=message):
                port.reads.resolve("hf://org/name/file.safetensors", tmp_path)


def test_a_workflow_whose_files_are_all_on_the_hub_runs(cli, files):
    workflow = cli.write(WORKFLOW, "hub.yaml")
    ran = cli("check", workflow, "--json")
    assert (ran.exit_code, ran.json["problems"]) == (0, []), ran.stderr
    assert ran.json["not_fetched"] == []
    ran = cli("run", workflow)
    assert ran.exit_code == 0, ran.stderr
    assert [json.loads((cli.folder / f"out/hub-values-{number}.json").read_text()) for number in (0, 1)] == ["a", "b"]
    assert "a house, ink" in next((cli.folder / "out").glob("hub-text.*")).read_text()


def test_convert_takes_an_address(cli, files):
    ran = cli("convert", "hf://org/files/vae.safetensors", "vae.safetensors")
    assert ran.exit_code == 0, ran.stderr
    assert load_file("vae.safetensors").keys() == load_file(files / "vae.safetensors").keys()
    ran = cli("convert", "hf://org/files/gone.safetensors", "gone.safetensors")
    assert ran.exit_code == 2
    assert "expected a download from the hub, found no connection (http://127.0.0.1:9: the connection was refused)" in ran.stderr
    assert not Path("gone.safetensors").exists()


def test_convert_downloads_what_is_not_there(cli, files, monkeypatch):
    monkeypatch.setattr(
        hub, "_download", lambda reference: {"hf://org/new/vae.safetensors": files / "vae.safetensors"}[str(reference)]
    )
    assert cli("convert", "hf://org/new/vae.safetensors", "vae.safetensors").exit_code == 0
    assert load_file("vae.safetensors").keys() == load_file(files / "vae.safetensors").keys()


def test_models_describes_an_address(cli, files):
    assert cli("models", "hf://org/model").stdout.startswith("hf://org/model: sd1, diffusers layout, 32x32 pixels")
    assert "load it with LoadLora" in cli("models", "hf://org/files/lora.safetensors").stdout


def test_the_preview_decoder_may_be_an_address(cli, files):
    network = TAESD(TAESDConfig())
    save_file(network.state_dict(), files / "taesd_decoder.safetensors")
    workflow = cli.write("{nodegraph: 1, nodes: {t: {use: Text, value: x}}, outputs: {o: {from: $t}}}")
    options = ("--preview", "seen", "--preview-decoder", "hf://org/files/taesd_decoder.safetensors")
    missing = cli("run", workflow, *options)
    assert missing.exit_code == 2
    assert missing.stderr.startswith("[E401] the preview decoder cannot be used: hf://org/files/taesd_decoder.safetensors: ")
    save_in_hub_cache(files / "taesd_decoder.safetensors", "org/files")
    ran = cli("run", workflow, *options)
    assert ran.exit_code == 0, ran.stderr


def test_a_lock_file_says_what_an_address_holds(cli, files):
    node = '{use: LoadTable, path: "hf://org/files/scenes.csv"}'
    workflow = cli.write(f"nodegraph: 1\nnodes: {{table: {node}}}\noutputs: {{values: {{from: $table.values}}}}\n")
    assert cli("lock", workflow).exit_code == 0
    assert cli("run", workflow).exit_code == 0
    lock = cli.folder / "greeting.lock.yaml"
    digest = hashlib.sha256((files / "scenes.csv").read_bytes()).hexdigest()
    lock.write_text(lock.read_text().replace(digest, "00" * 32))
    ran = cli("run", workflow)
    assert ran.exit_code == 2
    assert f"'scenes.csv' with the SHA-256 000000000000..., as the lock file says, found {digest[:12]}" in ran.stderr
    assert "[E113]" in ran.stderr
