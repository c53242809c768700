"""Guidance by a classifier that a node trained."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from PIL import Image as pillow
from torch import Tensor

from nodegraph_diffusion.networks.classifier import NoisyClassifier
from nodegraph_diffusion.networks.config import LatentSpace, UNetConfig
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.testing import GaussianDenoiser
from nodegraph_nodes.nodes.latent import vae_encode
from nodegraph_nodes.nodes.sampling import sampler
from nodegraph_nodes.trained.models import TrainedVAE
from nodegraph_nodes.types import Denoiser, Image, Latent, Noise
from nodegraph_training.data.folder import find_folder
from nodegraph_training.nodes.autoencoders import train_autoencoder
from nodegraph_training.nodes.classifiers import classifier_guidance, train_classifier
from nodegraph_training.nodes.data import image_folder
from nodegraph_training.types import DataSet, TrainedClassifier

COLOURS = {"blue": (20, 40, 220), "red": (220, 40, 20)}
SIDE, SIGMA = 16, 1.5
SPACE = LatentSpace(channels=4, factor=2, scaling_factor=1.0)
X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> DataSet:
    """Red pictures in one folder, blue ones in another."""
    folder = tmp_path_factory.mktemp("colours")
    for name, colour in COLOURS.items():
        (folder / name).mkdir()
        for shade in range(4):
            pillow.new("RGB", (SIDE, SIDE), tuple(part + 8 * shade for part in colour)).save(folder / name / f"{shade}.png")
    return image_folder(find_folder(".", folder).value, side=SIDE, caption="a colour")


@pytest.fixture(scope="module")
def vae(data) -> TrainedVAE:
    return train_autoencoder(data, steps=1, channels=8, levels=[1, 2], batch=2)


@pytest.fixture(scope="module")
def classifier(data, vae) -> TrainedClassifier:
    """One that has learned next to nothing."""
    return train_classifier(data, vae, steps=1, channels=16, levels=[1], batch=2)


def plain(classifier: TrainedClassifier) -> Denoiser:
    """The denoiser of standard normal latents."""
    return Denoiser(GaussianDenoiser(0.0, 1.0), LatentSpace(*classifier.settings["latent"]))


def log_probability(classifier: TrainedClassifier, label: str, latent: Tensor, sigma: float) -> Tensor:
    """log p(label | latent) of each latent with this noise, from the network alone."""
    config = {name: tuple(value) if isinstance(value, list) else value for name, value in classifier.settings["config"].items()}
    network = NoisyClassifier(UNetConfig(**config), 2)
    network.load_state_dict(dict(classifier.tensors))
    step = NoiseSchedule().timestep(sigma)
    logits = network.eval()(latent / (1 + sigma**2) ** 0.5, step.expand(len(latent)))
    return logits.log_softmax(1)[:, [*COLOURS].index(label)]


def test_estimate_moves_up_the_gradient_of_the_classifier(classifier):
    """Dhariwal & Nichol 2021, Alg. 2, for denoised latents, against finite differences."""
    denoiser, state = plain(classifier), torch.get_rng_state()
    moved = classifier_guidance(denoiser, classifier, "red", scale=2.0).function(X, SIGMA) - denoiser.function(X, SIGMA)
    assert torch.equal(torch.get_rng_state(), state)  # results of nodes that draw from the global generator are not kept
    direction = torch.randn(X.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ahead, behind = (log_probability(classifier, "red", X + by * direction, SIGMA) for by in (1e-2, -1e-2))
    slope = (moved * direction).sum((1, 2, 3)) / (2.0 * SIGMA**2)
    torch.testing.assert_close(slope, (ahead - behind) / 2e-2, rtol=2e-2, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("label", COLOURS)
def test_guided_latents_are_of_the_class(vae, data, label):
    """Unguided, they are noise of no class; guided, each is nearer to the mean latent of its class than to that of the other."""
    classifier = train_classifier(data, vae, steps=60, channels=16, levels=[1], batch=8, learning_rate=3e-3)
    means = {}
    for name, colour in COLOURS.items():
        pixels = torch.tensor(colour).div(255).expand(1, SIDE, SIDE, 3)
        means[name] = vae_encode(vae, Image(pixels)).samples
    guided = classifier_guidance(plain(classifier), classifier, label, scale=20.0)
    start = Latent(torch.zeros_like(X), (SIDE, SIDE), guided.latent)
    painted = sampler(guided, start, Noise(X, seed=0), steps=10, sampler="euler").samples
    (other,) = {*COLOURS} - {label}
    closer = ((painted - means[other]).square() - (painted - means[label]).square()).sum((1, 2, 3))
    assert (closer > 0).all()


@pytest.mark.parametrize(
    ("changes", "label", "message"),
    [
        ({}, "green", r"label: expected a class of this classifier \(blue, red\), found 'green'"),
        (
            {"latent": LatentSpace(16, 8, 0.3)},
            "red",
            r"classifier: expected one of latents of .* 16 channels.* with the VAE of this",
        ),
    ],
)
def test_wrong_uses_are_refused(classifier, changes, label, message):
    with pytest.raises(ValueError, match=message):
        classifier_guidance(dataclasses.replace(plain(classifier), **changes), classifier, label)
