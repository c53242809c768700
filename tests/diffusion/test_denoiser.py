"""The input of a network beside the latent, and when controls act."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from nodegraph_diffusion.conditioning.prompt import Area, Prompt
from nodegraph_diffusion.denoising import GuidedDenoiser
from nodegraph_diffusion.denoising.unet_denoiser import ConditionedUNet, UNetDenoiser
from nodegraph_diffusion.denoising.unguided import as_guided
from nodegraph_diffusion.denoising.wrapper import DenoiserWrapper
from nodegraph_diffusion.guidance import ClassifierFreeGuidance
from tests.support import small_networks as small
from tests.support.toy_denoisers import SCHEDULE

X = small.noise(2, 4, 12, 10)
PROMPT = Prompt(torch.ones(1, 3, 5))


class SeeingUNet(nn.Module):
    """Predicts 0 and records its inputs."""

    config = small.UNET

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.seen, self.controls = [], []

    def project_context(self, context):
        return context

    def forward(self, x, timesteps, context, added=None, controls=None, attention=None):
        self.seen.append(x)
        self.controls.append(controls)
        return torch.zeros_like(x[:, :4])


@pytest.mark.parametrize("shape", [(1, 5, 12, 10), (2, 5, 12, 10), (1, 5, 1, 1)])
def test_extra_channels_are_added_for_both_prompts(shape):
    unet, concat = SeeingUNet(), small.noise(*shape)
    sides = [UNetDenoiser(unet, SCHEDULE, [PROMPT], concat=concat) for _ in range(2)]
    ClassifierFreeGuidance(*sides, 3.0)(X, 0.0)
    (seen,) = unet.seen
    assert seen.shape == (4, 9, 12, 10)
    assert torch.equal(seen[:, :4], torch.cat([X, X]))
    assert torch.equal(seen[:, 4:], torch.cat([concat.expand(2, 5, 12, 10)] * 2))


def test_area_sees_its_part_of_the_extra_channels():
    unet, concat = SeeingUNet(), small.noise(1, 4, 12, 10)
    UNetDenoiser(unet, SCHEDULE, [dataclasses.replace(PROMPT, area=Area(32, 40, 16, 24))], concat=concat)(X, 0.0)
    assert torch.equal(unet.seen[0], torch.cat([X, concat.expand(2, -1, -1, -1)], dim=1)[:, :, 2:6, 3:8])


def test_different_channels_are_not_batched():
    unet = SeeingUNet()
    sides = [UNetDenoiser(unet, SCHEDULE, [PROMPT], concat=small.noise(1, 4, 12, 10)) for _ in range(2)]
    ClassifierFreeGuidance(*sides, 3.0)(X, 1.0)
    assert len(unet.seen) == 2


@pytest.mark.parametrize("shape", [(1, 5, 12, 11), (3, 5, 12, 10)])
def test_channels_of_another_size_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(2 or 1, C, 12, 10\), as the latent has"):
        UNetDenoiser(SeeingUNet(), SCHEDULE, [PROMPT], concat=torch.zeros(shape))(X, 1.0)


class Constant:
    """Residuals of one value for any input."""

    def __init__(self, value, start=0.0, end=1.0):
        self.value, self.start, self.end, self.contexts = value, start, end, []

    def __call__(self, x, timesteps, context, added):
        self.contexts.append(context)
        return (torch.full((1,), self.value), torch.full((1,), 2 * self.value)), torch.full((1,), 3 * self.value)


def test_controls_add_up_while_they_act():
    unet, early, always = SeeingUNet(), Constant(1.0, end=0.5), Constant(10.0)
    denoise = ConditionedUNet(unet, SCHEDULE, [[PROMPT], [PROMPT]], concat=torch.zeros(1, 4, 1, 1), controls=[early, always])
    middle = SCHEDULE.sigma_at(0.5)
    for sigma in (SCHEDULE.sigma_max, middle, middle * 0.99):
        denoise(X, sigma)
    sums = [(*(float(skip) for skip in skips), float(middle)) for skips, middle in unet.controls]
    assert sums == [(11, 22, 33), (11, 22, 33), (10, 20, 30)]
    assert len(early.contexts) == 2
    assert all(context is always.contexts[0] for context in always.contexts)
    UNetDenoiser(unet, SCHEDULE, [PROMPT], controls=[Constant(1.0, start=0.9)])(X, 5.0)
    assert unet.controls[-1] is None


def test_plain_denoiser_has_equal_predictions():
    plain = UNetDenoiser(SeeingUNet(), SCHEDULE, [PROMPT])
    guided = as_guided(plain)
    assert as_guided(guided) is guided
    assert guided.noise_schedule is plain.noise_schedule
    estimates = (guided(X, 2.0), *guided.predict(X, 2.0), guided.predict_one("negative", X, 2.0))
    assert all(torch.equal(estimate, plain(X, 2.0)) for estimate in estimates)


def test_wrapper_passes_on_everything_else():
    inner = ClassifierFreeGuidance(
        *(UNetDenoiser(SeeingUNet(), SCHEDULE, [Prompt(torch.full((1, 3, 5), v))]) for v in (1.0, 2.0)), 3.0
    )
    wrapped = DenoiserWrapper(inner)
    assert isinstance(wrapped, GuidedDenoiser)
    assert torch.equal(wrapped(X, 2.0), inner(X, 2.0))
    assert all(map(torch.equal, wrapped.predict(X, 2.0), inner.predict(X, 2.0)))
    assert torch.equal(wrapped.predict_one("negative", X, 2.0), inner.predict_one("negative", X, 2.0))
