"""Networks of opened models, for training: in float32, and free to be changed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from nodegraph_diffusion.adapters.lora.patch import patch_in_place
from nodegraph_diffusion.checkpoint import load_text_encoder, load_unet, load_vae
from nodegraph_diffusion.checkpoint.detect.trained import network_config
from nodegraph_diffusion.networks.classifier import NoisyClassifier
from nodegraph_diffusion.networks.clip import CLIPVisionModel
from nodegraph_diffusion.networks.config import CLIPVisionConfig, UNetConfig
from nodegraph_diffusion.text.encode import Reader
from nodegraph_diffusion.text.tokenizer import Tokenizer, load_tokenizer
from nodegraph_diffusion.training.loop.seeds import derived_seed
from nodegraph_nodes.models.errors import file_errors
from nodegraph_nodes.models.text_encoders import load_text_tokenizer

if TYPE_CHECKING:
    from nodegraph import Run
    from nodegraph_diffusion.networks.clip import CLIPTextModel
    from nodegraph_diffusion.networks.unet import UNet
    from nodegraph_diffusion.networks.vae import AutoencoderKL
    from nodegraph_nodes.types import VAE, TextEncoder, UNetModel
    from nodegraph_training.types import TrainedClassifier, TrainedImageEncoder

T = TypeVar("T", bound=Any)


def own_unet(unet: UNetModel, run: Run) -> UNet:
    """A copy of a UNet with its patches. Raises ValueError if it has a ControlNet or a picture, which training would ignore."""
    if unet.controls or unet.concat is not None:
        raise ValueError(
            "unet: expected a UNet without ControlNets and pictures, found one with them; train the UNet as it was loaded"
        )
    with file_errors():
        network = load_unet(unet.part, run.device, torch.float32)
        return patch_in_place(network, "unet", [(patch.lora, patch.strength) for patch in unet.patches])


def own_vae(vae: VAE, run: Run) -> AutoencoderKL:
    """A copy of an autoencoder."""
    with file_errors():
        return load_vae(vae.part, run.device, torch.float32)


def own_text_encoder(encoder: TextEncoder, run: Run, index: int = 0) -> CLIPTextModel:
    """A copy of one of the text encoders of a model, with its patches."""
    part = encoder.opened[index].part
    with file_errors():
        network = load_text_encoder(part, run.device, torch.float32)
        return patch_in_place(network, part.weights.part, [(patch.lora, patch.strength) for patch in encoder.patches])


def own_readers(encoder: TextEncoder, run: Run) -> list[Reader]:
    """Copies of all text encoders of a model, with their tokenizers and words."""
    return [
        Reader(
            own_text_encoder(encoder, run, index),
            load_text_tokenizer(encoder, run, index),
            {name: vectors[index] for name, vectors in encoder.embeddings.items()},
        )
        for index in range(len(encoder.parts))
    ]


def own_classifier(classifier: TrainedClassifier, run: Run) -> NoisyClassifier:
    """A copy of a classifier of noisy latents, which does not change any more."""
    config, classes = network_config(UNetConfig, classifier.settings), len(classifier.settings["classes"])
    network = built(lambda: NoisyClassifier(config, classes), 0, run)
    network.load_state_dict(dict(classifier.tensors))
    return network.eval().requires_grad_(False)


def own_image_encoder(encoder: TrainedImageEncoder, run: Run) -> CLIPVisionModel:
    """A copy of CLIP's image encoder, which does not change any more."""
    config = network_config(CLIPVisionConfig, encoder.settings)
    network = built(lambda: CLIPVisionModel(config), 0, run)
    network.load_state_dict(dict(encoder.tensors))
    return network.eval().requires_grad_(False)


def built(build: Callable[[], T], seed: int, run: Run) -> T:
    """New networks, whose first weights follow from the seed."""
    with torch.random.fork_rng([]):
        torch.manual_seed(derived_seed(seed, "weights"))
        made = build()
    for network in made if isinstance(made, tuple) else (made,):
        network.to(run.device)
    return made


def tokenizer_of(files: Mapping[str, str]) -> Tokenizer:
    """The tokenizer in these files, by name."""
    with tempfile.TemporaryDirectory(prefix="nodegraph-") as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        return load_tokenizer(Path(folder))
