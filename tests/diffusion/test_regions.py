"""Prompts act within their areas and ranges, and are mixed as in ComfyUI 0.3.64: by a weighted mean of their predictions."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nodegraph_diffusion.conditioning.prompt import Area, Prompt
from nodegraph_diffusion.denoising.unet_denoiser import ConditionedUNet, UNetDenoiser
from nodegraph_diffusion.guidance import ClassifierFreeGuidance
from tests.support import small_networks as small
from tests.support.toy_denoisers import SCHEDULE

X = torch.randn(1, 4, 24, 40, generator=torch.Generator().manual_seed(0))
SIGMA = 2.5


class ValueUNet(nn.Module):
    """Predicts x / c_in plus the value of its prompt, so that the estimate at `SIGMA` is x minus SIGMA times that value."""

    config = small.UNET

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.shapes = []

    def project_context(self, context):
        return context.mean(dim=(1, 2))[:, None, None, None]

    def forward(self, x, timesteps, context, added=None, controls=None, attention=None):
        self.shapes.append(tuple(x.shape))
        return context.expand_as(x)


def prompt(value, length=3, **fields):
    return Prompt(torch.full((1, length, 5), float(value)), **fields)


def seen(*prompts, x=X, sigma=SIGMA, unet=None):
    """The mean value of the prompts in each cell, (h, w), as a denoiser computes it."""
    denoised = UNetDenoiser(unet or ValueUNet(), SCHEDULE, prompts)(x, sigma)
    values = (x - denoised) / sigma
    torch.testing.assert_close(values, values[:, :1].expand_as(values), rtol=1e-4, atol=1e-5)
    return values[0, 0]


def test_prompts_are_mixed_by_their_strength():
    values = seen(prompt(1), prompt(5, strength=3.0))
    torch.testing.assert_close(values, torch.full((24, 40), 4.0))
    torch.testing.assert_close(seen(prompt(2, strength=0.1)), torch.full((24, 40), 2.0))


def test_area_fades_in_over_8_cells_inside_the_picture():
    area = Area(24 * 8, 32 * 8, 0, 8 * 8)  # all rows, the columns from the ninth on
    values = seen(prompt(0), prompt(1, area=area))
    weight = torch.cat([torch.zeros(8), torch.arange(1, 9) / 8, torch.ones(24)])
    torch.testing.assert_close(values, (weight / (1 + weight)).expand(24, 40))


def test_small_area_fades_in_over_a_quarter_of_its_side():
    area = Area(12 * 8, 8 * 8, 4 * 8, 16 * 8)
    values = seen(prompt(0), prompt(1, area=area, strength=2.0))
    rows = torch.tensor([1 / 3, 2 / 3, *[1.0] * 8, 2 / 3, 1 / 3])
    columns = torch.tensor([1 / 2, *[1.0] * 6, 1 / 2])
    weight = torch.zeros(24, 40)
    weight[4:16, 16:24] = 2 * rows[:, None] * columns
    torch.testing.assert_close(values, weight / (1 + weight))


def test_area_is_cut_at_the_border_and_computed_alone():
    unet = ValueUNet()
    values = seen(prompt(3, area=Area(1024, 1024, 64, 80)), x=torch.zeros_like(X), unet=unet)
    assert unet.shapes == [(1, 4, 16, 30)]
    torch.testing.assert_close(values[8:, 10:], torch.full((16, 30), 3.0))
    denoised = UNetDenoiser(ValueUNet(), SCHEDULE, [prompt(3, area=Area(1024, 1024, 64, 80))])(X, SIGMA)
    assert not denoised[:, :, :8].any()  # no prompt covers this part


@pytest.mark.parametrize(
    ("area", "box"),
    [
        (Area(0.5, 0.25, 0.5, 0, fraction=True), (12, 10, 12, 0)),
        (Area(0.01, 1, 0, 0, fraction=True), (1, 40, 0, 0)),
        (Area(100, 68, 15, 8), (12, 8, 1, 1)),
    ],
)
def test_areas_are_converted_to_cells(area, box):
    unet = ValueUNet()
    values = seen(prompt(2, area=area), x=torch.zeros_like(X), unet=unet)
    height, width, y, x = box
    assert unet.shapes == [(1, 4, height, width)]
    torch.testing.assert_close(values[y : y + height, x : x + width], torch.full((height, width), 2.0))


def test_area_beyond_the_picture_is_refused():
    with pytest.raises(ValueError, match=r"within the latent's 24 rows and 40 columns, found row 24 and column 0"):
        seen(prompt(1, area=Area(64, 64, 24 * 8, 0)))


def test_mask_has_no_fading():
    mask = torch.zeros(1, 24 * 8, 40 * 8)
    mask[:, :, 160:] = 0.5
    values = seen(prompt(0), prompt(1, mask=mask, mask_strength=0.5, strength=2.0))
    weight = torch.cat([torch.zeros(20), torch.full((20,), 0.5)])
    torch.testing.assert_close(values, (weight / (1 + weight)).expand(24, 40))


def test_mask_acts_only_within_its_area():
    unet = ValueUNet()
    values = seen(prompt(0), prompt(1, mask=torch.ones(1, 24, 40), area=Area(64, 128, 64, 64)), unet=unet)
    expected = torch.zeros(24, 40)
    expected[8:16, 8:24] = 0.5
    torch.testing.assert_close(values, expected)
    assert unet.shapes == [(1, 4, 24, 40), (1, 4, 8, 16)]


@pytest.mark.parametrize(
    ("white", "shape"),
    [((slice(2, 14), slice(5, 35)), (12, 30)), ((slice(3, 4), slice(3, 12)), (8, 9)), ((slice(0), slice(0)), (8, 8))],
)
def test_only_the_bounds_of_a_mask_are_computed(white, shape):
    mask = torch.zeros(1, 24, 40)
    mask[0][white] = 1
    unet = ValueUNet()
    values = seen(prompt(0), prompt(1, mask=mask, mask_bounds=True), unet=unet)
    torch.testing.assert_close(values, mask[0] / 2)
    assert unet.shapes[1] == (1, 4, *shape)


def test_each_picture_can_have_its_part_of_a_mask():
    x = X.expand(2, -1, -1, -1)
    masks = torch.stack([torch.zeros(24, 40), torch.ones(24, 40)])
    denoised = UNetDenoiser(ValueUNet(), SCHEDULE, [prompt(0), prompt(1, mask=masks)])(x, SIGMA)
    torch.testing.assert_close(((x - denoised) / SIGMA).mean(dim=(1, 2, 3)), torch.tensor([0, 0.5]))
    with pytest.raises(ValueError, match=r"\(1 or 1, H, W\), found \(2, 24, 40\)"):
        seen(prompt(1, mask=masks))


# --- when


def test_part_of_the_sampling_is_a_noise_level():
    assert SCHEDULE.sigma_at(0) == math.inf
    assert SCHEDULE.sigma_at(1) == 0
    assert SCHEDULE.sigma_at(0.25) == float(SCHEDULE.sigma(749.25))


def test_prompt_acts_from_start_to_end_inclusive():
    early, late = prompt(1, end=0.5), prompt(3, start=0.5)
    middle = SCHEDULE.sigma_at(0.5)
    for sigma, value in ((SCHEDULE.sigma_max, 1), (middle, 2), (middle * 0.999, 3), (middle * 1.001, 1), (0.03, 3)):
        torch.testing.assert_close(seen(early, late, sigma=sigma), torch.full((24, 40), float(value)), rtol=1e-3, atol=1e-3)


def test_prompt_outside_its_range_costs_nothing():
    unet = ValueUNet()
    seen(prompt(1), prompt(3, start=0.9), unet=unet)
    assert unet.shapes == [(1, 4, 24, 40)]
    denoised = UNetDenoiser(unet, SCHEDULE, [prompt(1, end=0.1)])(X, 0.03)
    assert not denoised.any()
    assert len(unet.shapes) == 1


# --- opposites


def guided(positive, negative, cfg=3.0):
    """The values of each side, (2, h, w), and the shapes of the calls."""
    unet = ValueUNet()
    sides = ConditionedUNet(unet, SCHEDULE, [positive, negative])(X, SIGMA)
    both = ClassifierFreeGuidance(UNetDenoiser(unet, SCHEDULE, positive), UNetDenoiser(unet, SCHEDULE, negative), cfg)
    torch.testing.assert_close(both(X, SIGMA), sides[1] + cfg * (sides[0] - sides[1]))
    return [((X - side) / SIGMA)[0, 0] for side in sides], unet.shapes[: len(unet.shapes) // 2]


LEFT, CORNER = Area(192, 160, 0, 0), Area(64, 64, 0, 0)


def test_area_gets_an_opposite_in_the_same_batch():
    values, shapes = guided([prompt(1), prompt(5, area=LEFT)], [prompt(2)])
    assert shapes == [(2, 4, 24, 40), (2, 4, 24, 20)]
    torch.testing.assert_close(values[1], torch.full((24, 40), 2.0))


def test_opposite_has_the_text_of_the_smallest_area():
    values, _ = guided([prompt(5, area=CORNER)], [prompt(2), prompt(6, area=LEFT), prompt(7, area=Area(192, 320, 0, 0))])
    weights = [torch.ones(24, 40), torch.zeros(24, 40), torch.ones(24, 40), torch.zeros(24, 40)]
    weights[1][:, :20] = torch.tensor([*[1.0] * 15, *(k / 5 for k in (5, 4, 3, 2, 1))])
    ramp = torch.tensor([*[1.0] * 6, 1, 1 / 2])
    weights[3][:8, :8] = ramp[:, None] * ramp
    expected = sum(w * v for w, v in zip(weights, (2, 6, 7, 6), strict=True)) / sum(weights)
    torch.testing.assert_close(values[1], expected)


def test_area_in_both_prompts_gets_no_opposite():
    _, shapes = guided([prompt(5, area=LEFT)], [prompt(2, area=LEFT)])
    assert shapes == [(2, 4, 24, 20)]


def test_area_without_surroundings_gets_no_opposite():
    values, shapes = guided([prompt(5, area=LEFT)], [prompt(2, area=CORNER)])
    assert shapes == [(1, 4, 24, 20), (2, 4, 8, 8)]  # the small one's opposite has the text of the large one
    torch.testing.assert_close(values[0][:, :20], torch.full((24, 20), 5.0))


def test_opposite_acts_when_its_area_does():
    _, shapes = guided([prompt(1), prompt(5, area=LEFT, end=0.1)], [prompt(2)])
    assert shapes == [(2, 4, 24, 40)]


def test_opposites_of_negatives_stay_without_guidance():
    unet = ValueUNet()
    negative = [prompt(2), prompt(3, area=LEFT, strength=9.0)]
    positive = UNetDenoiser(unet, SCHEDULE, [prompt(1), prompt(4, strength=1.0)])
    both = ClassifierFreeGuidance(positive, UNetDenoiser(unet, SCHEDULE, negative), 1.0)
    values = ((X - both(X, SIGMA)) / SIGMA)[0, 0]
    assert values[0, 0] < 2 < values[0, -1]  # on the left, the first prompt counts nine times more
    assert len(unet.shapes) == 2


# --- against the definition


def by_definition(prompts, x, sigma):
    """The mean of the prompts' values, a cell at a time."""
    height, width = x.shape[-2:]
    total, weights = torch.zeros(height, width, dtype=torch.float64), torch.zeros(height, width, dtype=torch.float64)
    for one in prompts:
        if not SCHEDULE.sigma_at(one.end) <= sigma <= SCHEDULE.sigma_at(one.start):
            continue
        top, left, rows, columns = 0, 0, height, width
        if one.area is not None:
            top, left = int(one.area.y) // 8, int(one.area.x) // 8
            rows, columns = min(height - top, int(one.area.height) // 8), min(width - left, int(one.area.width) // 8)
        for i in range(rows):
            for j in range(columns):
                weight = one.strength
                if one.mask is not None:
                    weight *= float(one.mask[0, top + i, left + j]) * one.mask_strength
                elif one.area is not None:
                    for k, length, start, side in ((i, rows, top, height), (j, columns, left, width)):
                        reach = min(8, length // 4)
                        if start > 0 and k < reach:
                            weight *= (k + 1) / reach
                        if start + length < side and length - 1 - k < reach:
                            weight *= (length - k) / reach
                total[top + i, left + j] += weight * float(one.embedding.mean())
                weights[top + i, left + j] += weight
    return (total / weights.clamp(min=1e-37)).float()


@st.composite
def random_prompts(draw):
    numbers = st.integers(1, 12)
    fields = {"strength": draw(st.sampled_from([0.5, 1.0, 2.0])), "start": draw(st.sampled_from([0.0, 0.4]))}
    if draw(st.booleans()):
        fields["area"] = Area(*(8 * draw(numbers) for _ in range(2)), 8 * draw(st.integers(0, 9)), 8 * draw(st.integers(0, 10)))
    if draw(st.booleans()):
        fields["mask"] = torch.rand(1, 10, 11, generator=torch.Generator().manual_seed(draw(numbers))) + 0.1
        fields["mask_strength"] = 0.5
    return prompt(draw(numbers), draw(st.sampled_from([3, 6, 7])), **fields)


@settings(max_examples=60, deadline=None)
@given(st.lists(random_prompts(), min_size=1, max_size=4), st.sampled_from([10.0, 0.2]))
def test_mixture_is_the_weighted_mean(prompts, sigma):
    x = torch.zeros(1, 4, 10, 11)
    prompts = [prompt(2), *prompts]
    torch.testing.assert_close(seen(*prompts, x=x, sigma=sigma), by_definition(prompts, x, sigma), rtol=1e-4, atol=1e-4)


def test_real_network_mixes_single_predictions():
    unet = small.our_unet(dataclasses.replace(small.UNET, channel_mult=(1,), transformer_depth=(1,), num_res_blocks=1))
    first, second = (small.noise(1, length, small.UNET.context_dim) for length in (16, 24))
    x = small.noise(2, 4, 8, 8)
    mixed = UNetDenoiser(unet, SCHEDULE, [Prompt(first), Prompt(second, strength=0.5)])(x, SIGMA)
    predictions = [UNetDenoiser(unet, SCHEDULE, context)(x, SIGMA) for context in (first, second)]
    torch.testing.assert_close(mixed, (predictions[0] + 0.5 * predictions[1]) / 1.5, rtol=1e-4, atol=1e-4)
