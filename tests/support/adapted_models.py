"""Workflows with each kind of adapted UNet, and the small models that they need."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from nodegraph import Workflow
from nodegraph_diffusion.checkpoint import describe
from nodegraph_diffusion.networks.controlnet import ControlNet
from nodegraph_nodes.types import Image, Mask
from tests.support import small_model
from tests.support import synthetic_checkpoints as synthetic

UNET = "diffusion_pytorch_model.safetensors"


def save_models(folder: Path) -> Path:
    """The small model, with UNets for inpainting and for changes by instructions, a LoRA and ControlNets beside it."""
    small_model.save_small_model(folder / "model")
    for name, channels in (("inpaint", 9), ("pix2pix", 8)):
        shutil.copytree(folder / "model" / "unet", folder / name)
        config = json.loads((folder / name / "config.json").read_text())
        (folder / name / "config.json").write_text(json.dumps({**config, "in_channels": channels}))
        tensors = load_file(folder / name / UNET)
        tensors["conv_in.weight"] = synthetic.draw("conv_in.weight", [16, channels, 3, 3])
        save_file(tensors, folder / name / UNET)
    module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    text = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    shapes = {f"{module}.lora_up.weight": [16, 2], f"{module}.lora_down.weight": [2, 32]}
    shapes |= {f"{text}.lora_up.weight": [32, 2], f"{text}.lora_down.weight": [2, 32]}
    save_file({name: synthetic.draw(name, shape) for name, shape in shapes.items()}, folder / "lora.safetensors")
    single = small_model.save_single_file(folder / "single.safetensors")
    network = ControlNet(describe(single).unet().config)
    synthetic.fill(network)
    state = {name: value.detach().contiguous() for name, value in network.state_dict().items()}
    save_file(state, folder / "control.safetensors")
    save_file({**state, "difference": torch.ones(())}, folder / "difference.safetensors")
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
    return folder


PICTURE = Image(torch.linspace(0, 1, 32 * 32 * 3).reshape(1, 32, 32, 3))


class Parts:
    """The values from which a workflow denoises, and the files that they come from."""

    def __init__(self, w: Workflow, folder: Path, model: str) -> None:
        self.w, self.folder = w, folder
        self.model = w.add("LoadModel", name="model", model=str(folder / model))
        self.unet, self.text_encoder = self.model.unet, self.model.text_encoder

    def lora(self) -> None:
        file = str(self.folder / "lora.safetensors")
        adapted = self.w.add("LoadLora", name="adapted", unet=self.unet, text_encoder=self.text_encoder, file=file)
        self.unet, self.text_encoder = adapted.unet, adapted.text_encoder

    def control(self, name: str = "control.safetensors", **base: object) -> None:
        control = self.w.add("LoadControlNet", name="control", file=str(self.folder / name), **base)
        self.unet = self.w.add("ApplyControlNet", name="adapted", unet=self.unet, control_net=control, image=PICTURE)

    def difference(self) -> None:
        self.control("difference.safetensors", unet=self.unet)

    def inpaint(self) -> None:
        unet = self.w.add("LoadUNet", name="unet", unet=str(self.folder / "inpaint"))
        mask = Mask(torch.ones(1, 32, 32))
        self.unet = self.w.add("ApplyInpaint", name="adapted", unet=unet, vae=self.model.vae, image=PICTURE, mask=mask)

    def pix2pix(self) -> None:
        unet = self.w.add("LoadUNet", name="unet", unet=str(self.folder / "pix2pix"))
        encoded = self.w.add("VAEEncode", vae=self.model.vae, image=PICTURE)
        self.unet = self.w.add("ApplyPix2Pix", name="adapted", unet=unet, latent=encoded)

    def plain(self) -> None: ...


KINDS: dict[str, Callable[[Parts], None]] = {
    "plain": Parts.plain,
    "LoadLora": Parts.lora,
    "ApplyControlNet": Parts.control,
    "ApplyControlNet, a difference": Parts.difference,
    "ApplyInpaint": Parts.inpaint,
    "ApplyPix2Pix": Parts.pix2pix,
}


def workflow(folder: Path, kind: str, prompt: str) -> Workflow:
    w = Workflow("w")
    parts = Parts(w, folder, "single.safetensors" if "Control" in kind else "model")
    KINDS[kind](parts)
    prompts = [w.add("TextEncode", text_encoder=parts.text_encoder, text=text) for text in (prompt, "a boat")]
    denoiser = w.add("UNetDenoise", name="denoiser", unet=parts.unet, positive=prompts[0], negative=prompts[1])
    latent = w.add("EmptyLatent", vae=parts.model.vae, width=32, height=32)
    drawn = w.add("Noise", like=latent, seed=1)
    sampled = w.add("Sampler", name="sampled", denoiser=denoiser, latent=latent, noise=drawn, steps=2, sampler="euler")
    w.output("latent", sampled)
    return w
