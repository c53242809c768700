"""Denoisers with two sides, with small networks and without, for tests of guidance."""

from __future__ import annotations

import dataclasses
import functools

import torch

from nodegraph_diffusion.conditioning.prompt import Prompt
from nodegraph_diffusion.denoising.unet_denoiser import UNetDenoiser
from nodegraph_diffusion.guidance import ClassifierFreeGuidance
from tests.support import small_networks as small
from tests.support.toy_denoisers import SCHEDULE, GaussianDenoiser, TwistedDenoiser

CONFIG = dataclasses.replace(small.UNET, channel_mult=(1, 2), transformer_depth=(1, 0), num_res_blocks=1)
X = torch.randn(2, 4, 12, 10, generator=torch.Generator().manual_seed(0)) * 3
SIGMA = 2.5


class Asked:
    """A denoiser that counts its calls."""

    def __init__(self, denoiser):
        self.denoiser, self.noise_schedule, self.times = denoiser, denoiser.noise_schedule, 0

    def __call__(self, x, sigma):
        self.times += 1
        return self.denoiser(x, sigma)


class Calls:
    """The number of rows in each call of a network."""

    def __init__(self, network):
        self.rows = []
        self._handle = network.register_forward_pre_hook(lambda module, args: self.rows.append(args[0].shape[0]))

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        self._handle.remove()


@functools.cache
def shared_unet():
    return small.our_unet(CONFIG)


def prompt(seed, pictures=1, **where):
    generator = torch.Generator().manual_seed(seed)
    return Prompt(torch.randn(pictures, 6, CONFIG.context_dim, generator=generator), **where)


POSITIVE, NEGATIVE, EMPTY = prompt(1), prompt(2), prompt(3)


def prompted(unet, *prompts, schedule=SCHEDULE, **options):
    return UNetDenoiser(unet, schedule, prompts, **options)


def classifier_free(unet, cfg=4.0, positive=(POSITIVE,), negative=(NEGATIVE,), schedule=SCHEDULE):
    return ClassifierFreeGuidance(prompted(unet, *positive, schedule=schedule), prompted(unet, *negative, schedule=schedule), cfg)


def toy(cfg=4.0):
    """Guidance between two denoisers without networks."""
    return ClassifierFreeGuidance(TwistedDenoiser(), GaussianDenoiser(mean=-0.5), cfg)


def assert_near(ours, expected, tolerance=1e-4):
    assert small.difference(ours, expected) < tolerance
