"""An imported graph computes what ComfyUI means by it: each operation is compared with its arithmetic, written down here."""

from __future__ import annotations

import itertools
import math

import numpy
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from nodegraph.settings import MODELS_VARIABLE
from tests.support.comfy_arithmetic import Arithmetic, drawn, euler, masked
from tests.support.comfy_graphs import changed, node, txt2img
from tests.support.comfy_models import write_models

pytestmark = pytest.mark.slow

WIDTH, HEIGHT = 128, 64
CELLS = (4, HEIGHT // 8, WIDTH // 8)
CFG, SEED = 3.0, 8


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_models(folder, {"plain.safetensors": "checkpoints", "sd-v1-5-inpainting.safetensors": "checkpoints"})
    return folder


@pytest.fixture(scope="module")
def plain(models):
    return Arithmetic(models / "checkpoints/plain.safetensors")


@pytest.fixture
def computed(engine, imported, models, monkeypatch):
    """Returns a function from a graph to the value of a node in its workflow."""
    monkeypatch.setenv(MODELS_VARIABLE, str(models))

    def computed(graph, name="sampled"):
        return engine.run(imported(graph).workflow, targets=[name])[name]

    return computed


@pytest.fixture
def picture(tmp_path):
    """Colours and opacity of a picture in the folder of the graph: (1, H, W, 3) and (1, H, W), read by PIL."""
    rows, columns = numpy.mgrid[:HEIGHT, :WIDTH]
    planes = [128 + 100 * numpy.sin(columns / 9), 128 + 90 * numpy.cos(rows / 7), 2 * rows + columns / 2]
    opacity = numpy.where((columns > 40) & (columns < 90) & (rows > 10), (rows * 3) % 100, 255)
    pixels = numpy.stack([*planes, opacity], -1).astype(numpy.uint8)
    (tmp_path / "input").mkdir()
    Image.fromarray(pixels, "RGBA").save(tmp_path / "input/start.png")
    with Image.open(tmp_path / "input/start.png") as opened:
        values = torch.from_numpy(numpy.asarray(opened, dtype=numpy.float32) / 255)[None]
    return values[..., :3], values[..., 3]


def graph(**values):
    """Text to image with the sampler's values."""
    defaults = {"cfg": CFG, "seed": SEED, "scheduler": "simple", "steps": 3}
    return changed(changed(txt2img(**defaults | values), "4", ckpt_name="plain.safetensors"), "5", width=WIDTH, height=HEIGHT)


def with_picture(latent, **more):
    """The graph with a latent that is made of the picture."""
    values = {name: more.pop(name) for name in ("denoise", "steps") if name in more}
    return changed(graph(**values), "3", latent_image=["21", 0]) | {
        "20": node("LoadImage", image="start.png"),
        "21": latent,
        **more,
    }


ENCODED = node("VAEEncode", pixels=["20", 0], vae=["4", 2])
TEXTS = ("a red house", "")


def start(sigma):
    """The factor of the noise at the largest noise level of the model."""
    return math.sqrt(1 + sigma**2)


def assert_same(latent, expected):
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(latent.samples, expected, atol=2e-4 * float(expected.std()), rtol=0)


def test_noise_of_a_batch_is_drawn_at_once_on_the_cpu(computed, plain):
    noise, sigmas = drawn(SEED, 2, *CELLS), plain.simple(3)
    expected = euler(plain.guided(*TEXTS, CFG), noise * start(sigmas[0]), sigmas)
    assert_same(computed(changed(graph(), "5", batch_size=2)), expected)


def test_noise_of_steps_is_drawn_from_a_generator_of_its_own(computed, plain):
    sigmas, generator = plain.simple(3), torch.Generator().manual_seed(SEED)
    denoise, x = plain.guided(*TEXTS, CFG), drawn(SEED, 1, *CELLS) * start(plain.simple(3)[0])
    for sigma, following in itertools.pairwise(sigmas):
        up = min(following, math.sqrt(following**2 * (sigma**2 - following**2) / sigma**2))
        down = math.sqrt(following**2 - up**2)
        x = x + (x - denoise(x, sigma)) / sigma * (down - sigma)
        if following:
            x = x + torch.randn((1, *CELLS), generator=generator) * up
    assert_same(computed(graph(sampler_name="euler_ancestral")), x)


def test_weights_of_a_prompt_move_tokens_away_from_an_empty_one(computed, plain):
    found = computed(changed(graph(), "6", text="a (red:1.4) [house] ((boat))"), "positive").prompts[0].embedding
    text, empty = plain.prompt("a red [house] boat"), plain.prompt("")
    weights = torch.ones(77)
    weights[2], weights[6] = 1.4, 1.1**2  # begin, a, red, [, house, ], boat, end: brackets are text in ComfyUI
    torch.testing.assert_close(found, empty + weights[:, None] * (text - empty), atol=1e-5, rtol=1e-4)


def test_denoise_runs_the_last_steps_of_a_longer_schedule(computed, plain, picture):
    latent, sigmas = plain.encode(picture[0]), plain.simple(6)[-4:]
    noised = latent + drawn(SEED, 1, *CELLS) * sigmas[0]
    assert_same(computed(with_picture(ENCODED, denoise=0.5)), euler(plain.guided(*TEXTS, CFG), noised, sigmas))


def advanced(**values):
    fields = {"cfg": CFG, "sampler_name": "euler", "scheduler": "simple", "noise_seed": SEED, "steps": 4, "model": ["4", 0]}
    defaults = {"add_noise": "enable", "start_at_step": 0, "end_at_step": 2, "return_with_leftover_noise": "enable"}
    links = {"positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}
    return node("KSamplerAdvanced", **fields, **defaults | links | values)


def test_leftover_noise_is_removed_by_the_next_sampler(computed, plain):
    sigmas, denoise = plain.simple(4), plain.guided(*TEXTS, CFG)
    noised = drawn(SEED, 1, *CELLS) * start(sigmas[0])
    half = euler(denoise, noised, sigmas[:3])
    assert_same(computed(graph() | {"3": advanced()}), half)
    following = advanced(
        add_noise="disable", start_at_step=2, end_at_step=10000, latent_image=["3", 0], return_with_leftover_noise="disable"
    )
    both = changed(graph() | {"3": advanced(), "13": following}, "8", samples=["13", 0])
    assert_same(computed(both, "sampled_2"), euler(denoise, half, sigmas[2:]))
    cleaned = euler(denoise, noised, [*sigmas[:2], 0.0])
    assert_same(computed(graph() | {"3": advanced(return_with_leftover_noise="disable")}), cleaned)


def test_noise_mask_is_white_where_a_picture_is_transparent(computed, plain, picture):
    pixels, opacity = picture
    latent, noise, sigmas = plain.encode(pixels), drawn(SEED, 1, *CELLS), plain.simple(3)
    denoise = masked(plain.guided(*TEXTS, CFG), latent, noise, 1 - opacity)
    expected = euler(denoise, latent + noise * start(sigmas[0]), sigmas)
    graph = with_picture(node("SetLatentNoiseMask", samples=["22", 0], mask=["20", 1]), **{"22": ENCODED})
    assert_same(computed(graph), expected)


@pytest.mark.parametrize("grow", [0, 5, 6])
def test_encoding_for_inpainting_hides_and_grows(computed, plain, picture, grow):
    pixels, white = picture[0], (1 - picture[1]).round()
    latent = plain.encode(torch.where(white[..., None] == 1, 0.5, pixels))
    kernel = torch.ones(1, 1, grow or 1, grow or 1)
    sums = F.conv2d(white[:, None], kernel, padding=math.ceil(((grow or 1) - 1) / 2))
    grown = sums.clamp(0, 1)[:, 0, :HEIGHT, :WIDTH].round()
    noise, sigmas = drawn(SEED, 1, *CELLS), plain.simple(2)
    denoise = masked(plain.guided(*TEXTS, CFG), latent, noise, grown)
    graph = with_picture(node("VAEEncodeForInpaint", pixels=["20", 0], vae=["4", 2], mask=["20", 1], grow_mask_by=grow), steps=2)
    assert_same(computed(graph), euler(denoise, latent + noise * start(sigmas[0]), sigmas))


@pytest.mark.parametrize("noise_mask", [True, False])
def test_inpainting_model_sees_mask_and_hidden_picture(computed, models, picture, noise_mask):
    model = Arithmetic(models / "checkpoints/sd-v1-5-inpainting.safetensors")
    pixels, mask = picture[0], 1 - picture[1]
    hidden = model.encode((pixels - 0.5) * (1 - mask.round())[..., None] + 0.5)
    cells = F.interpolate(mask[:, None], size=CELLS[1:], mode="bilinear").round()
    denoise = model.guided(*TEXTS, CFG, torch.cat([cells, hidden], dim=1))
    latent, noise, sigmas = model.encode(pixels), drawn(SEED, 1, *CELLS), model.simple(2)
    denoise = masked(denoise, latent, noise, mask) if noise_mask else denoise
    prompts = {"positive": ["6", 0], "negative": ["7", 0]}
    links = {"vae": ["4", 2], "pixels": ["20", 0], "mask": ["20", 1]}
    prepared = node("InpaintModelConditioning", **prompts, **links, noise_mask=noise_mask)
    links = {"positive": ["21", 0], "negative": ["21", 1], "latent_image": ["21", 2]}
    graph = changed(changed(with_picture(prepared, steps=2), "3", **links), "4", ckpt_name="sd-v1-5-inpainting.safetensors")
    assert_same(computed(graph), euler(denoise, latent + noise * start(sigmas[0]), sigmas))


def test_inpainting_model_without_a_picture_sees_latent_and_noise_mask(computed, models, picture):
    model = Arithmetic(models / "checkpoints/sd-v1-5-inpainting.safetensors")
    white = (1 - picture[1]).round()
    latent = model.encode(torch.where(white[..., None] == 1, 0.5, picture[0]))
    cells = F.interpolate(white[:, None], size=CELLS[1:], mode="bilinear")
    noise, sigmas = drawn(SEED, 1, *CELLS), model.simple(2)
    denoise = masked(model.guided(*TEXTS, CFG, torch.cat([cells.round(), latent], dim=1)), latent, noise, white)
    encoded = node("VAEEncodeForInpaint", pixels=["20", 0], vae=["4", 2], mask=["20", 1], grow_mask_by=0)
    graph = changed(with_picture(encoded, steps=2), "4", ckpt_name="sd-v1-5-inpainting.safetensors")
    assert_same(computed(graph), euler(denoise, latent + noise * start(sigmas[0]), sigmas))


BATCHES = {
    "repeated": ({"21": node("RepeatLatentBatch", samples=["5", 0], amount=3)}, [0, 1, 2, 3, 4, 5]),
    "taken": ({"21": node("LatentFromBatch", samples=["5", 0], batch_index=1, length=1)}, [1]),
    "same noise": ({"21": node("LatentBatchSeedBehavior", samples=["5", 0], seed_behavior="fixed")}, [0, 0]),
    "other noise": ({"21": node("LatentBatchSeedBehavior", samples=["5", 0], seed_behavior="random")}, [0, 1]),
    "taken and repeated": (
        {
            "22": node("LatentFromBatch", samples=["5", 0], batch_index=1, length=1),
            "21": node("RepeatLatentBatch", samples=["22", 0], amount=2),
        },
        [1, 2],
    ),
    "taken, with the same noise": (
        {
            "22": node("LatentFromBatch", samples=["5", 0], batch_index=1, length=1),
            "21": node("LatentBatchSeedBehavior", samples=["22", 0], seed_behavior="fixed"),
        },
        [1],
    ),
}


@pytest.mark.parametrize("case", BATCHES)
def test_pictures_of_a_batch_have_the_noise_of_their_number(computed, case):
    nodes, numbers = BATCHES[case]
    noise = computed(changed(changed(graph(), "5", batch_size=2), "3", latent_image=["21", 0]) | nodes, "noise")
    generator = torch.Generator().manual_seed(SEED)
    draws = [torch.randn(CELLS, generator=generator) for _ in range(6)]
    assert torch.equal(noise.values, torch.stack([draws[number] for number in numbers]))


def fading(cells):
    """The weights of an area that begins inside the picture and ends at its edge."""
    reach = min(8, cells // 4)
    return torch.tensor([min(1, (i + 1) / reach) for i in range(cells)])


def test_areas_are_computed_alone_and_mixed(computed, plain):
    nodes = {
        "30": node("CLIPTextEncode", text="a blue boat", clip=["4", 1]),
        "31": node("ConditioningSetArea", conditioning=["30", 0], width=64, height=HEIGHT, x=64, y=0, strength=0.7),
        "32": node("ConditioningCombine", conditioning_1=["31", 0], conditioning_2=["6", 0]),
    }
    sigma = plain.simple(1)[0]
    x = drawn(SEED, 1, *CELLS) * start(sigma)
    weight = torch.zeros(1, 1, *CELLS[1:])
    weight[..., 8:] = 0.7 * fading(8)

    def mixed(text, inside):
        area = torch.zeros_like(x)
        area[..., 8:] = plain.predict(x[..., 8:], sigma, plain.prompt(inside))
        return (plain.predict(x, sigma, plain.prompt(text)) + area * weight) / (1 + weight)

    good, bad = mixed(TEXTS[0], "a blue boat"), mixed(TEXTS[1], TEXTS[1])
    assert_same(computed(changed(graph(steps=1), "3", positive=["32", 0]) | nodes), bad + CFG * (good - bad))


def test_masked_prompts_count_where_the_mask_is_white(computed, plain, picture):
    nodes = {
        "20": node("LoadImage", image="start.png"),
        "30": node("CLIPTextEncode", text="a blue boat", clip=["4", 1]),
        "31": node("ConditioningSetMask", conditioning=["30", 0], mask=["20", 1], strength=0.6, set_cond_area="default"),
        "32": node("ConditioningCombine", conditioning_1=["31", 0], conditioning_2=["6", 0]),
    }
    sigma = plain.simple(1)[0]
    x = drawn(SEED, 1, *CELLS) * start(sigma)
    weight = 0.6 * F.interpolate(1 - picture[1][:, None], size=CELLS[1:], mode="bilinear")
    house, boat, bad = (plain.predict(x, sigma, plain.prompt(text)) for text in (TEXTS[0], "a blue boat", TEXTS[1]))
    good = (house + boat * weight) / (1 + weight)
    assert_same(computed(changed(graph(steps=1), "3", positive=["32", 0]) | nodes), bad + CFG * (good - bad))
