"""The parts of training: norms, master weights, folding, budgets."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nodegraph_diffusion.networks.vae import AutoencoderKL
from nodegraph_diffusion.recipes.pixels import standardise, to_tensor
from nodegraph_diffusion.recipes.tiny.autoencoder import CONFIG
from nodegraph_diffusion.recipes.tiny.data import pictures, scene
from nodegraph_diffusion.recipes.tiny.denoiser import THING_WEIGHT, thing_weights, velocity_loss
from nodegraph_diffusion.training.budget import Budget, cosine
from nodegraph_diffusion.training.optimiser import MasterWeights, resume, save_state
from nodegraph_diffusion.training.speed import prepare_for_training


def test_fast_group_norm_equals_group_norm() -> None:
    torch.manual_seed(0)
    layer = nn.GroupNorm(4, 32)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    x = (torch.randn(3, 32, 5, 6) * 2 + 1).requires_grad_()
    upstream = torch.randn_like(x)
    expected = layer(x)
    gradients = torch.autograd.grad(expected, (x, layer.weight, layer.bias), upstream)
    prepare_for_training(layer)
    found = layer(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for got, want in zip(torch.autograd.grad(found, (x, layer.weight, layer.bias), upstream), gradients, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_master_weights_step_like_adamw() -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(5, 3), nn.Linear(5, 3)
    theirs.load_state_dict(ours.state_dict())
    weights = MasterWeights(ours, 1e-2, dtype=torch.float32)
    adamw = torch.optim.AdamW(theirs.parameters(), lr=1e-2, betas=(0.9, 0.99), weight_decay=0.0)
    x = torch.randn(4, 5)
    for _ in range(3):
        for module in (ours, theirs):
            module(x).square().mean().backward()
        weights.step(1e-2, clip=math.inf)
        adamw.step()
        adamw.zero_grad()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_training_state_survives_a_restart(tmp_path: Path) -> None:
    module, again = nn.Linear(5, 3), nn.Linear(5, 3)
    weights = MasterWeights(module, 1e-2)
    module(torch.randn(4, 5).bfloat16()).square().mean().backward()
    weights.step(1e-2)
    save_state(tmp_path / "state", weights, Budget(100.0, spent=40.0))
    restored, budget = MasterWeights(again, 1e-2), Budget(100.0)
    resume(tmp_path / "state", restored, budget)
    torch.testing.assert_close(again.weight, module.weight)
    assert restored.steps == 1
    assert budget.elapsed >= 40


@pytest.mark.slow
def test_standardising_keeps_pictures() -> None:
    torch.manual_seed(0)
    model = AutoencoderKL(CONFIG).requires_grad_(False)
    sample = pictures("valid", 20)
    folded = standardise(model, [sample])
    mean, log_variance = model.encode(to_tensor(sample))
    latent, folded_log_variance = folded.encode(to_tensor(sample))
    torch.testing.assert_close(latent.mean((0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-3)
    torch.testing.assert_close(latent.std((0, 2, 3)), torch.ones(4), rtol=1e-3, atol=0)
    torch.testing.assert_close(folded.decode(latent), model.decode(mean), rtol=1e-3, atol=1e-4)
    ratio = (folded_log_variance - log_variance).std((0, 2, 3))
    torch.testing.assert_close(ratio, torch.zeros(4), rtol=0, atol=1e-3)


def test_true_velocity_has_no_loss() -> None:
    latent, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    signal = torch.tensor([0.9, 0.2]).view(-1, 1, 1, 1)
    velocity = signal.sqrt() * noise - (1 - signal).sqrt() * latent
    assert float(velocity_loss(velocity, latent, noise, signal=signal, weights=torch.ones(2, 1, 8, 8))) == pytest.approx(
        0, abs=1e-10
    )


def test_errors_in_things_have_more_weight() -> None:
    weights = thing_weights(scene("train", 0), 16)
    assert set(np.unique(weights)) == {1.0, THING_WEIGHT}


def test_learning_rate_rises_and_falls() -> None:
    rates = [cosine(1.0, fraction) for fraction in (0.0, 0.005, 0.01, 0.5, 1.0)]
    assert rates[0] < rates[1] < rates[2] == pytest.approx(1.0)
    assert rates[2] > rates[3] > rates[4] == pytest.approx(0.02)


def test_budget_ends() -> None:
    assert not Budget(1.0, spent=1.0).remains()
    assert Budget(1000.0).remains()
