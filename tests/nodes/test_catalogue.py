"""Models, LoRAs and other files are found by name in the user's folders and listed with family, dtype and size."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from nodegraph.errors import SettingsError
from nodegraph.settings import MODELS_VARIABLE, model_dirs
from nodegraph_diffusion.networks.config import TAESDConfig
from nodegraph_diffusion.networks.taesd import TAESD
from nodegraph_nodes.catalogue import catalogue, find_by_name
from nodegraph_nodes.models.find import find_control_net, find_embedding, find_lora, find_model, find_vae
from tests.support import small_networks as small
from tests.support.cli import Cli
from tests.support.control_nets import our_control
from tests.support.whole_checkpoint import whole

LORA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


def write(path, tensors):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A folder with the layout of ComfyUI's `models/`."""
    folder = tmp_path_factory.mktemp("models")
    write(folder / "checkpoints/SD1/dreamshaper_8.safetensors", {key: value.half() for key, value in whole().items()})
    write(folder / "checkpoints/dreamshaper_xl.safetensors", {"double_blocks.0.weight": torch.zeros(2)})
    write(folder / "vae/better.safetensors", small.our_vae().state_dict())
    write(folder / "controlnet/canny.safetensors", our_control().state_dict())
    write(
        folder / "loras/better.safetensors",
        {f"{LORA}.lora_up.weight": torch.ones(320, 2), f"{LORA}.lora_down.weight": torch.ones(2, 768)},
    )
    write(folder / "embeddings/style.safetensors", {"emb_params": torch.ones(2, 768)})
    (folder / "checkpoints/put_checkpoints_here").write_text("")
    (folder / "checkpoints/readme.txt").write_text("no model")
    (folder / "diffusers/one/unet").mkdir(parents=True)
    (folder / "diffusers/one/model_index.json").write_text("{}")
    write(folder / "diffusers/one/unet/model.safetensors", {"a": torch.ones(1)})
    return folder


@pytest.fixture
def models(filled, monkeypatch):
    monkeypatch.setenv(MODELS_VARIABLE, str(filled))
    return filled


def test_everything_that_could_be_loaded_is_in_the_catalogue(models):
    assert {entry.name: entry.holds for entry in catalogue()} == {
        "checkpoints/SD1/dreamshaper_8": "model",
        "checkpoints/dreamshaper_xl": "model",
        "controlnet/canny": "controlnet",
        "diffusers/one": "model",
        "embeddings/style": "embedding",
        "loras/better": "lora",
        "vae/better": "vae",
    }


@pytest.mark.parametrize(
    "name",
    [
        "dreamshaper_8",
        "Dreamshaper_8",
        "dreamshaper_8.safetensors",
        "SD1/dreamshaper_8",
        "checkpoints/SD1/dreamshaper_8.safetensors",
    ],
)
def test_a_model_is_found_by_name(models, tmp_path, name):
    resource = find_model(name, tmp_path)
    assert resource.files == {"model": models / "checkpoints/SD1/dreamshaper_8.safetensors"}
    assert resource.value.model().kind == "sd1"


def test_what_is_wanted_decides_between_files_of_one_name(models, tmp_path):
    assert find_vae("better", tmp_path).value.path == models / "vae/better.safetensors"
    assert find_lora("better", tmp_path).value.path == models / "loras/better.safetensors"
    assert find_control_net("canny", tmp_path).value.path == models / "controlnet/canny.safetensors"
    assert find_embedding("style", tmp_path).value.path == models / "embeddings/style.safetensors"


def test_unclear_names_list_the_candidates(models, tmp_path):
    with pytest.raises(ValueError, match=r"Did you mean one of: checkpoints/dreamshaper_xl, checkpoints/SD1/dreamshaper_8\?"):
        find_model("dreamshaper", tmp_path)
    with pytest.raises(ValueError, match=r"'better' is the name of 2 files: .*better\.safetensors, .*better\.safetensors"):
        find_by_name("better", None)
    with pytest.raises(ValueError, match=r"there is no file 'dreamshapr_8', and no model .*Did you mean 'dreamshaper_8'"):
        find_model("dreamshapr_8", tmp_path)
    with pytest.raises(ValueError, match=r"'hf://org/name' is a model on the Hugging Face hub"):
        find_model("org/name", tmp_path)


def test_a_path_that_exists_comes_first(models, tmp_path):
    vae = write(tmp_path / "better", small.our_vae().state_dict())
    assert find_vae("better", tmp_path).value.path == vae
    for text in ("/better", "./better", "~/better", "hf://org/better", ""):
        assert find_by_name(text, "vae") is None


def test_without_folders_names_are_paths(tmp_path, monkeypatch):
    monkeypatch.delenv(MODELS_VARIABLE, raising=False)
    monkeypatch.setattr("nodegraph.settings.files.user_file", lambda: None)
    assert find_by_name("better", "vae") is None
    with pytest.raises(ValueError, match="found nothing"):
        find_vae("better", tmp_path)


def test_folders_are_those_of_the_config_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv(MODELS_VARIABLE, raising=False)
    file = tmp_path / "config.toml"
    monkeypatch.setattr("nodegraph.settings.files.user_file", lambda: file)
    assert model_dirs() == ()
    file.write_text(f'[cache]\nsize = "1 GB"\n[models]\ndirs = ["beside", {json.dumps(str(tmp_path / "there"))}]\n')
    assert model_dirs() == (tmp_path / "beside", tmp_path / "there")
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path / "other"))
    assert model_dirs() == (tmp_path / "other",)
    monkeypatch.delenv(MODELS_VARIABLE)
    for text, message in (
        ('[models]\ndirs = "one"', "expected a list of paths"),
        ("[models]\ndirs = [1]", "expected a list of paths"),
        ('[models]\ndir = "one"', r"'dir' in \[models\] of .* is not a setting\. Did you mean 'dirs'"),
        ("models = 1", "'models' in .* is not a table: expected .models. with 'dirs'"),
    ):
        file.write_text(text)
        with pytest.raises(SettingsError, match=message):
            model_dirs()


def test_models_lists_decoders_of_previews(tmp_path, monkeypatch):
    write(tmp_path / "vae_approx/taesdxl_decoder.safetensors", TAESD(TAESDConfig()).state_dict())
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    cli = Cli(tmp_path)
    assert "vae_approx/taesdxl_decoder: taesd, sdxl, F32, " in cli("models").stdout
    described = cli("models", "taesdxl_decoder").stdout.splitlines()
    assert described[1] == "  load it with --preview-decoder, for previews"
    assert cli("models", "taesdxl_decoder", "--json").json[0]["node"] is None


def test_models_lists_family_dtype_and_size(models, tmp_path):
    cli = Cli(tmp_path)
    lines = dict(line.split(": ", 1) for line in cli("models").stdout.splitlines() if not line.startswith(" "))
    size = (models / "checkpoints/SD1/dreamshaper_8.safetensors").stat().st_size
    assert lines["checkpoints/SD1/dreamshaper_8"] == f"model, sd1, F16, {size / 1e6:,.1f} MB"
    assert lines["checkpoints/dreamshaper_xl"] == (
        "cannot be loaded: expected a Stable Diffusion model, found a Flux model. nodegraph runs Stable Diffusion 1, 2 and XL."
    )
    assert lines["loras/better"].startswith("lora, sd1, F32, ")
    assert lines["embeddings/style"].startswith("embedding, sd1, F32, ")
    assert lines["controlnet/canny"].startswith("controlnet, unknown family, F32, ")
    assert lines["vae/better"].startswith("vae, sd1, sd2 or sdxl, F32, ")
    listed = {entry["model"]: entry for entry in cli("models", "--json").json}
    assert listed["loras/better"]["node"] == "LoadLora"
    assert listed["checkpoints/dreamshaper_xl"]["problem"].startswith("expected a Stable Diffusion model, found a Flux model")
    assert cli("models", "dreamshaper_8").stdout.startswith("dreamshaper_8: sd1, ldm layout")
    assert cli("models", "canny", "--json").json[0]["holds"] == "controlnet"
    assert "Did you mean one of" in cli("models", "dreamshaper").stderr


@pytest.mark.slow
def test_names_are_not_in_keys(models, tmp_path, monkeypatch):
    """The key is that of the content: the same file by path and by name, and another file under the same name."""
    monkeypatch.chdir(tmp_path)
    cli = Cli(tmp_path)
    workflow = "{nodegraph: 1, nodes: {v: {use: LoadVAE, vae: VAE}, e: {use: EmptyLatent, vae: $v}}, outputs: {o: {from: $e}}}"

    def is_known(vae):
        cli.write(workflow.replace("VAE}", f"{vae}" + "}"), "w.yaml")
        return cli("explain", "w.yaml", "--json").json["e"]["action"] != "run"

    assert not is_known("better")
    assert cli("run", cli.folder / "w.yaml").exit_code == 0
    assert is_known("better")
    assert is_known(models / "vae/better.safetensors")
    other = tmp_path / "other"
    shutil.copytree(models / "vae", other / "vae")
    monkeypatch.setenv(MODELS_VARIABLE, str(other))
    assert is_known("better")
    changed = {name: tensor + 1 for name, tensor in small.our_vae().state_dict().items()}
    write(other / "vae/better.safetensors", changed)
    assert not is_known("better")


EXTRA = """
comfyui:
    base_path: {base}
    is_default: true
    checkpoints: a1111/Stable-diffusion
    loras: |
        a1111/Lora
        a1111/LyCORIS
other:
    vae: other_vae
broken: 3
"""


def test_extra_model_paths_of_comfyui_are_read(tmp_path, monkeypatch):
    comfyui, base = tmp_path / "ComfyUI", tmp_path / "elsewhere"
    names = ("models/checkpoints/own.safetensors", "other_vae/v.safetensors")
    paths = [comfyui / name for name in names]
    paths += [
        base / "a1111" / name for name in ("Stable-diffusion/sd/extra.safetensors", "Lora/l.safetensors", "LyCORIS/m.safetensors")
    ]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    extra = comfyui / "extra_model_paths.yaml"
    extra.write_text(EXTRA.format(base=base))
    for setting in (comfyui, comfyui / "models"):
        monkeypatch.setenv(MODELS_VARIABLE, str(setting))
        found = {entry.path.name: entry.holds for entry in catalogue()}
        assert found == {
            "own.safetensors": "model",
            "extra.safetensors": "model",
            "l.safetensors": "lora",
            "m.safetensors": "lora",
            "v.safetensors": "vae",
        }
        assert find_by_name("sd/extra.safetensors", "model") == paths[2]
    monkeypatch.setenv(MODELS_VARIABLE, str(extra))
    assert "own.safetensors" not in {entry.path.name for entry in catalogue()}
    for text in ("[", "- a", "a: [1, 2"):
        extra.write_text(text)
        with pytest.raises(SettingsError, match=r"extra_model_paths\.yaml"):
            catalogue()
