"""The objective of a denoiser against its formulas, and the networks of training against references."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import transformers
from torch import Tensor, nn

from nodegraph_diffusion.guidance.classifier_score import ClassifierScore
from nodegraph_diffusion.networks.classifier import NoisyClassifier
from nodegraph_diffusion.networks.clip import CLIPTextModel, CLIPVisionModel
from nodegraph_diffusion.networks.vector_quantiser import AutoencoderVQ
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.training.loop.seeds import generator_for
from nodegraph_diffusion.training.loop.task import Moment
from nodegraph_diffusion.training.losses.adversarial import PatchDiscriminator
from nodegraph_diffusion.training.noising.latent_scale import scaling_factor
from nodegraph_diffusion.training.noising.objective import DenoisingLoss, NoisyBatch, Objective
from nodegraph_diffusion.training.noising.targets import add_noise, min_snr_weight, training_target
from nodegraph_diffusion.training.noising.variational_bound import bound_weights, posterior, reverse_step, variational_bound
from nodegraph_diffusion.training.tasks.autoencoder import AutoencoderTask, Critic
from nodegraph_diffusion.training.tasks.clip import CLIPTask
from nodegraph_diffusion.training.tasks.conditions import Condition, EncodedCondition, LabelCondition, TextCondition
from nodegraph_diffusion.training.tasks.denoiser import ConditionedLatents, DenoiserTask, ddim
from tests.support.training_tasks import CLASSIFIER, IMAGE, TEXT, UNET, VAE, pictures

TARGETS = ("eps", "x0", "v")


def noisy_batch(loss: DenoisingLoss, count: int = 5) -> NoisyBatch:
    clean = torch.randn(count, 2, 3, 3, generator=generator_for(0, "clean"))
    return loss.add_noise(clean, generator_for(0, "noise"))


def parts(loss: DenoisingLoss, batch: NoisyBatch) -> tuple[Tensor, Tensor]:
    """The signal at each step, (B, 1, 1, 1), and the target."""
    signal = loss.signal[batch.steps].float().view(-1, 1, 1, 1)
    return signal, training_target(loss.objective.target, clean=batch.clean, noise=batch.noise, signal=signal)


def test_batch_holds_the_noise_of_its_steps() -> None:
    loss = DenoisingLoss(Objective(steps=10))
    batch = noisy_batch(loss)
    torch.testing.assert_close(batch.noisy, add_noise(batch.clean, batch.noise, parts(loss, batch)[0]))
    assert batch.weights.tolist() == [1.0] * 5


@pytest.mark.parametrize("target", TARGETS)
def test_losses_are_their_formulas(target) -> None:
    """L1 and L2; Ho et al. 2020, eq. 14 (simple) and eq. 12 (bound); Hang et al. 2023, sec. 3.4 (min_snr)."""
    predicted = torch.randn(5, 2, 3, 3, generator=generator_for(0, "predicted"))
    expected = {}
    for error, weighting in (("l2", "simple"), ("l1", "simple"), ("l2", "min_snr"), ("l2", "bound")):
        loss = DenoisingLoss(Objective(target=target, error=error, weighting=weighting, steps=10, beta_end=0.4))
        batch = noisy_batch(loss)
        signal, wanted = parts(loss, batch)
        squares = (predicted - wanted).square().mean((1, 2, 3))
        expected = {
            ("l2", "simple"): squares,
            ("l1", "simple"): (predicted - wanted).abs().mean((1, 2, 3)),
            ("l2", "min_snr"): squares * min_snr_weight(target, signal).flatten(),
            ("l2", "bound"): squares * 10 * bound_weights(loss.signal, target).float()[batch.steps],
        }
        torch.testing.assert_close(loss(batch, predicted), expected[error, weighting].mean(), rtol=1e-4, atol=1e-6)


def test_learned_variances_lie_between_both_and_only_they_learn_from_the_bound() -> None:
    """Nichol & Dhariwal 2021, eq. 15 and 16."""
    simple, hybrid = (DenoisingLoss(Objective(weighting=w, steps=10, beta_end=0.4)) for w in ("simple", "hybrid"))
    batch = noisy_batch(hybrid)
    predicted = torch.randn(5, 4, 3, 3, generator=generator_for(0, "predicted")).requires_grad_()
    (gradient,) = torch.autograd.grad(hybrid(batch, predicted), predicted)
    (expected,) = torch.autograd.grad(simple(batch, predicted[:, :2]), predicted)
    torch.testing.assert_close(gradient[:, :2], expected[:, :2])
    assert gradient[:, 2:].abs().sum((1, 2, 3)).min() > 0
    for value, variance in ((-1.0, "posterior"), (1.0, "beta")):
        ends = torch.cat([batch.noise, torch.full_like(batch.noise, value)], dim=1)
        terms = []
        for index, step in enumerate(batch.steps.tolist()):
            clean, noisy = batch.clean[index : index + 1], batch.noisy[index : index + 1]
            model = reverse_step(hybrid.signal, step, clean=clean, noisy=noisy, variance=variance)
            true = posterior(hybrid.signal, step, clean=clean, noisy=noisy)
            terms.append((model.nll(clean) if step == 0 else true.kl(model)) / 18)
        torch.testing.assert_close(hybrid(batch, ends), 0.001 * 10 * torch.cat(terms).mean(), rtol=1e-3, atol=1e-6)


def test_logged_bound_is_the_variational_bound() -> None:
    """If each step is drawn once, with the same noise."""
    for objective in (Objective(target="x0", steps=8, betas="squared_cosine"), Objective(steps=8, beta_end=0.4, levels=256)):
        loss = DenoisingLoss(objective)
        clean = 0.3 * torch.randn(5, 2, 3, 3, generator=generator_for(0, "clean"))
        expected = variational_bound(
            lambda noisy, step: 0.8 * noisy, clean, loss.signal, generator=generator_for(0, "noise"), levels=objective.levels
        )
        generator, steps = generator_for(0, "noise"), torch.arange(8).repeat_interleave(5)
        noise = torch.cat([torch.randn(clean.shape, generator=generator) for _ in range(8)])
        signal, clean = loss.signal[steps].float().view(-1, 1, 1, 1), clean.repeat(8, 1, 1, 1)
        noisy = add_noise(clean, noise, signal)
        batch = NoisyBatch(clean=clean, noise=noise, noisy=noisy, steps=steps, weights=torch.ones(40))
        predicted = 0.8 * noisy if objective.target == "x0" else (noisy - signal.sqrt() * 0.8 * noisy) / (1 - signal).sqrt()
        torch.testing.assert_close(loss.bits_per_dimension(batch, predicted), expected.total.mean(), rtol=1e-3, atol=1e-4)


def test_important_steps_keep_the_loss_and_come_more_often() -> None:
    """Nichol & Dhariwal 2021, eq. 18."""
    loss = DenoisingLoss(Objective(steps=4, draw="importance"))
    generator = generator_for(0)
    for _ in range(20):
        batch = loss.add_noise(torch.zeros(64, 1), generator)
        loss(batch, batch.noise + (batch.steps[:, None] + 1).float().sqrt())  # an error of step + 1
    batch = loss.add_noise(torch.zeros(20_000, 1), generator)
    shares = torch.bincount(batch.steps).double() / 20_000
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.2, 0.3, 0.4]).double(), rtol=0, atol=0.02)
    assert float(loss(batch, batch.noise + (batch.steps[:, None] + 1).float().sqrt())) == pytest.approx(2.5, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "noise"}, "target eps, x0, v, found 'noise'"),
        ({"weighting": "snr"}, "found 'snr'"),
        ({"zero_snr": True}, "x0 or v with zero_snr, found eps"),
        ({"weighting": "bound", "error": "l1"}, "error l2 with weighting bound, found l1"),
    ],
)
def test_objectives_that_make_no_sense_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        Objective(**options)


@pytest.mark.parametrize("target", ["x0", "v"])
def test_zero_snr_has_no_signal_and_a_finite_loss(target) -> None:
    loss = DenoisingLoss(Objective(target=target, zero_snr=True, steps=5))
    assert float(loss.signal[-1]) == 0
    batch = noisy_batch(loss, 40)
    last = batch.steps == 4
    assert torch.equal(batch.noisy[last], batch.noise[last])
    for value in (loss(batch, batch.noise), loss.bits_per_dimension(batch, batch.noise)):
        assert value.isfinite()


class Echo(nn.Module):
    """Predicts its input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, **unused: None) -> Tensor:
        return self.weight * x


def test_conditions_are_dropped_as_often_as_asked() -> None:
    """Ho & Salimans 2022, algorithm 1, line 3."""
    seen: list[Tensor] = []
    condition = LabelCondition(2)
    condition.register_forward_hook(lambda module, inputs, output: seen.append(inputs[1]))
    task = DenoiserTask(Echo(), condition, Objective(), dropout=0.25)  # type: ignore[arg-type]
    batch = ConditionedLatents(latent=torch.zeros(4000, 1, 1, 1), condition=torch.ones(4000, 1, 5))
    task.losses(batch, Moment(step=0, generator=generator_for(0)))
    assert float(seen[0].float().mean()) == pytest.approx(0.25, abs=0.03)


def test_dropped_conditions_are_empty() -> None:
    torch.manual_seed(0)
    dropped = torch.tensor([False, True])
    label = [2.0, 0.1, 0.2, 0.3, 0.4]
    expected = torch.tensor([[label], [[4.0, 0.0, 0.0, 1.0, 1.0]]])
    torch.testing.assert_close(LabelCondition(4)(torch.tensor([[label], [label]]), dropped), expected)
    encoder, empty = CLIPTextModel(TEXT), torch.tensor([8, 9, 9, 9])
    tokens = torch.tensor([[8, 1, 2, 9], [8, 1, 2, 9]])
    expected = encoder(torch.stack([tokens[0], empty]))
    torch.testing.assert_close(TextCondition(encoder, empty)(tokens, dropped), expected)
    contexts = torch.randn(2, 4, 8)
    torch.testing.assert_close(EncodedCondition(torch.zeros(4, 8))(contexts, dropped)[1], torch.zeros(4, 8))
    assert Condition(8)(torch.zeros(2), dropped).shape == (2, 1, 8)


@pytest.mark.parametrize("target", TARGETS)
def test_ddim_with_perfect_predictions_finds_the_clean_value(target) -> None:
    loss = DenoisingLoss(Objective(target=target, zero_snr=target != "eps", steps=50, beta_end=0.4))
    clean = torch.randn(2, 3)

    def predict(noisy: Tensor, step: int) -> Tensor:
        signal = loss.signal[step].float()
        noise = (noisy - signal.sqrt() * clean) / (1 - signal).sqrt()
        return training_target(target, clean=clean, noise=noise, signal=signal)

    torch.testing.assert_close(ddim(predict, torch.randn(2, 3), loss, 7), clean, rtol=1e-3, atol=1e-3)


def test_scaling_factor_gives_unit_deviation() -> None:
    """Rombach et al. 2022, appendix G."""
    latents = [1000 + 7 * torch.randn(n, 4, 3, generator=generator_for(n)) for n in (1, 5, 20)]
    joined = torch.cat(latents).double()
    assert scaling_factor(latents) == pytest.approx(1 / float(joined.std(correction=0)))
    with pytest.raises(ValueError, match="latents that differ, found 6 numbers without a deviation"):
        scaling_factor([torch.ones(2, 3)])


# --- networks


def test_image_encoder_is_that_of_transformers() -> None:
    torch.manual_seed(0)
    for activation in ("quick_gelu", "gelu"):
        config = transformers.CLIPVisionConfig(
            image_size=IMAGE.size,
            patch_size=IMAGE.patch,
            hidden_size=IMAGE.width,
            num_hidden_layers=IMAGE.layers,
            num_attention_heads=IMAGE.heads,
            intermediate_size=IMAGE.mlp_width,
            projection_dim=IMAGE.projection,
            hidden_act=activation,
        )
        theirs = transformers.CLIPVisionModelWithProjection(config).eval()
        ours = CLIPVisionModel(IMAGE.__class__(**{**vars(IMAGE), "activation": activation}))
        state = {name.removeprefix("vision_model."): value for name, value in theirs.state_dict().items()}
        ours.load_state_dict({name: value for name, value in state.items() if "position_ids" not in name})
        found, expected = ours(pictures()), theirs(pictures(), output_hidden_states=True)
        torch.testing.assert_close(found, expected.image_embeds, rtol=1e-4, atol=1e-5)
        for ours_map, hidden in zip(ours.feature_maps(pictures()), expected.hidden_states[1:], strict=True):
            torch.testing.assert_close(ours_map.flatten(2).transpose(1, 2), hidden[:, 1:], rtol=1e-4, atol=1e-5)


def test_encoders_of_clip_share_a_space() -> None:
    text = TEXT.__class__(**{**vars(TEXT), "projection": 24})
    with pytest.raises(ValueError, match="a text encoder with projection 16, as the image encoder has, found 24"):
        CLIPTask(CLIPVisionModel(IMAGE), CLIPTextModel(text))


def test_vq_autoencoder_decodes_the_nearest_vectors() -> None:
    torch.manual_seed(0)
    model = AutoencoderVQ(replace(VAE, codes=16))
    latent = model.encode(pictures())[0]
    assert latent.shape == (6, 4, 4, 4)
    codes = model.quantize(latent).codes
    torch.testing.assert_close(model.decode(latent), model.decode_quantised(model.quantize.decode(codes)))


def test_classifier_has_no_transformers() -> None:
    logits = NoisyClassifier(CLASSIFIER, 7)(torch.randn(2, 3, 16, 16), torch.tensor([0.0, 9.0]))
    assert logits.shape == (2, 7)
    with pytest.raises(ValueError, match="a classifier receives no prompt"):
        NoisyClassifier(UNET, 7)


def test_score_of_a_classifier_is_that_of_its_training() -> None:
    """Its score is that of the latent as its training makes it noisy."""
    torch.manual_seed(0)
    schedule, classes = NoiseSchedule(), torch.tensor([1, 2])
    classifier = NoisyClassifier(CLASSIFIER, 3)
    score = ClassifierScore(classifier, schedule, classes)
    signal = schedule.alphas_cumprod()[400].float()
    clean, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    sigma = float(((1 - signal) / signal).sqrt())
    noisy = add_noise(clean, noise, signal)
    expected = classifier(noisy, torch.full((2,), 400.0)).log_softmax(1)[[0, 1], classes]
    torch.testing.assert_close(score(clean + sigma * noise, sigma), expected, rtol=1e-3, atol=1e-4)


def test_discriminator_takes_part_after_its_start_and_learns_apart() -> None:
    """Esser et al. 2021, eq. 6 and 7."""
    torch.manual_seed(0)
    from nodegraph_diffusion.networks.vae import AutoencoderKL

    model, critic = AutoencoderKL(VAE), Critic(discriminator=PatchDiscriminator(channels=4, layers=1), start=3)
    task = AutoencoderTask(model, critic=critic)
    early, late = (task.losses(pictures(), Moment(step=step, generator=generator_for(0))) for step in (2, 3))
    assert early.by_network.keys() == {"autoencoder"}
    assert late.by_network.keys() == {"autoencoder", "discriminator"}
    added = late.by_network["autoencoder"] - early.by_network["autoencoder"]
    torch.testing.assert_close(added, late.figures["adversarial_weight"] * late.figures["adversarial"])
    late.by_network["discriminator"].backward()
    assert all(parameter.grad is None for parameter in model.parameters())
