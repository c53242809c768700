"""Losses of training against closed forms, direct computation, torch.distributions and diffusers."""

from __future__ import annotations

import math

import diffusers
import pytest
import scipy
import torch
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr
from diffusers.training_utils import compute_snr
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from transformers.models.clip.modeling_clip import image_text_contrastive_loss

from nodegraph_diffusion.networks.vector_quantiser import VectorQuantiser
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.training.losses.adversarial import PatchDiscriminator, adaptive_weight, generator_loss, hinge_loss
from nodegraph_diffusion.training.losses.contrastive import Temperature, contrastive_loss, zero_shot_accuracy
from nodegraph_diffusion.training.losses.frechet import frechet_distance
from nodegraph_diffusion.training.losses.gaussian import DiagonalGaussian
from nodegraph_diffusion.training.losses.perceptual import perceptual_loss
from nodegraph_diffusion.training.noising.betas import make_betas, signal_shares
from nodegraph_diffusion.training.noising.steps import EvenSteps, ImportanceSteps
from nodegraph_diffusion.training.noising.targets import add_noise, min_snr_weight, predicted_clean, training_target
from nodegraph_diffusion.training.noising.variational_bound import (
    bound_weights,
    forward_variances,
    posterior,
    posterior_variances,
    reverse_step,
    variational_bound,
)

TARGETS = ("eps", "x0", "v")
SIGNAL = signal_shares(make_betas("squared_cosine", 50))


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def gaussian(*shape: int) -> tuple[DiagonalGaussian, Normal]:
    mean, log_variance = normal(*shape), normal(*shape)
    return DiagonalGaussian(mean=mean, log_variance=log_variance), Normal(mean, (0.5 * log_variance).exp())


# --- Gaussians


def test_divergences_and_densities_are_those_of_torch() -> None:
    """KL between diagonal Gaussians (Kingma & Welling 2013, appendix B), and the NLL."""
    torch.manual_seed(0)
    (ours, theirs), (ours_2, theirs_2), value = gaussian(3, 4, 5), gaussian(3, 4, 5), normal(3, 4, 5)
    standard = Normal(torch.zeros_like(value), torch.ones_like(value))
    torch.testing.assert_close(ours.kl(ours_2), kl_divergence(theirs, theirs_2).sum((1, 2)))
    torch.testing.assert_close(ours.kl_from_standard(), kl_divergence(theirs, standard).sum((1, 2)))
    torch.testing.assert_close(ours.nll(value), -theirs.log_prob(value).sum((1, 2)))
    assert ours.kl(ours).abs().max() == 0


def test_gaussian_is_that_of_diffusers() -> None:
    """With log-variances that are clamped to [-30, 20]."""
    torch.manual_seed(0)
    moments = 20 * normal(2, 8, 3, 3)
    theirs = diffusers.models.autoencoders.vae.DiagonalGaussianDistribution(moments)
    mean, log_variance = moments.chunk(2, dim=1)
    ours = DiagonalGaussian(mean=mean, log_variance=log_variance)
    torch.testing.assert_close(ours.kl_from_standard(), theirs.kl())
    torch.testing.assert_close(ours.nll(mean + 1), theirs.nll(mean + 1, dims=[1, 2, 3]))


def test_gradients_reach_mean_and_variance_through_a_sample() -> None:
    """Reparametrisation: z = mean + deviation * noise (Kingma & Welling 2013, sec. 2.4)."""
    mean, log_variance = torch.zeros(1, 1, requires_grad=True), torch.zeros(1, 1, requires_grad=True)
    DiagonalGaussian(mean=mean, log_variance=log_variance).sample(torch.tensor([[3.0]])).sum().backward()
    assert mean.grad is not None
    assert log_variance.grad is not None
    assert (float(mean.grad), float(log_variance.grad)) == (1.0, 1.5)


def test_probabilities_of_levels_add_up_to_one() -> None:
    """The decoder of Ho et al. 2020, eq. 13."""
    levels = torch.linspace(-1, 1, 256, dtype=torch.float64)[:, None]
    for mean, log_variance in ((0.1, -6.0), (-0.97, -2.0), (1.4, -8.0), (0.0, 2.0)):
        one = DiagonalGaussian(
            mean=torch.full_like(levels, mean), log_variance=torch.full_like(levels, log_variance)
        ).discretised_nll(levels)
        assert float((-one).exp().sum()) == pytest.approx(1, abs=1e-6)


def test_a_narrow_density_has_the_probability_of_the_density_times_the_width_of_a_level() -> None:
    value = torch.tensor([[0.2]], dtype=torch.float64)
    wide = DiagonalGaussian(mean=torch.tensor([[0.25]]).double(), log_variance=torch.tensor([[-2.0]]).double())
    assert float(wide.discretised_nll(value)) == pytest.approx(float(wide.nll(value)) - math.log(2 / 255), abs=1e-4)


# --- targets


@pytest.mark.parametrize("target", TARGETS)
def test_prediction_gives_back_the_clean_value(target) -> None:
    """The noisy value is that of Ho et al. 2020, eq. 4; v is that of Salimans & Ho 2022, appendix D."""
    torch.manual_seed(0)
    clean, noise, signal = normal(4, 2), normal(4, 2), torch.rand(4, 1, dtype=torch.float64) * 0.9 + 0.05
    predicted = training_target(target, clean=clean, noise=noise, signal=signal)
    noisy = add_noise(clean, noise, signal)
    torch.testing.assert_close(predicted_clean(target, predicted, noisy=noisy, signal=signal), clean)


def test_noise_and_velocity_are_those_of_diffusers() -> None:
    torch.manual_seed(0)
    scheduler = diffusers.DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    steps, clean, noise = torch.tensor([0, 500, 999]), torch.randn(3, 4), torch.randn(3, 4)
    signal = signal_shares(make_betas("scaled_linear"))[steps, None].float()
    torch.testing.assert_close(add_noise(clean, noise, signal), scheduler.add_noise(clean, noise, steps))
    velocity = training_target("v", clean=clean, noise=noise, signal=signal)
    torch.testing.assert_close(velocity, scheduler.get_velocity(clean, noise, steps))


def test_min_snr_weights_are_those_of_the_paper() -> None:
    """Hang et al. 2023, sec. 3.4, from the SNR of diffusers."""
    scheduler = diffusers.DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    steps = torch.tensor([0, 3, 200, 999])
    snr = compute_snr(scheduler, steps).double()
    signal = signal_shares(make_betas("scaled_linear"))[steps]
    capped = snr.clamp_max(5)
    for target, expected in (("eps", capped / snr), ("x0", capped), ("v", capped / (snr + 1))):
        torch.testing.assert_close(min_snr_weight(target, signal), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("target", TARGETS)
def test_weight_is_finite_without_signal(target) -> None:
    signal = signal_shares(make_betas("scaled_linear"), zero_snr=True)
    assert float(signal[-1]) == 0
    assert min_snr_weight(target, signal[1:]).isfinite().all()


# --- betas


@pytest.mark.parametrize(
    ("ours", "theirs"), [("linear", "linear"), ("scaled_linear", "scaled_linear"), ("squared_cosine", "squaredcos_cap_v2")]
)
def test_betas_are_those_of_diffusers(ours, theirs) -> None:
    scheduler = diffusers.DDPMScheduler(300, beta_start=0.0001, beta_end=0.02, beta_schedule=theirs)
    found = make_betas(ours, 300, start=0.0001, end=0.02)
    torch.testing.assert_close(found.float(), scheduler.betas, rtol=1e-4, atol=1e-7)


def test_cosine_has_the_signal_of_a_cosine() -> None:
    """Salimans & Ho 2022, sec. 2: without the offset of Nichol & Dhariwal 2021, eq. 17."""
    shares = signal_shares(make_betas("cosine", 8))
    torch.testing.assert_close(shares[3], torch.tensor(0.5, dtype=torch.float64))
    torch.testing.assert_close(shares[1], torch.tensor(math.cos(math.pi / 8) ** 2, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["linear", "scaled_linear"])
def test_zero_snr_is_that_of_diffusers(kind) -> None:
    """Lin et al. 2023, algorithm 1."""
    betas = make_betas(kind)
    rescaled = rescale_zero_terminal_snr(betas)
    torch.testing.assert_close(signal_shares(betas, zero_snr=True), torch.cumprod(1 - rescaled, dim=0), rtol=1e-9, atol=1e-12)


def test_signal_is_that_of_the_noise_schedule() -> None:
    torch.testing.assert_close(signal_shares(make_betas("scaled_linear")), NoiseSchedule().alphas_cumprod())
    scheduler = diffusers.DDPMScheduler(rescale_betas_zero_snr=True)
    shares = signal_shares(make_betas("linear", start=0.0001, end=0.02), zero_snr=True)
    torch.testing.assert_close(shares.float(), scheduler.alphas_cumprod, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_betas("linear", 1), "at least 2 steps, found 1"),
        (lambda: make_betas("linear", start=0.5, end=0.1), "0 < start <= end < 1, found 0.5 and 0.1"),
        (lambda: make_betas("sigmoid"), "squared_cosine, found 'sigmoid'"),
    ],
)
def test_wrong_betas_are_refused(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# --- the variational bound


def test_posterior_is_that_of_diffusers() -> None:
    """Ho et al. 2020, eq. 6 and 7."""
    torch.manual_seed(0)
    scheduler = diffusers.DDPMScheduler(prediction_type="sample", clip_sample=False, variance_type="fixed_small")
    signal = signal_shares(make_betas("linear", start=0.0001, end=0.02))
    clean, noisy = normal(2, 3), normal(2, 3)
    for step in (1, 500, 999):
        ours = posterior(signal, step, clean=clean, noisy=noisy)
        generator = torch.Generator().manual_seed(7)
        expected = scheduler.step(clean.float(), step, noisy.float(), generator=generator).prev_sample
        noise = torch.randn(2, 3, generator=torch.Generator().manual_seed(7))
        torch.testing.assert_close(ours.sample(noise.double()).float(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variance", ["posterior", "beta"])
@pytest.mark.parametrize("target", TARGETS)
def test_weights_are_the_terms_of_the_bound_for_each_target(target, variance) -> None:
    """The terms L_{t-1} of Ho et al. 2020, eq. 5 and 8, as weighted squared errors."""
    torch.manual_seed(0)
    clean, noise = normal(4, 3), normal(4, 3)
    for step in (1, 20, 48):
        noisy = add_noise(clean, noise, SIGNAL[step])
        wanted = training_target(target, clean=clean, noise=noise, signal=SIGNAL[step])
        predicted = wanted + normal(4, 3)
        guess = predicted_clean(target, predicted, noisy=noisy, signal=SIGNAL[step])
        true, model = (
            posterior(SIGNAL, step, clean=clean, noisy=noisy),
            reverse_step(SIGNAL, step, clean=guess, noisy=noisy, variance=variance),
        )
        perfect = true.kl(reverse_step(SIGNAL, step, clean=clean, noisy=noisy, variance=variance))
        error = (predicted - wanted).square().sum(1)
        torch.testing.assert_close(true.kl(model) - perfect, bound_weights(SIGNAL, target, variance=variance)[step] * error)


def test_weights_of_the_noise_are_those_of_equation_12() -> None:
    betas = forward_variances(SIGNAL)
    for variance, values in (("posterior", posterior_variances(SIGNAL)), ("beta", betas)):
        expected = betas.square() / (2 * values * (1 - betas) * (1 - SIGNAL))
        torch.testing.assert_close(bound_weights(SIGNAL, "eps", variance=variance), expected)


def test_bound_of_the_best_model_of_a_gaussian_is_its_entropy() -> None:
    """The reverse of a Gaussian's diffusion is known exactly, so its bound is tight: the entropy of the data."""
    deviation = 0.6
    variance_of_clean = deviation**2 * (1 - SIGNAL) / (SIGNAL * deviation**2 + 1 - SIGNAL)
    before = torch.cat([SIGNAL.new_ones(1), SIGNAL[:-1]])
    factors = before.sqrt() * forward_variances(SIGNAL) / (1 - SIGNAL)
    reverse_variances = (1 - before) / (1 - SIGNAL) * forward_variances(SIGNAL) + factors.square() * variance_of_clean

    def denoise(noisy: Tensor, step: int) -> Tensor:
        return noisy * SIGNAL[step].sqrt() * deviation**2 / (SIGNAL[step] * deviation**2 + 1 - SIGNAL[step])

    generator = torch.Generator().manual_seed(0)
    clean = deviation * torch.randn(50, 400, dtype=torch.float64, generator=generator)
    entropy = 0.5 * math.log2(2 * math.pi * math.e * deviation**2)
    exact = variational_bound(denoise, clean, SIGNAL, generator=generator, variance=reverse_variances)
    assert float(exact.total.mean()) == pytest.approx(entropy, abs=0.02)
    assert float(exact.prior.mean()) == pytest.approx(0, abs=1e-3)
    for variance in ("posterior", "beta"):
        looser = variational_bound(denoise, clean, SIGNAL, generator=generator, variance=variance)
        assert float(looser.total.mean()) > entropy + 0.02


def test_bound_of_pixels_that_are_known_counts_only_the_level() -> None:
    clean = torch.linspace(-1, 1, 256, dtype=torch.float64)[:, None]
    bound = variational_bound(lambda noisy, step: clean, clean, SIGNAL, levels=256)
    assert bound.steps[1:].abs().max() < 1e-12
    assert 0 < float(bound.steps[0].mean()) < 8  # bits


# --- steps


def test_even_steps_have_equal_weights() -> None:
    steps, weights = EvenSteps(4).draw(400, torch.Generator().manual_seed(0))
    assert set(steps.tolist()) == {0, 1, 2, 3}
    assert set(weights.tolist()) == {1.0}


def test_important_steps_are_drawn_more_often_and_count_less() -> None:
    """Nichol & Dhariwal 2021, eq. 18."""
    sampler = ImportanceSteps(4, history=2, even=0.0)
    generator = torch.Generator().manual_seed(0)
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0])
    for _ in range(2):
        assert sampler.probabilities().tolist() == [0.25] * 4
        sampler.learn(torch.arange(4), losses)
    assert sampler.probabilities().tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])
    steps, weights = sampler.draw(40_000, generator)
    assert [int((steps == step).sum()) / 40_000 for step in range(4)] == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.01)
    assert float((weights * losses[steps]).mean()) == pytest.approx(float(losses.mean()), rel=1e-6)  # no variance at all: eq. 18
    again = ImportanceSteps(4, history=2, even=0.0)
    again.load_state_dict(sampler.state_dict())
    assert again.probabilities().tolist() == sampler.probabilities().tolist()


def test_important_steps_forget_old_losses_and_leave_none_out() -> None:
    sampler = ImportanceSteps(2, history=3, even=0.1)
    for loss in (5.0, 0.0, 0.0, 0.0):
        sampler.learn(torch.tensor([0, 1]), torch.tensor([loss, 1.0]))
    assert sampler.probabilities().tolist() == pytest.approx([0.05, 0.95])


# --- the discriminator, perception, codebooks


def test_hinge_losses_are_those_of_the_paper() -> None:
    """Lim & Ye 2017, eq. 13 and 14."""
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.25, 1.0])
    assert float(hinge_loss(real, fake)) == pytest.approx(0.5 * ((0 + 0.5 + 2) / 3 + (0 + 1.25 + 2) / 3))
    assert float(generator_loss(fake)) == pytest.approx(1.75 / 3)


def test_patch_of_the_discriminator_is_70_pixels() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(channels=8).eval()
    pixels = torch.zeros(1, 3, 256, 256, requires_grad=True)
    logits = discriminator(pixels)
    assert logits.shape == (1, 1, 30, 30)
    (gradient,) = torch.autograd.grad(logits[0, 0, 15, 15], pixels)
    rows = gradient.abs().sum((0, 1, 3)).nonzero().flatten()
    assert int(rows[-1] - rows[0]) + 1 == 70


def test_adaptive_weight_is_the_ratio_of_gradients() -> None:
    """Esser et al. 2021, eq. 7, with both gradients written out."""
    torch.manual_seed(0)
    decoder, critic = torch.nn.Linear(4, 3), torch.nn.Linear(3, 1)
    latent, target = torch.randn(5, 4), torch.randn(5, 3)
    output = decoder(latent)
    reconstruction, adversarial = (output - target).square().mean(), -critic(output).mean()
    weight = adaptive_weight(reconstruction, adversarial, decoder.weight)
    by_output = 2 * (output - target) / output.numel()  # both gradients written out
    wanted = (by_output.T @ latent).norm()
    found = (-critic.weight.expand(5, 3).T @ latent / 5).norm()
    torch.testing.assert_close(weight, (wanted / (found + 1e-6)).detach())
    assert not weight.requires_grad
    assert float(adaptive_weight(reconstruction, 0 * adversarial, decoder.weight)) == 1e4


def test_perceptual_loss_is_the_distance_of_unit_features() -> None:
    """Zhang et al. 2018, eq. 1 with weights of 1."""
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(3, 4, 3)
    pixels, target = torch.randn(2, 3, 5, 5, requires_grad=True), torch.randn(2, 3, 5, 5)
    found = perceptual_loss(lambda x: [layer(x), 3 * layer(x)], pixels, target)
    similarity = torch.cosine_similarity(layer(pixels), layer(target), dim=1)
    torch.testing.assert_close(found, 2 * (2 - 2 * similarity).mean((1, 2)), rtol=1e-4, atol=1e-5)
    assert perceptual_loss(lambda x: [layer(x)], target, target).abs().max() == 0
    found.sum().backward()
    assert pixels.grad is not None


def test_cells_become_the_nearest_vectors_and_keep_their_gradients() -> None:
    """Van den Oord et al. 2017, eq. 1 to 3, with gradients that skip the choice."""
    torch.manual_seed(0)
    quantiser = VectorQuantiser(7, 3)
    torch.nn.init.normal_(quantiser.codebook.weight)
    latent = torch.randn(2, 3, 4, 5, requires_grad=True)
    quantised = quantiser(latent)
    cells = latent.movedim(1, -1).reshape(-1, 3)
    nearest = torch.cdist(cells, quantiser.codebook.weight).argmin(1)
    assert quantised.codes.flatten().tolist() == nearest.tolist()
    torch.testing.assert_close(quantised.latent, quantiser.decode(quantised.codes))
    upstream = torch.randn(2, 3, 4, 5)
    (gradient,) = torch.autograd.grad(quantised.latent, latent, upstream, retain_graph=True)
    torch.testing.assert_close(gradient, upstream)
    difference = quantiser.decode(quantised.codes) - latent
    torch.testing.assert_close(quantised.loss, 1.25 * difference.square().mean())
    by_latent, by_book = torch.autograd.grad(quantised.loss, (latent, quantiser.codebook.weight))
    torch.testing.assert_close(by_latent, -2 * 0.25 * difference.detach() / latent.numel())
    used = set(nearest.tolist())
    assert {index for index in range(7) if float(by_book[index].abs().sum()) > 0} == used


# --- pictures and texts


def test_contrastive_loss_is_that_of_transformers() -> None:
    """Radford et al. 2021, fig. 3; the temperature begins at 0.07 (sec. 2.5)."""
    torch.manual_seed(0)
    images, texts, temperature = torch.randn(4, 8), torch.randn(4, 8), Temperature()
    similarities = temperature(images, texts)
    torch.testing.assert_close(similarities, torch.cosine_similarity(images[:, None], texts[None], dim=-1) / 0.07)
    torch.testing.assert_close(contrastive_loss(similarities), image_text_contrastive_loss(similarities.T))


def test_temperature_stays_below_its_limit() -> None:
    temperature = Temperature()
    torch.nn.init.constant_(temperature.logit_scale, 50.0)
    same = torch.ones(1, 2)
    similarity = temperature(same, same)
    assert similarity.item() == pytest.approx(100)
    similarity.sum().backward()
    assert float(temperature.logit_scale.grad) == pytest.approx(100)


def test_zero_shot_accuracy_counts_the_right_texts() -> None:
    """Radford et al. 2021, sec. 3.1."""
    similarities = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    assert zero_shot_accuracy(similarities, torch.tensor([0, 1, 1, 1])) == 0.75


def test_frechet_distance_is_its_formula() -> None:
    """Heusel et al. 2017, eq. 6: with SciPy's root of the product, and between Gaussians whose parameters are known."""
    torch.manual_seed(0)
    a, b = torch.randn(40, 5) @ torch.randn(5, 5) + 1, torch.randn(30, 5) @ torch.randn(5, 5)
    first, second = a.double().T.cov().numpy(), b.double().T.cov().numpy()
    shared = scipy.linalg.sqrtm(first @ second).real
    expected = float((a.mean(0) - b.mean(0)).square().sum()) + (first + second - 2 * shared).trace()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, 3 + a) == pytest.approx(5 * 9, rel=1e-6)
    apart = frechet_distance(torch.randn(20_000, 2), 3 * torch.randn(20_000, 2) + 1)
    assert apart == pytest.approx(2 * 1 + 2 * (3 - 1) ** 2, rel=0.05)
    with pytest.raises(ValueError, match="at least 2 pictures in each set, found 1 and 30"):
        frechet_distance(a[:1], b)
