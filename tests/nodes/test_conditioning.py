"""The conditioning nodes set areas, masks, ranges and sizes of prompts, and a denoiser follows them."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from nodegraph_diffusion.conditioning.prompt import Area, Prompt, SizeConditioning
from nodegraph_diffusion.denoising.unet_denoiser import UNetDenoiser
from nodegraph_nodes.models.parts import load_unet_network
from nodegraph_nodes.nodes.conditioning import (
    average_conditioning,
    combine_conditioning,
    concat_conditioning,
    set_area,
    set_mask,
    set_range,
    size_condition,
    zero_out,
)
from nodegraph_nodes.nodes.sampling import unet_denoise
from nodegraph_nodes.nodes.text import text_encode
from nodegraph_nodes.types import Conditioning, Mask


def conditioning(value, length=3, pooled=None, width=4):
    encoding = None if pooled is None else torch.full((1, 5), float(pooled))
    return Conditioning((Prompt(torch.full((1, length, width), float(value)), pooled=encoding),))


def test_combine_keeps_both_prompts():
    first, second = conditioning(1), combine_conditioning(conditioning(2), conditioning(3))
    assert combine_conditioning(first, second).prompts == (*first.prompts, *second.prompts)


def test_concat_lengthens_each_prompt():
    to = set_area(combine_conditioning(conditioning(1, pooled=1), conditioning(2, 5)), 64, 64)
    joined = concat_conditioning(to, conditioning(9, 2, pooled=3)).prompts
    assert [prompt.embedding[0, :, 0].tolist() for prompt in joined] == [[1, 1, 1, 9, 9], [2, 2, 2, 2, 2, 9, 9]]
    assert joined[0].pooled is to.prompts[0].pooled
    assert joined[1].area == Area(64, 64, 0, 0)


@pytest.mark.parametrize(
    ("length", "expected"),
    [(3, [0.6 * 2 + 0.4 * 7] * 3), (2, [0.6 * 2 + 0.4 * 7] * 2 + [0.6 * 2]), (9, [0.6 * 2 + 0.4 * 7] * 3)],
)
def test_average_has_the_length_of_the_first(length, expected):
    mean = average_conditioning(conditioning(2, 3), conditioning(7, length), 0.6).prompts[0]
    assert mean.embedding[0, :, 0].tolist() == pytest.approx(expected)
    assert mean.pooled is None


@pytest.mark.parametrize(("first", "second", "expected"), [(1, 3, 1.8), (None, 3, 3), (1, None, 1)])
def test_pooled_encodings_are_averaged_if_both_have_one(first, second, expected):
    mean = average_conditioning(conditioning(2, pooled=first), conditioning(7, pooled=second), 0.6).prompts[0]
    assert mean.pooled[0].tolist() == pytest.approx([expected] * 5)


@pytest.mark.parametrize("function", [concat_conditioning, average_conditioning])
def test_join_takes_one_prompt_of_the_same_model(function):
    with pytest.raises(ValueError, match="conditioning_from: expected a single prompt, found 2 combined ones"):
        function(conditioning(1), combine_conditioning(conditioning(1), conditioning(2)))
    with pytest.raises(ValueError, match=r"expected prompts of one width, found 4 and 6\. Encode both"):
        function(conditioning(1), conditioning(1, width=6))


def test_area_range_and_size_apply_to_every_prompt():
    both = combine_conditioning(conditioning(1), conditioning(2))
    mask = Mask(torch.rand(1, 8, 8))
    changed = set_area(both, 64, 32, 8, y=16, strength=0.5)
    changed = set_mask(changed, mask, strength=0.7, mask_bounds=True)
    changed = set_range(changed, 0.2, 0.9)
    changed = size_condition(changed, 768, 512, 8, crop_y=16, target_width=1024, target_height=640, aesthetic=7.0)
    for prompt, before in zip(changed.prompts, both.prompts, strict=True):
        assert prompt.embedding is before.embedding
        assert (prompt.area, prompt.strength) == (Area(height=32, width=64, y=16, x=8), 0.5)
        assert prompt.mask is mask.values
        assert (prompt.mask_strength, prompt.mask_bounds) == (0.7, True)
        assert (prompt.start, prompt.end) == (0.2, 0.9)
        assert prompt.size == SizeConditioning(
            height=512, width=768, crop_y=16, crop_x=8, target_height=640, target_width=1024, aesthetic=7.0
        )


def test_zero_out_clears_the_encoding():
    (zeroed,) = zero_out(set_range(conditioning(3, pooled=2), 0.5)).prompts
    assert not zeroed.embedding.any()
    assert not zeroed.pooled.any()
    assert zeroed.start == 0.5
    assert zero_out(conditioning(3)).prompts[0].pooled is None


@pytest.mark.parametrize(
    ("node", "inputs", "expected"),
    [
        ("SetArea", {"width": 0, "height": 64}, "expected an area with a width above 0"),
        (
            "SetArea",
            {"width": 64, "height": 0.5, "unit": "fraction"},
            "a fraction of the picture's side is at most 1, but width is",
        ),
        ("SetRange", {"start": 0.5, "end": 0.25}, "start 0.5 is after end 0.25"),
    ],
)
def test_check_refuses_nonsense(plugins, node, inputs, expected):
    (message,) = plugins.nodes.get(node).value.check(**inputs)
    assert expected in message


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        ("SetArea", {"width": 0.5, "height": 1, "unit": "fraction"}),
        ("SetArea", {"width": 640, "height": None}),
        ("SetRange", {"start": 0.25, "end": 0.25}),
        ("SetRange", {"start": None, "end": 0.25}),
    ],
)
def test_check_accepts_sense_and_unknown_values(plugins, node, inputs):
    assert not list(plugins.nodes.get(node).value.check(**inputs))


def test_denoiser_mixes_prompts_as_set(model, run):
    red, blue = (text_encode(model.text_encoder, text, run=run) for text in ("a red house", "a blue boat"))
    left = set_area(blue, 0.5, 1, unit="fraction")
    positive = combine_conditioning(red, set_range(left, 0.0, 0.4))
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    denoise = unet_denoise(model.unet, positive, zero_out(red), cfg=1.0, run=run).function
    prompts = [*red.prompts, dataclasses.replace(blue.prompts[0], area=Area(1, 0.5, 0, 0, fraction=True), end=0.4)]
    direct = UNetDenoiser(load_unet_network(model.unet, run), model.unet.part.noise_schedule, prompts)
    for sigma in (10.0, 0.1):
        assert torch.equal(denoise(x, sigma), direct(x, sigma))
    red_only = unet_denoise(model.unet, red, red, cfg=1.0, run=run).function
    assert not torch.allclose(denoise(x, 10.0)[..., :3], red_only(x, 10.0)[..., :3])
    assert torch.equal(denoise(x, 0.1), red_only(x, 0.1))
