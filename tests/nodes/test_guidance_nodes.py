"""The guidance nodes return what the library returns, and report errors before a model is loaded."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from nodegraph import Engine, PluginError, Workflow, WorkflowError
from nodegraph.plugins.manager import load_plugins
from nodegraph_diffusion.conditioning.prompt import Prompt
from nodegraph_diffusion.denoising.unet_denoiser import UNetDenoiser
from nodegraph_diffusion.guidance import GUIDANCE, ClassifierFreeGuidance, DualGuidance, PerpNeg
from nodegraph_nodes.models.parts import load_unet_network
from nodegraph_nodes.nodes.concat import apply_pix2pix
from nodegraph_nodes.nodes.conditioning import combine_conditioning, set_area
from nodegraph_nodes.nodes.guidance import dual_guidance, guidance, perp_neg
from nodegraph_nodes.nodes.latent import noise
from nodegraph_nodes.nodes.sampling import sampler, unet_denoise
from nodegraph_nodes.nodes.text import text_encode
from nodegraph_nodes.types import Conditioning, Latent, Mask

X = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(5))
SIGMA = 2.0


@pytest.fixture(scope="module")
def prompts(model):
    return tuple(text_encode(model.text_encoder, text) for text in ("a red house", "night", ""))


@pytest.fixture(scope="module")
def denoiser(model, prompts):
    return unet_denoise(model.unet, *prompts[:2], cfg=3.0)


def sides(model, prompts, run):
    network, schedule = load_unet_network(model.unet, run), model.unet.part.noise_schedule
    return [UNetDenoiser(network, schedule, one.prompts) for one in prompts]


# --- Guidance


@pytest.mark.parametrize("name", sorted(GUIDANCE))
def test_guidance_equals_the_library(model, prompts, denoiser, run, name):
    ours = guidance(denoiser, name).function(X, SIGMA)
    direct = GUIDANCE[name](ClassifierFreeGuidance(*sides(model, prompts[:2], run), 3.0))
    assert torch.equal(ours, direct(X, SIGMA))


def test_options_go_to_the_guidance(denoiser):
    weak, strong = (guidance(denoiser, "perturbed_attention", {"scale": scale}).function(X, SIGMA) for scale in (1.0, 2.0))
    plain = denoiser.function(X, SIGMA)
    torch.testing.assert_close(strong - plain, 2 * (weak - plain), rtol=1e-3, atol=1e-4)


def test_guidances_stack_in_order(denoiser):
    function = denoiser.function
    expected = GUIDANCE["rescale"](GUIDANCE["perturbed_attention"](function))(X, SIGMA)
    ours = guidance(guidance(denoiser, "perturbed_attention"), "rescale").function(X, SIGMA)
    assert torch.equal(ours, expected)
    other = guidance(guidance(denoiser, "rescale"), "perturbed_attention").function(X, SIGMA)
    assert not torch.allclose(ours, other, atol=1e-3)


def test_guidance_keeps_the_other_fields(denoiser):
    around = guidance(denoiser, "rescale")
    others = {field.name for field in dataclasses.fields(denoiser)} - {"function"}
    assert all(getattr(around, name) is getattr(denoiser, name) for name in others)


def test_plugin_function_guides(denoiser):
    def twice(denoiser, *, by: float = 2.0):
        class Twice:
            noise_schedule = denoiser.noise_schedule

            def __call__(self, x, sigma):
                return denoiser(x, sigma) * by

        return Twice()

    assert torch.equal(guidance(denoiser, twice, {"by": 3.0}).function(X, SIGMA), denoiser.function(X, SIGMA) * 3.0)
    with pytest.raises(ValueError, match=r"no option 'bye'.* did you mean 'by'"):
        guidance(denoiser, twice, {"bye": 3.0})


@pytest.mark.parametrize("name", sorted(GUIDANCE))
def test_guidance_works_with_areas_masks_and_batches(model, prompts, name):
    area = set_area(prompts[1], width=32, height=48, x=0, y=0, unit="pixels")
    several = unet_denoise(model.unet, combine_conditioning(prompts[0], area), prompts[2], cfg=3.0)
    latent = Latent(X, (48, 64))
    mask = torch.zeros(1, 48, 64)
    mask[:, :, 32:] = 1
    result = sampler(guidance(several, name), latent, noise(latent, seed=3), mask=Mask(mask), sampler="euler", steps=3).samples
    assert result.isfinite().all()
    torch.testing.assert_close(result[..., :4], X[..., :4], rtol=0, atol=1e-5)
    one = Latent(X[1:], (48, 64))
    single = sampler(guidance(several, name), one, noise(one, seed=4), mask=Mask(mask), sampler="euler", steps=3).samples
    torch.testing.assert_close(single[0], result[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("chosen", "options", "message"),
    [
        (GUIDANCE["rescale"], {"amount": 7}, "from 0 to 1, found 7"),
        (GUIDANCE["interval"], {"start": 0.9, "end": 0.1}, "start before it ends"),
        (GUIDANCE["rescale"], {"amount": 0.5}, None),
        (GUIDANCE["rescale"], None, None),
    ],
)
def test_check_reports_bad_guidance_options(plugins, chosen, options, message):
    messages = list(plugins.nodes.get("Guidance").value.check(guidance=chosen, options=options))
    assert len(messages) == (0 if message is None else 1)
    assert message is None or message in messages[0]


WORKFLOW = """
nodegraph: 1
nodes:
  model: {use: LoadModel, model: "builtin:tiny"}
  prompt: {use: TextEncode, text_encoder: $model.text_encoder, text: ""}
  denoiser: {use: UNetDenoise, unet: $model.unet, positive: $prompt, negative: $prompt}
  guided: {use: Guidance, denoiser: $denoiser, GUIDANCE}
"""


def check(chosen, folder):
    return Engine(cache_dir=folder).check(Workflow.parse(WORKFLOW.replace("GUIDANCE", chosen)))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ("guidance: rescal", "Did you mean 'rescale'"),
        ("guidance: rescale, options: {amount: 2}", "from 0 to 1, found 2"),
        ("guidance: rescale, options: {amont: 1}", "no option 'amont'.*\n?.*Did you mean 'amount'"),
        ("guidance: PAG, options: {scale: much}", "scale"),
        ("guidance: interval, options: {start: 0.9, end: 0.1}", "start before it ends"),
    ],
)
def test_errors_are_reported_before_the_run(chosen, message, tmp_path):
    with pytest.raises(WorkflowError, match=message):
        check(chosen, tmp_path)


@pytest.mark.parametrize(
    "chosen",
    [
        "guidance: PAG, options: {places: output_blocks.3}",
        "guidance: perturbed_attention, options: {places: [middle_block, output_blocks.3]}",
        "guidance: interval, options: {sigma_start: 5, sigma_end: 0.3}",
        "guidance: dynamic_threshold, options: {limit: 3.5}",
        "guidance: rescale, options: {of: prediction}",
    ],
)
def test_every_form_of_options_is_accepted(chosen, tmp_path):
    assert check(chosen, tmp_path)


PLUGIN = """
from nodegraph import hookimpl


def guidance_half(SIGNATURE):
    '''Half of everything.'''


@hookimpl
def register_guidance(register):
    register("half", guidance_half, paper="Nobody 2020", evaluations=2)
"""


def test_plugin_guidance_is_registered_as_declared(tmp_path):
    (tmp_path / "half.py").write_text(PLUGIN.replace("SIGNATURE", "denoiser, *, by: float = 0.5"))
    spec = load_plugins([tmp_path]).registries["guidance"].get("half").value
    assert spec.describe() == {"extra evaluations of one condition per step": "2", "paper": "Nobody 2020"}


def test_plugin_guidance_needs_the_right_signature(tmp_path):
    (tmp_path / "half.py").write_text(PLUGIN.replace("SIGNATURE", "denoiser, by"))
    plugins = load_plugins([tmp_path])
    with pytest.raises(
        PluginError, match=r"expected a function guidance\(denoiser, \*\*options\).* found guidance_half\(denoiser, by\)"
    ):
        plugins.require_sound()


# --- PerpNeg and DualGuidance


def test_perp_neg_equals_the_library(model, prompts, run):
    positive, negative, empty = prompts
    ours = perp_neg(model.unet, positive, negative, empty, cfg=4.0, neg_scale=0.7)
    assert torch.equal(ours.function(X, SIGMA), PerpNeg(*sides(model, prompts, run), 4.0, 0.7)(X, SIGMA))


@pytest.mark.parametrize("nested", [False, True])
def test_dual_guidance_equals_the_library(model, prompts, run, nested):
    ours = dual_guidance(model.unet, *prompts, cfg=4.0, cfg_middle=2.0, nested=nested)
    assert torch.equal(ours.function(X, SIGMA), DualGuidance(*sides(model, prompts, run), 4.0, 2.0, nested)(X, SIGMA))


def test_instruct_pix2pix_has_a_picture_scale(unet_with, prompts, run):
    """Three evaluations: of instruction and picture, of the picture alone, and of neither."""
    unet = unet_with(in_channels=8)
    network, part = load_unet_network(unet, run), unet.part
    picture = Latent(X[:1] + 1, (48, 64))
    edited = apply_pix2pix(unet, picture)
    positive, empty = prompts[0], prompts[2]
    ours = dual_guidance(edited, positive, empty, empty, cfg=7.5, cfg_middle=1.5, unet_negative=unet, run=run).function(X, SIGMA)

    def seen(prompt, channels):
        return UNetDenoiser(network, part.noise_schedule, prompt.prompts, concat=channels)(X, SIGMA)

    beside = picture.samples / part.latent.scaling_factor
    both, picture_only, neither = seen(positive, beside), seen(empty, beside), seen(empty, torch.zeros_like(beside))
    torch.testing.assert_close(ours, neither + 1.5 * (picture_only - neither) + 7.5 * (both - picture_only), rtol=1e-3, atol=1e-3)
    wrong = dual_guidance(edited, positive, empty, empty, cfg=7.5, cfg_middle=1.5, run=run).function(X, SIGMA)
    assert not torch.allclose(ours, wrong, atol=1e-2)


def test_distilled_network_takes_embedded_guidance(unet_with, prompts, run):
    """It receives the scale, sees one prompt at a time, and can be guided like any other network."""
    unet = unet_with(guidance_dim=16)
    network, schedule = load_unet_network(unet, run), unet.part.noise_schedule
    denoiser = unet_denoise(unet, *prompts[:2], cfg=3.0, run=run)
    plain = denoiser.function(X, SIGMA)
    assert torch.equal(plain, UNetDenoiser(network, schedule, prompts[0].prompts, guidance=2.0)(X, SIGMA))
    for name in ("perturbed_attention", "self_attention"):
        guided = guidance(denoiser, name).function(X, SIGMA)
        assert guided.isfinite().all()
        assert not torch.allclose(guided, plain)
    torch.testing.assert_close(guidance(denoiser, "rescale").function(X, SIGMA), plain)
    unguided = [UNetDenoiser(network, schedule, one.prompts, guidance=0.0) for one in prompts]
    assert torch.equal(perp_neg(unet, *prompts, cfg=3.0, run=run).function(X, SIGMA), PerpNeg(*unguided, 3.0)(X, SIGMA))


@pytest.mark.parametrize("node", [perp_neg, dual_guidance])
@pytest.mark.parametrize("which", range(3))
def test_prompt_of_another_model_is_refused_by_name(model, prompts, node, which):
    changed = list(prompts)
    changed[which] = Conditioning((Prompt(torch.zeros(1, 77, 768)),))
    name = {perp_neg: ("positive", "negative", "empty"), dual_guidance: ("positive", "middle", "negative")}[node][which]
    with pytest.raises(ValueError, match=f"{name}: expected a prompt of width 32"):
        node(model.unet, *changed)
