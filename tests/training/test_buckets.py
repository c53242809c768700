"""Training at several aspect ratios: each batch has pictures of one size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from nodegraph_nodes.models.parts import load_vae_network
from nodegraph_training.data.folder import find_folder
from nodegraph_training.nodes.adapters import train_control_net, train_lora, train_textual_inversion
from nodegraph_training.nodes.autoencoders import train_autoencoder
from nodegraph_training.nodes.data import image_folder
from nodegraph_training.training.latents import latents_of
from nodegraph_training.types import DataSet
from tests.support.recording_run import RecordingRun

SHAPES = [(80, 20), (20, 80), (20, 20), (84, 20), (22, 20)]


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    for index, size in enumerate(SHAPES):
        Image.effect_noise(size, 60 + index).convert("RGB").save(tmp_path / f"{index}.png")
    return image_folder(find_folder(".", tmp_path).value, side=16, buckets=True, caption="a cat")


def test_latents_have_the_size_of_their_bucket(data, vae, tmp_path):
    network = load_vae_network(vae, RecordingRun())
    first = latents_of(data.pictures, network, tmp_path)
    again = latents_of(data.pictures, network, tmp_path)  # from the file
    for index in range(len(SHAPES)):
        pixels = torch.from_numpy(data.pictures.pixels(index).copy())[None].permute(0, 3, 1, 2) / 127.5 - 1
        with torch.no_grad():
            expected = network.encode(pixels)[0][0] * network.config.scaling_factor
        torch.testing.assert_close(first[index], expected)
        assert torch.equal(first[index], again[index])
    assert {shape[1:] for shape in first.shapes} == {(4, 16), (16, 4), (8, 8)}
    order = first.order(2, seed=0)
    batches = [order.indices(number) for number in range(3)]
    assert all(len({first.shapes[index] for index in batch}) == 1 for batch in batches)
    assert sorted(index for batch in batches for index in batch) == [*range(len(SHAPES))]


@pytest.mark.slow
def test_model_is_trained_at_several_sizes(data, unet, vae, text_encoder):
    for train in (train_lora, train_control_net, train_textual_inversion):
        trained = train(unet, vae, text_encoder, data, steps=4, batch=2, **({"start": "cat"} if "text" in train.__name__ else {}))
        assert all(tensor.isfinite().all() for tensor in trained.tensors.values())


def test_autoencoders_learn_squares_only(data):
    with pytest.raises(ValueError, match="expected squares of one size, found pictures of several aspect ratios"):
        train_autoencoder(data, steps=1, channels=8, levels=[1, 2])
