"""Fixtures: a model whose networks were trained for a step each."""

from __future__ import annotations

import pytest

from nodegraph_nodes.trained.models import TrainedTextEncoder, TrainedUNet, TrainedVAE
from nodegraph_training.nodes.autoencoders import train_autoencoder
from nodegraph_training.nodes.data import picture_world
from nodegraph_training.nodes.denoisers import train_denoiser
from nodegraph_training.nodes.text_encoders import train_clip
from tests.support.small_training import SMALL


@pytest.fixture(autouse=True)
def _small_previews(monkeypatch):
    monkeypatch.setattr("nodegraph_training.training.denoising.PREVIEW_STEPS", 1)


@pytest.fixture(scope="session")
def vae() -> TrainedVAE:
    return train_autoencoder(picture_world(**SMALL), steps=1, channels=8, levels=[1, 2], batch=2)


@pytest.fixture(scope="session")
def text_encoder() -> TrainedTextEncoder:
    return train_clip(picture_world(**SMALL), steps=1, width=16, layers=1, batch=2, patch=8).text_encoder


@pytest.fixture(scope="session")
def unet(vae, text_encoder) -> TrainedUNet:
    return train_denoiser(picture_world(**SMALL), vae, text_encoder, steps=1, channels=16, levels=[1], depth=[1], batch=2)
