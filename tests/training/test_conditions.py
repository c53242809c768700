"""Denoisers under other conditions than text: labels, boxes, maps, smaller pictures, nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

from nodegraph.cli import main
from nodegraph_diffusion.beside import map_channels, map_picture, picture_channels, picture_side, read_map
from nodegraph_diffusion.checkpoint import CheckpointError, describe, load_unet
from nodegraph_diffusion.networks.unet import LabelTokens, UNet, UNetConfig
from nodegraph_diffusion.recipes.pictureworld import CLASSES, KINDS
from nodegraph_nodes.models.extra_channels import extra_channels
from nodegraph_nodes.nodes.concat import apply_map, apply_small_picture
from nodegraph_nodes.nodes.labels import label_condition, no_condition
from nodegraph_nodes.nodes.latent import empty_latent, noise, vae_encode
from nodegraph_nodes.nodes.sampling import sampler, unet_denoise
from nodegraph_nodes.nodes.text import text_encode
from nodegraph_nodes.trained.codec import TrainedCodec
from nodegraph_nodes.trained.models import TrainedUNet
from nodegraph_nodes.types import Image
from nodegraph_training.nodes.data import drawn_picture, picture_world
from nodegraph_training.nodes.denoisers import train_denoiser
from nodegraph_training.nodes.pixels import empty_pixels, pixels_to_image
from nodegraph_training.training.conditions import beside_of, kind_of, label_rows
from tests.support.small_training import SMALL

TINY = {"channels": 16, "levels": [1], "depth": [1], "batch": 2}


def write(unet: TrainedUNet, path: Path) -> Path:
    path.write_bytes(TrainedCodec(TrainedUNet).export(unet)[0])
    return path


def test_repeated_labels_are_the_same_as_each_once():
    """Why pictures with one, two and three labels can share a batch."""
    torch.manual_seed(0)
    config = UNetConfig(
        model_channels=16,
        channel_mult=(1,),
        num_res_blocks=1,
        transformer_depth=(1,),
        num_heads=2,
        context_dim=8,
        norm_groups=4,
        labels=("a", "b", "c"),
        box_frequencies=2,
    )
    unet = UNet(config)
    torch.nn.init.normal_(unet.get_parameter("out.2.weight"))
    torch.nn.init.normal_(unet.get_parameter("middle_block.1.proj_out.weight"))
    labels = torch.tensor([[[0, 0.1, 0.2, 0.5, 0.6], [2, 0.5, 0.5, 1.0, 1.0]]])
    x, t = torch.randn(1, 4, 4, 4), torch.tensor([7.0])
    torch.testing.assert_close(unet(x, t, labels.repeat(1, 3, 1)), unet(x, t, labels))
    assert not torch.allclose(unet(x, t, labels), unet(x, t, labels[:, :1]))
    moved = labels.clone()
    moved[0, 0, 1] = 0.3
    assert not torch.allclose(unet(x, t, labels), unet(x, t, moved))


def test_tokens_without_frequencies_ignore_boxes():
    tokens = LabelTokens(3, None, 8)
    here, there = torch.tensor([[[1, 0.0, 0.0, 1.0, 1.0]]]), torch.tensor([[[1, 0.2, 0.2, 0.4, 0.4]]])
    assert torch.equal(tokens(here), tokens(there))
    assert torch.equal(tokens(here)[0, 0], tokens.classes.weight[1])


def test_maps_are_seen_as_shares_of_classes():
    labels = torch.randint(0, 3, (2, 16, 16))
    channels = map_channels(labels, 3, (2, 2))
    assert channels.shape == (2, 12, 2, 2)
    assert float(channels[1, 3 * 0 + 4, 0, 1]) == float(
        (labels[1, :4, 8:12] == 1).float().mean()
    )  # class 1, the first part of a cell
    torch.testing.assert_close(channels.sum(1), torch.full((2, 2, 2), 4.0))  # four parts, in each of which the shares add up to 1
    assert torch.equal(read_map(map_picture(labels, 24), 24), labels)


def test_smaller_pictures_are_spread_over_cells():
    pixels, deviation = torch.randn(2, 3, 8, 8), torch.tensor([0.0, 0.3])
    noise = torch.randn(2, 3, 8, 8)
    channels = picture_channels(pixels, (4, 4), deviation, noise)
    assert picture_side(channels.shape[1], 4) == 8
    torch.testing.assert_close(F.pixel_shuffle(channels[:, :-1], 2)[0], pixels[0])
    torch.testing.assert_close(F.pixel_shuffle(channels[:, :-1], 2)[1], pixels[1] + 0.3 * noise[1])
    assert torch.equal(channels[:, -1], deviation[:, None, None].expand(2, 4, 4))


def test_data_sets_have_conditions():
    data = picture_world(count=12, side=32).pictures
    rows = label_rows("layout", data, KINDS)
    assert rows.shape == (12, 6, 5)
    for index, row in enumerate(rows):
        things = data.scene(index).things
        assert {KINDS[int(label)] for label in row[:, 0]} == {thing.kind for thing in things} if things else True
    beside = beside_of("map", data)
    channels = beside([3], (4, 4), None)
    assert channels.shape == (1, 4 * len(CLASSES), 4, 4)
    shares = torch.bincount(torch.from_numpy(data.class_map(3)).flatten().long(), minlength=len(CLASSES)) / 32**2
    torch.testing.assert_close(channels[0].unflatten(0, (len(CLASSES), 4)).mean((1, 2, 3)), shares)
    small = beside_of("half", data)
    assert float(small([0], (4, 4), None)[0, -1].max()) == 0
    generator = torch.Generator().manual_seed(0)
    assert float(small([0], (4, 4), generator)[0, -1].min()) > 0


def test_config_says_which_condition_it_is():
    base = UNetConfig()
    assert kind_of(base, 8, text=True) == "text"
    assert kind_of(base, 8, text=False) == "none"
    assert kind_of(dataclasses.replace(base, labels=("a",)), 8, text=False) == "class"
    assert kind_of(dataclasses.replace(base, labels=("a",), box_frequencies=4), 8, text=False) == "layout"
    assert kind_of(dataclasses.replace(base, beside="map", in_channels=100), 8, text=False) == "map"
    assert kind_of(dataclasses.replace(base, beside="picture", in_channels=4 + 49), 8, text=False) == "half"
    assert kind_of(dataclasses.replace(base, beside="picture", in_channels=4 + 13), 8, text=False) == "quarter"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ()}, "labels must be different names, at least one, got none"),
        ({"labels": ("a", "a")}, "labels must be different names, at least one, got a, a"),
        ({"box_frequencies": 4}, "box_frequencies 4 are for the boxes of labels"),
        ({"beside": "map"}, "a map beside the latent needs more channels in than out, got 4 and 4"),
    ],
)
def test_impossible_configs(changes, message):
    with pytest.raises(ValueError, match=message):
        UNetConfig(**changes)


@pytest.fixture(scope="module")
def labelled(vae) -> TrainedUNet:
    return train_denoiser(picture_world(**SMALL), vae, condition="layout", steps=1, **TINY)


def test_labels_are_asked_for(labelled):
    asked = label_condition(labelled, "cat", left=0.5, top=0.25)
    asked = label_condition(labelled, "boat", others=asked)
    expected = [[KINDS.index("cat"), 0.5, 0.25, 1.0, 1.0], [KINDS.index("boat"), 0.0, 0.0, 1.0, 1.0]]
    assert torch.equal(asked.prompts[0].embedding, torch.tensor([expected]))
    assert float(no_condition(labelled).prompts[0].embedding[0, 0, 0]) == len(KINDS) + 1
    with pytest.raises(ValueError, match=r"label: expected a class of this UNet \(house, tree.*found 'dog'; choose one"):
        label_condition(labelled, "dog")
    with pytest.raises(ValueError, match=r"box: expected left before right .* found 0.5 to 0.5"):
        label_condition(labelled, "cat", left=0.5, right=0.5)


def test_wrong_conditions_say_what_to_give(labelled, unet, vae, text_encoder):
    text = text_encode(text_encoder, "a cat")
    with pytest.raises(ValueError, match="positive: expected labels, which this UNet attends to, found a text"):
        unet_denoise(labelled, text, text)
    with pytest.raises(ValueError, match="unet: expected one that was trained with labels, found one without"):
        label_condition(unet, "cat")
    with pytest.raises(ValueError, match="others: expected labels, found other conditioning"):
        label_condition(labelled, "cat", others=text)
    with pytest.raises(ValueError, match="unet: expected one that sees a map beside the latent, found one without"):
        apply_map(labelled, Image(torch.zeros(1, 16, 16, 3)))
    with pytest.raises(ValueError, match="condition: expected 'layout', with which this UNet was trained, found 'none'"):
        train_denoiser(picture_world(**SMALL), vae, condition="none", unet=labelled, steps=1)
    with pytest.raises(ValueError, match="condition: expected a text_encoder and a vae for captions"):
        train_denoiser(picture_world(**SMALL), vae, steps=1)
    with pytest.raises(ValueError, match="condition: expected an autoencoder with at least 4 pixels per cell"):
        train_denoiser(picture_world(**SMALL), vae, condition="quarter", steps=1)


def test_files_of_conditioned_networks_are_read_again(labelled, tmp_path):
    """The file has all that is needed, and `nodegraph models` names the kind."""
    file = write(labelled, tmp_path / "layout.safetensors")
    found = describe(file).unet()
    assert found.config == labelled.part.config
    assert found.noise_schedule == labelled.part.noise_schedule
    assert found.latent == labelled.part.latent
    weights = load_unet(found, "cpu", torch.float32).state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in labelled.tensors.items())
    listed = CliRunner().invoke(main, ["models", str(file)], catch_exceptions=False)
    assert listed.exit_code == 0
    assert "labels in boxes (12 classes)" in listed.output
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(file.read_bytes().replace(b'box_frequencies\\": 8', b'box_frequencies\\": 0'))
    with pytest.raises(CheckpointError, match="the settings of a network that a node trained"):
        describe(damaged).unet()


def test_networks_of_other_conditions_are_not_written_for_diffusers(labelled, vae, text_encoder, tmp_path):
    from nodegraph_training.nodes.evaluate import export_model

    with pytest.raises(ValueError, match="unet: expected one that receives text alone, since diffusers has no others"):
        export_model(labelled, vae, text_encoder, "model")


def test_pictures_without_an_autoencoder():
    unet = train_denoiser(picture_world(**SMALL), condition="none", steps=1, **{**TINY, "channels": 24})
    latent = empty_pixels(16, 16, 2)
    nothing = no_condition(unet)
    painted = sampler(unet_denoise(unet, nothing, nothing, cfg=1.0), latent, noise(latent, 0), steps=1)
    assert pixels_to_image(painted).pixels.shape == (2, 16, 16, 3)
    with pytest.raises(ValueError, match="latent: expected one of an autoencoder with 3 channels"):
        pixels_to_image(dataclasses.replace(latent, space=dataclasses.replace(latent.space, channels=4)))


@pytest.mark.slow
@pytest.mark.parametrize("condition", ["map", "half"])
def test_channels_beside_the_latent(condition, vae):
    data = picture_world(**SMALL)
    unet = train_denoiser(data, vae, condition=condition, steps=1, **TINY)
    drawn, nothing = drawn_picture(data, 1), no_condition(unet)
    with pytest.raises(ValueError, match=r"unet: expected a UNet that was given a (map|picture)"):
        unet_denoise(unet, nothing, nothing)
    small = Image(drawn.image.pixels.unfold(1, 2, 2).unfold(2, 2, 2).mean((-1, -2)))
    conditioned = apply_map(unet, drawn.map) if condition == "map" else apply_small_picture(unet, small)
    expected = beside_of(condition, data.pictures)([1], (8, 8), None)
    found = extra_channels(conditioned)["concat"]
    torch.testing.assert_close(found, expected, atol=0.005, rtol=0)  # pixels of smaller pictures are rounded there
    latent = empty_latent(vae, 16, 16)
    painted = sampler(unet_denoise(conditioned, nothing, nothing, cfg=1.0), latent, noise(latent, 0), steps=1)
    assert painted.samples.shape == latent.samples.shape
    if condition == "map":
        with pytest.raises(ValueError, match="image: expected a map whose sides are multiples of 2"):
            apply_map(conditioned, Image(torch.zeros(1, 15, 15, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("condition", ["layout", "map"])
def test_conditions_are_learned(condition, vae):
    """A few pictures are learned by heart: each latent comes back from noise under its condition."""
    data = picture_world(count=2, side=16, things=1, seed=3)
    sizes = {"channels": 16, "levels": [1], "depth": [1], "batch": 8}
    unet = train_denoiser(data, vae, condition=condition, steps=80, learning_rate=5e-3, dropout=0.1, weighting="simple", **sizes)
    wanted = [vae_encode(vae, Image(torch.from_numpy(data.pictures.pixels(i))[None].float() / 255)).samples for i in (0, 1)]
    apart = float((wanted[0] - wanted[1]).square().mean())
    nothing, latent = no_condition(unet), empty_latent(vae, 16, 16)
    for index in (0, 1):
        conditioned, positive = unet, nothing
        if condition == "layout":
            box = data.pictures.boxes(index)[0]
            positive = label_condition(unet, KINDS[box.label], box.left, box.top, right=box.right, bottom=box.bottom)
        else:
            conditioned = apply_map(unet, drawn_picture(data, index).map)
        painted = sampler(unet_denoise(conditioned, positive, nothing, cfg=1.0), latent, noise(latent, index), steps=10).samples
        errors = [float((painted - each).square().mean()) for each in wanted]
        assert errors[index] < 0.6 * apart < errors[1 - index], (errors, apart)
