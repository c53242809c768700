"""Loading is files -> detect -> load: a run describes each file once, whatever its nodes do with it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nodegraph import Engine, Workflow
from nodegraph_diffusion.checkpoint import Description, describe
from nodegraph_diffusion.checkpoint.detect import description
from nodegraph_diffusion.checkpoint.files.header import HeaderCache
from nodegraph_diffusion.checkpoint.layouts.configs import write_unet
from nodegraph_diffusion.checkpoint.layouts.controlnet import controlnet_modules
from nodegraph_diffusion.checkpoint.layouts.modules import rename
from nodegraph_diffusion.networks.controlnet import ControlNet
from tests.support import small_model
from tests.support import synthetic_checkpoints as synthetic

LORA = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.diff": [32, 64],
    "lora_te_text_model_encoder_layers_0_self_attn_q_proj.diff": [64, 64],
}
WORKFLOW = """\
nodegraph: 1
nodes:
  model: {use: LoadModel, model: model.safetensors}
  adapted: {use: LoadLora, unet: $model.unet, text_encoder: $model.text_encoder, file: lora.safetensors, strength_text: 0.5}
  words: {use: LoadEmbedding, text_encoder: $adapted.text_encoder, file: style.safetensors, word: style}
  control: {use: LoadControlNet, file: control}
  latent: {use: EmptyLatent, vae: $model.vae, width: 64, height: 64}
  hint: {use: VAEDecode, vae: $model.vae, latent: $latent}
  guided: {use: ApplyControlNet, unet: $adapted.unet, control_net: $control, image: $hint}
  positive: {use: TextEncode, text_encoder: $words, text: "a red house embedding:style"}
  negative: {use: TextEncode, text_encoder: $words, text: ""}
  denoiser: {use: UNetDenoise, unet: $guided, positive: $positive, negative: $negative}
  noise: {use: Noise, like: $latent, seed: 1}
  sampled: {use: Sampler, denoiser: $denoiser, latent: $latent, noise: $noise, steps: 2}
  picture: {use: VAEDecode, vae: $model.vae, latent: $sampled}
outputs:
  picture: {from: $picture}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint, a LoRA, an embedding and a ControlNet that fit each other."""
    model = small_model.save_single_file(tmp_path / "model.safetensors")
    save_file({name: synthetic.draw(name, shape) for name, shape in LORA.items()}, tmp_path / "lora.safetensors")
    save_file({"emb_params": synthetic.draw("style", [2, 64])}, tmp_path / "style.safetensors")
    network = ControlNet(describe(model).unet().config)
    synthetic.fill(network)
    names = controlnet_modules(network.config)
    state = {rename(key, names): value.detach().contiguous() for key, value in network.state_dict().items()}
    (tmp_path / "control").mkdir()
    save_file(state, tmp_path / "control" / "diffusion_pytorch_model.safetensors")
    (tmp_path / "control" / "config.json").write_text(json.dumps(write_unet(network.config, 8)))
    return tmp_path


@pytest.fixture
def described(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file or folder is described."""
    counts: Counter[str] = Counter()

    def counted(path: Path, headers: HeaderCache, describe_path: Callable[..., Description]) -> Description:
        counts[path.relative_to(folder).as_posix()] += 1
        return describe_path(path, headers)

    for name in ("_describe_file", "_describe_folder"):
        monkeypatch.setattr(description, name, partial(counted, describe_path=getattr(description, name)))
    return counts


def test_run_describes_each_file_once(folder, described, tmp_path):
    flow = Workflow.parse(WORKFLOW, base=folder)
    with Engine(tmp_path / "cache") as engine:
        picture = engine.run(flow)["picture"]
    assert torch.isfinite(picture.pixels).all()
    assert described == {"model.safetensors": 1, "lora.safetensors": 1, "style.safetensors": 1, "control": 1}
