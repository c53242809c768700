"""Measures of painted pictures, against closed forms and on drawn pictures."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import norm

from nodegraph_diffusion.checkpoint import load_vae
from nodegraph_diffusion.networks.vector_quantiser import AutoencoderVQ
from nodegraph_diffusion.recipes.pictureworld import LabelledBox, draw, draw_with_map, layout, scene
from nodegraph_diffusion.recipes.pictureworld.judges.boxes import overlap, overlaps
from nodegraph_diffusion.recipes.pictureworld.judges.maps import agreement
from nodegraph_diffusion.recipes.pictureworld.judges.matched_filter import boxes_by_templates
from nodegraph_nodes.nodes.latent import vae_decode, vae_encode
from nodegraph_nodes.trained.models import TrainedVAE
from nodegraph_nodes.types import Image, Latent, Mask
from nodegraph_training.nodes.autoencoders import train_autoencoder
from nodegraph_training.nodes.classifiers import clip_guidance
from nodegraph_training.nodes.data import picture_world
from nodegraph_training.nodes.denoisers import train_denoiser
from nodegraph_training.nodes.evaluate import (
    compare_pictures,
    evaluate,
    evaluate_autoencoder,
    frechet_distance,
    judge_pictures,
)
from nodegraph_training.nodes.text_encoders import train_clip
from nodegraph_training.training.distance import BLOCKS, blurred, half_shuffled
from nodegraph_training.training.evaluation import diversity, judged
from tests.support.small_training import SMALL


def box(left: float, top: float, right: float, bottom: float, label: int = 0) -> LabelledBox:
    return LabelledBox(label=label, left=left, top=top, right=right, bottom=bottom)


def test_overlap_of_boxes():
    assert overlap(box(0, 0, 1, 1), box(0, 0, 1, 1)) == 1
    assert overlap(box(0, 0, 1, 1), box(0, 0, 0.5, 0.5)) == 0.25
    assert overlap(box(0, 0, 0.5, 1), box(0.25, 0, 0.75, 1)) == pytest.approx(1 / 3)
    assert overlap(box(0, 0, 0.5, 0.5), box(0.5, 0.5, 1, 1)) == 0


def test_boxes_are_assigned_as_well_as_possible():
    demanded = [box(0, 0, 1, 1), box(0, 0, 0.5, 1)]
    assert overlaps(demanded, [box(0, 0, 0.5, 1), box(0, 0, 1, 1)]) == [1, 1]
    assert overlaps(demanded, [box(0, 0, 0.5, 1, label=1), box(0, 0, 1, 1)]) == [1, 0]  # another label counts as nothing
    assert overlaps(demanded, []) == [0, 0]
    assert overlaps([], demanded) == []


@pytest.mark.slow
def test_boxes_of_drawn_things_are_found():
    scenes = [scene(7, index, count=1 + index % 3) for index in range(3)]
    found = boxes_by_templates(np.stack([draw(each) for each in scenes]))
    values = [value for each, boxes in zip(scenes, found, strict=True) for value in overlaps(layout(each), boxes)]
    assert sum(values) / len(values) > 0.75
    other = [value for each, boxes in zip(scenes, found[1:] + found[:1], strict=True) for value in overlaps(layout(each), boxes)]
    assert sum(other) / len(other) < 0.3


def test_drawn_pictures_agree_with_their_maps():
    drawn = [draw_with_map(scene(7, index)) for index in range(5)]
    assert min(agreement(picture, labels) for picture, labels in drawn) > 0.9
    wrong = [agreement(picture, labels) for (picture, _), (_, labels) in pairwise(drawn)]
    assert sum(wrong) / len(wrong) < 0.6


@pytest.mark.slow
def test_a_missing_thing_is_noticed_by_its_map():
    """On 30 scenes: its place is lost from the agreement, while drawn pictures stay above the 90 % of a good one."""
    right, lost = [], []
    for index in range(30):
        whole = scene(3000, index, count=1 + index % 3)
        picture, labels = draw_with_map(whole)
        less, without = draw_with_map(replace(whole, things=whole.things[1:]))
        right.append(agreement(picture, labels))
        lost.append((right[-1] - agreement(less, labels)) / float((labels != without).mean()))
    assert min(right) > 0.9
    assert sum(right) / len(right) > 0.97
    assert sum(lost) / len(lost) > 0.75


def test_blur_is_a_gaussian():
    picture = torch.zeros(15, 15, 3)
    picture[7, 7] = 1.0
    kernel = torch.from_numpy(norm.pdf(np.arange(-3, 4))).float()
    kernel = kernel / kernel.sum()
    torch.testing.assert_close(blurred(picture)[4:11, 4:11, 1], kernel[:, None] * kernel)
    flat = torch.full((8, 8, 3), 0.3)
    torch.testing.assert_close(blurred(flat), flat)


def test_half_of_the_blocks_change_places():
    picture = torch.arange(BLOCKS**2).float().view(BLOCKS, BLOCKS).repeat_interleave(2, 0).repeat_interleave(2, 1)
    shuffled = half_shuffled(picture[..., None].expand(-1, -1, 3), 0)[..., 0]
    assert float((shuffled != picture).float().mean()) == 0.5
    assert torch.equal(shuffled.flatten().sort().values, picture.flatten().sort().values)
    assert torch.equal(shuffled[::2, ::2], shuffled[1::2, 1::2])  # blocks stay whole


def test_enlarged_pictures_are_compared_with_bicubic_interpolation():
    data = picture_world(count=2, side=32).pictures
    drawn = torch.from_numpy(np.stack([data.pixels(index) for index in (0, 1)])).float() / 255
    grey = torch.full_like(drawn, 0.5)
    exact, poor = judged("half", data, drawn), judged("half", data, grey)
    assert exact["psnr"] > 100 > exact["psnr_bicubic"] > poor["psnr"]
    error = float((((grey * 255).round() - (drawn * 255).round()) ** 2).mean())
    assert poor["psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)


def test_pictures_are_as_different_as_their_pixels():
    assert diversity(torch.zeros(1, 4, 4, 3)) == 0
    assert diversity(torch.full((3, 4, 4, 3), 0.3)) == 0
    black_and_white = torch.stack([torch.zeros(4, 4, 3), torch.ones(4, 4, 3), torch.ones(4, 4, 3)])
    assert diversity(black_and_white) == pytest.approx(2 / 3)  # two of three pairs differ by 1


def test_pictures_are_compared_outside_a_mask():
    picture = Image(torch.full((1, 4, 4, 3), 0.5))
    changed, mask = picture.pixels.clone(), torch.zeros(1, 4, 4)
    changed[0, 0, 0, 1] = 1.0
    everywhere = compare_pictures(picture, Image(changed))
    assert everywhere == {"pixels": 16, "psnr": pytest.approx(10 * np.log10(255**2 / (127**2 / 48)), abs=1e-3), "same": 15 / 16}
    mask[0, 0, 0] = 0.2
    outside = compare_pictures(picture, Image(changed), Mask(mask))
    assert (outside["pixels"], outside["same"]) == (15, 1.0)
    with pytest.raises(ValueError, match="other: expected pictures of 1 times 4x4, found 1 times 2x2"):
        compare_pictures(picture, Image(torch.zeros(1, 2, 2, 3)))


@pytest.mark.slow
def test_pictures_of_one_text_are_judged():
    scenes = [scene(7, index, count=1) for index in range(40)]
    place = scenes[0].place
    other = next(each for each in scenes if each.place != place)
    drawn = torch.from_numpy(np.stack([draw(each) for each in (scenes[0], other)])).float() / 255
    figures = judge_pictures(Image(drawn), place, things=False)
    assert (figures["pictures"], figures["right"]) == (2, 0.5)
    assert figures["wrong"] == {"place": 1}
    assert figures["diversity"] > 0.05


@pytest.mark.slow
def test_autoencoders_of_both_kinds_are_measured_and_used():
    data = picture_world(**SMALL)
    sizes = {"channels": 8, "levels": [1, 2], "batch": 2, "learning_rate": 5e-3}
    for codes in (None, 16):
        plain = train_autoencoder(data, steps=1, codes=codes, **sizes)
        sharp = train_autoencoder(data, steps=30, codes=codes, critic=15, **sizes)
        (before, _), (after, pictures) = (evaluate_autoencoder(each, data, count=2) for each in (plain, sharp))
        assert after["psnr"] > before["psnr"]
        assert (after["factor"], after["numbers"], after["codes"]) == (2, 4 / 12, codes)
        assert pictures.pixels.shape == (2, 16, 16, 3)
        drawn = Image(torch.from_numpy(data.pictures.pixels(0))[None].float() / 255)
        latent = vae_encode(sharp, drawn)
        assert torch.allclose(vae_decode(sharp, latent).pixels[0], pictures.pixels[0], atol=1e-5)  # as a loaded one
        if codes is not None:
            assert torch.allclose(decoded_from_codes(sharp, latent)[0], pictures.pixels[0], atol=1e-5)


def decoded_from_codes(vae: TrainedVAE, latent: Latent) -> torch.Tensor:
    """The picture (1, H, W, 3) that the numbers of the nearest vectors alone make."""
    network = load_vae(vae.part, "cpu", torch.float32)
    assert isinstance(network, AutoencoderVQ)
    codes = network.quantize(latent.samples / vae.part.config.scaling_factor).codes
    return network.decode_quantised(network.quantize.decode(codes)).clamp(-1, 1).movedim(1, -1) / 2 + 0.5


@pytest.mark.slow
def test_drawn_pictures_are_right():
    """What the judges say about pictures that are as they should be."""
    data = picture_world(count=3, side=128, things=1).pictures
    drawn = torch.from_numpy(np.stack([data.pixels(index) for index in range(3)])).float() / 255
    assert judged("class", data, drawn)["class_accuracy"] == 1
    assert judged("class", data, drawn.roll(1, 0))["class_accuracy"] < 0.5
    layouts = judged("layout", data, drawn)
    assert layouts["box_iou"] > 0.8
    assert layouts["things_right"] == 1
    assert judged("none", data, drawn) == {}


@pytest.mark.slow
def test_pictures_under_conditions_are_painted_and_measured(vae):
    sizes = {"channels": 16, "levels": [1], "depth": [1], "batch": 2, "steps": 1}
    figures = {"layout": "box_iou", "map": "label_agreement", "half": "psnr_bicubic"}
    data = picture_world(count=3, side=64)
    for condition, name in figures.items():
        unet = train_denoiser(picture_world(**SMALL), vae, condition=condition, **sizes)
        measured, pictures, painted = evaluate(unet, data, vae, count=3, steps=1)
        assert measured["pictures"] == 3
        assert 0 <= measured[name] < 100
        assert pictures.pixels.shape == painted.pixels.shape == (3, 64, 64, 3)
    unet = train_denoiser(picture_world(**SMALL), condition="none", **sizes)
    measured, _, painted = evaluate(unet, data, count=2, steps=1)
    assert measured == {"pictures": 2}


@pytest.mark.slow
def test_clip_measures_and_guides(vae, unet, text_encoder):
    from nodegraph_nodes.nodes.latent import empty_latent, noise
    from nodegraph_nodes.nodes.sampling import sampler, unet_denoise
    from nodegraph_nodes.nodes.text import text_encode

    clip = train_clip(picture_world(**SMALL), steps=1, width=16, layers=1, batch=2, patch=8)
    data = picture_world(count=24, side=16)
    same = frechet_distance(
        [Image(torch.from_numpy(data.pictures.pixels(i))[None].float() / 255) for i in range(24)], clip[1], data
    )
    assert same["distance"] == pytest.approx(0, abs=1e-5)
    assert min(same["blurred"], same["half_shuffled"]) > same["distance"]
    nothing, latent = text_encode(text_encoder, ""), empty_latent(vae, 16, 16)
    plain = unet_denoise(unet, nothing, nothing, cfg=1.0)
    painted = [
        sampler(each, latent, noise(latent, 0), steps=3).samples
        for each in (plain, clip_guidance(plain, vae, clip.text_encoder, clip.image_encoder, text="a red cat", scale=100.0))
    ]
    assert not torch.equal(*painted)
    other = train_clip(picture_world(**SMALL), steps=1, width=8, layers=1, batch=2, patch=8)
    with pytest.raises(ValueError, match="text_encoder: expected an embedding of 16 numbers"):
        clip_guidance(plain, vae, other.text_encoder, clip.image_encoder, text="a cat")
