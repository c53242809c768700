"""Networks with input channels beside the latent: for inpainting and for instructions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nodegraph_diffusion.conditioning.prompt import Prompt
from nodegraph_diffusion.denoising.unet_denoiser import UNetDenoiser
from nodegraph_diffusion.guidance import ClassifierFreeGuidance
from nodegraph_nodes.models.parts import load_unet_network, load_vae_network
from nodegraph_nodes.nodes.concat import apply_inpaint, apply_pix2pix
from nodegraph_nodes.nodes.sampling import sampler, unet_denoise
from nodegraph_nodes.types import Conditioning, Image, Latent, Mask, Noise

PROMPTS = [Conditioning((Prompt(torch.full((1, 4, 32), value)),)) for value in (0.1, -0.3)]
X = torch.randn(1, 4, 4, 5, generator=torch.Generator().manual_seed(5))


def guided(unet, concat, run, x=X, sigma=2.0):
    network = load_unet_network(unet, run)
    sides = (UNetDenoiser(network, unet.part.noise_schedule, side.prompts, concat=concat) for side in PROMPTS)
    return ClassifierFreeGuidance(*sides, 3.0)(x, sigma)


def picture(height=32, width=40):
    return Image(torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(4)))


def encoded(model, pixels, run):
    """The scaled mean of the latent of (1, H, W, 3)."""
    mean, _ = load_vae_network(model.vae, run).encode(pixels.permute(0, 3, 1, 2) * 2 - 1)
    return mean.detach() * model.vae.part.config.scaling_factor


def test_inpainting_model_sees_mask_and_masked_picture(model, unet_with, run):
    image, mask = picture(), torch.zeros(1, 32, 40)
    mask[:, 5:20, 9:29] = 0.8
    mask[:, :5, :9] = 0.4  # rounds to black
    unet = apply_inpaint(unet_with(in_channels=9), model.vae, image, Mask(mask), run=run)
    grey = torch.where(mask[..., None] > 0.5, 0.5, image.pixels)
    cells = F.interpolate(mask[:, None], size=(4, 5), mode="bilinear").round()
    assert 0 < cells.sum() < 20
    torch.testing.assert_close(unet.concat.values, torch.cat([cells, encoded(model, grey, run)], dim=1))
    assert unet.concat.kind == "inpaint"
    denoised = unet_denoise(unet, *PROMPTS, cfg=3.0, run=run).function(X, 2.0)
    assert torch.equal(denoised, guided(unet, unet.concat.values, run))
    assert run.notices == []


def test_picture_is_padded_like_its_latent(model, unet_with, run):
    mask = Mask(torch.ones(1, 15, 20))
    unet = apply_inpaint(unet_with(in_channels=9), model.vae, picture(30, 40), mask, run=run)
    assert unet.concat.values.shape == (1, 5, 4, 5)
    assert unet.concat.values[:, 0].eq(1).all()
    (notice,) = run.notices
    assert notice.startswith("the mask is 20x15 and the picture 40x30")


def test_masks_and_pictures_are_broadcast(model, unet_with, run):
    pictures = Image(picture().pixels.expand(2, -1, -1, -1))
    masks = Mask(torch.stack([torch.zeros(32, 40), torch.ones(32, 40)]))
    for image, mask in ((pictures, Mask(masks.values[1:])), (picture(), masks), (pictures, masks)):
        values = apply_inpaint(unet_with(in_channels=9), model.vae, image, mask, run=run).concat.values
        assert values.shape == (2, 5, 4, 5)
        assert values[1, 0].eq(1).all()


def test_instruct_model_sees_the_unscaled_latent(model, unet_with, run):
    latent = encoded(model, picture().pixels, run)
    unet = apply_pix2pix(unet_with(in_channels=8), Latent(latent, (32, 40)))
    mean, _ = load_vae_network(model.vae, run).encode(picture().pixels.permute(0, 3, 1, 2) * 2 - 1)
    torch.testing.assert_close(unet.concat.values, mean)
    denoised = unet_denoise(unet, *PROMPTS, cfg=3.0, run=run).function(X, 2.0)
    torch.testing.assert_close(denoised, guided(unet, mean, run))


@pytest.mark.parametrize(
    ("channels", "blank"), [(9, [1, 0.8223, -0.6876, 0.6364, 0.1380]), (8, [0, 0, 0, 0])], ids=["inpaint", "pix2pix"]
)
def test_missing_picture_becomes_a_blank_one(unet_with, run, channels, blank):
    unet = unet_with(in_channels=channels)
    whole = torch.tensor(blank)[None, :, None, None].expand(1, -1, 4, 5)
    denoised = unet_denoise(unet, *PROMPTS, cfg=3.0, run=run).function(X, 2.0)
    assert torch.equal(denoised, guided(unet, whole, run))


def test_inpainting_model_without_a_picture_sees_what_is_repainted(model, unet_with, run):
    unet, mask = unet_with(in_channels=9), torch.zeros(1, 32, 40)
    mask[:, 4:20, 9:29] = 1
    start, drawn = torch.randn(1, 4, 4, 5), torch.randn(1, 4, 4, 5)
    latent = Latent(start, (32, 40))
    denoiser = unet_denoise(unet, *PROMPTS, cfg=3.0, run=run)
    sampled = sampler(denoiser, latent, Noise(drawn, 1), mask=Mask(mask), sampler="euler", steps=1, run=run).samples

    sigma = unet.part.noise_schedule.sigma_max
    cells = F.interpolate(mask[:, None], size=(4, 5), mode="bilinear")
    assert len(cells.unique()) > 2
    noised = start + drawn * (1 + sigma**2) ** 0.5
    x = noised * cells + (start + drawn * sigma) * (1 - cells)
    denoised = guided(unet, torch.cat([cells.round(), start], dim=1), run, x=x, sigma=sigma)
    torch.testing.assert_close(sampled, denoised * cells + start * (1 - cells), atol=1e-4, rtol=1e-4)
    blank = torch.tensor([1, 0.8223, -0.6876, 0.6364, 0.1380])[None, :, None, None]
    assert torch.equal(denoiser.function(X, 2.0), guided(unet, blank.expand(1, -1, 4, 5), run))


def test_model_with_other_channels_is_refused(model, unet_with, run):
    with pytest.raises(ValueError, match="9 input channels, as one for inpainting has, found one with 4"):
        apply_inpaint(model.unet, model.vae, picture(), Mask(torch.ones(1, 32, 40)), run=run)
    with pytest.raises(ValueError, match="8 input channels, as one for changing pictures by instructions has, found one with 9"):
        apply_pix2pix(unet_with(in_channels=9), Latent(X, (32, 40)))


def test_adding_a_picture_leaves_the_model_unchanged(model, unet_with, run):
    unet = unet_with(in_channels=8)
    apply_pix2pix(unet, Latent(X, (32, 40)))
    assert unet.concat is None
