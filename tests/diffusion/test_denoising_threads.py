"""How many threads a UNet computes with: `nodegraph_diffusion.denoising.threads`."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from nodegraph_diffusion.denoising import threads
from nodegraph_diffusion.denoising.unet_denoiser import UNetDenoiser
from nodegraph_diffusion.noise_schedule import NoiseSchedule


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    """Two cores, and nothing chosen by the environment."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(threads, "_DEFAULT", 2)
    for name in threads._VARIABLES:
        monkeypatch.delenv(name, raising=False)
    yield
    torch.set_num_threads(before)


class Recording(torch.nn.Module):
    """Stands in for a UNet, and notes the number of threads of each call."""

    def __init__(self, channels):
        super().__init__()
        self.config = SimpleNamespace(model_channels=channels, added_dim=None, guidance_dim=None)
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.numbers = []

    def project_context(self, context):
        return context

    def forward(self, x, timesteps, context, added, **options):
        self.numbers.append(torch.get_num_threads())
        return torch.zeros_like(x)


def number_for(unet):
    """The threads of a call through a denoiser, and those after it."""
    UNetDenoiser(unet, NoiseSchedule(), torch.zeros(1, 4, 8))(torch.zeros(1, 4, 4, 4), 1.0)
    return unet.numbers, torch.get_num_threads()


def test_large_unet_has_two_threads_for_each_core():
    assert number_for(Recording(320)) == ([4], 2)


def test_small_unet_has_one_thread_for_each_core():
    assert number_for(Recording(64)) == ([2], 2)


@pytest.mark.parametrize("variable", threads._VARIABLES)
def test_number_of_the_environment_stays(monkeypatch, variable):
    monkeypatch.setenv(variable, "2")
    assert number_for(Recording(320)) == ([2], 2)


def test_number_of_the_program_stays():
    torch.set_num_threads(3)
    assert number_for(Recording(320)) == ([3], 3)


def test_many_cores_have_one_thread_each(monkeypatch):
    torch.set_num_threads(8)
    monkeypatch.setattr(threads, "_DEFAULT", 8)
    assert number_for(Recording(320)) == ([8], 8)


def test_number_is_restored_after_an_error():
    unet = Recording(320)
    with pytest.raises(RuntimeError, match="broken"), threads.more_threads(unet):
        raise RuntimeError("broken")
    assert torch.get_num_threads() == 2
