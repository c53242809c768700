"""Nodes that read, resize and take apart latents, and the space of a latent."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from nodegraph import Engine, NodeError, Workflow
from nodegraph_diffusion.networks.config import LatentSpace
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.resizing import bislerp
from nodegraph_nodes.codecs import CODECS
from nodegraph_nodes.nodes.concat import apply_pix2pix
from nodegraph_nodes.nodes.latent import empty_latent, noise, vae_decode, vae_encode
from nodegraph_nodes.nodes.latents import composite_latent, load_latent, resize_latent
from nodegraph_nodes.nodes.sampling import sampler
from nodegraph_nodes.types import Denoiser, Image, Latent, Mask

SD = LatentSpace()
SDXL = LatentSpace(scaling_factor=0.13025)


def random(batch=1, h=6, w=5, seed=0, size=None, space=SD):
    samples = torch.randn(batch, 4, h, w, generator=torch.Generator().manual_seed(seed))
    return Latent(samples, size or (h * 8, w * 8), space)


# --- LoadLatent


def test_what_a_run_wrote_is_read(tmp_path):
    workflow = Workflow("made")
    model = workflow.add("LoadModel", model="builtin:tiny")
    latent = workflow.add("EmptyLatent", vae=model.vae, width=33, height=40, batch=2)
    workflow.output("latent", latent)
    with Engine(None) as engine:
        (path,) = engine.run(workflow, out=tmp_path).outputs["latent"]
    loaded = load_latent(path)
    assert loaded.size == (40, 33)
    assert loaded.space == LatentSpace(4, 4, 1.0)
    assert torch.equal(loaded.samples, torch.zeros(2, 4, 10, 9))


@pytest.mark.parametrize("latent", [random(), random(batch=3, size=(41, 40)), random(space=None), random(space=SDXL)])
def test_a_latent_is_read_to_the_last_bit(tmp_path, latent):
    (tmp_path / "a.safetensors").write_bytes(CODECS[Latent].embed(CODECS[Latent].export(latent)[0], {"nodegraph": "x"}))
    loaded = load_latent(tmp_path / "a.safetensors")
    assert torch.equal(loaded.samples, latent.samples)
    assert (loaded.size, loaded.space) == (latent.size, latent.space)


def test_the_cache_depends_on_the_content_of_the_file(tmp_path):
    path = tmp_path / "a.safetensors"
    workflow = Workflow("reads")
    loaded = workflow.add("LoadLatent", path=path)
    workflow.output("latent", loaded)
    with Engine(tmp_path / "cache") as engine:
        counts = []
        for seed in (1, 1, 2):
            path.write_bytes(CODECS[Latent].export(random(seed=seed))[0])
            counts.append(len(engine.run(workflow, out=tmp_path / "out").ran))
    assert counts == [1, 0, 1]


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"\x02\0\0\0\0\0\0\0{}", CODECS[Image].export(Image(torch.zeros(1, 2, 2, 3)))[0]]
)
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.safetensors is not a latent: expected a \.safetensors file that a workflow wrote"):
        load_latent(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("latent", "problem"),
    [
        (Latent(torch.full((1, 4, 2, 2), float("nan")), (16, 16)), "16 NaN among its 16 values"),
        (Latent(torch.zeros(1, 4, 2, 2), (16, -16)), "expected a height and a width in pixels"),
        (Latent(torch.zeros(1, 4, 2, 2), (16, 80), SD), "expected cells for 80x16 pixels of Stable Diffusion 1 and 2"),
    ],
)
def test_damaged_latents_are_refused(tmp_path, latent, problem):
    (tmp_path / "a.safetensors").write_bytes(CODECS[Latent].export(latent)[0])
    with pytest.raises(ValueError, match=problem):
        load_latent(tmp_path / "a.safetensors")


# --- ComfyUI's .latent files


def comfyui_file(path, **tensors):
    save_file(tensors, path, metadata={"prompt": "{}"})
    return path


def test_latent_of_comfyui_is_scaled_by_the_vae(tmp_path, model):
    space = model.vae.part.config.latent
    unscaled = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(1))
    path = comfyui_file(tmp_path / "a.latent", latent_tensor=unscaled, latent_format_version_0=torch.tensor([]))
    found = load_latent(path, model.vae)
    assert torch.allclose(found.samples, unscaled * space.scaling_factor)
    assert (found.size, found.space) == ((3 * space.factor, 5 * space.factor), space)
    old = comfyui_file(tmp_path / "old.latent", latent_tensor=unscaled.half())  # as Stable Diffusion 1 has it, and scaled
    assert torch.allclose(load_latent(old, model.vae).samples, unscaled.half().float() / 0.18215 * space.scaling_factor)
    with pytest.raises(
        ValueError, match=r"a\.latent is a latent of ComfyUI's, which does not say for which model\. Give the 'vae'"
    ):
        load_latent(path)
    wide = comfyui_file(tmp_path / "wide.latent", latent_tensor=torch.zeros(1, 16, 3, 5), latent_format_version_0=torch.tensor([]))
    with pytest.raises(ValueError, match=r"the latent .*wide\.latent: expected cells"):
        load_latent(wide, model.vae)
    damaged = comfyui_file(tmp_path / "damaged.latent", latent_tensor=torch.zeros(4, 3), latent_format_version_0=torch.tensor([]))
    with pytest.raises(ValueError, match=r"the latent .*damaged\.latent: expected float32"):
        load_latent(damaged, model.vae)


def test_latent_is_written_for_comfyui_and_read_again(tmp_path):
    latent = random(batch=2, size=(47, 40), space=SDXL)
    codec = CODECS[Latent].in_format(".latent", {})
    (data,) = codec.export(latent)
    (tmp_path / "a.latent").write_bytes(codec.embed(data, {"nodegraph": "x"}))
    tensors = load_file(tmp_path / "a.latent")
    assert torch.allclose(tensors["latent_tensor"], latent.samples / 0.13025)
    assert tensors["latent_format_version_0"].numel() == 0
    again = load_latent(tmp_path / "a.latent")
    assert torch.allclose(again.samples, latent.samples, atol=1e-6)
    assert (again.size, again.space, again.numbers) == (latent.size, latent.space, None)
    assert codec.extract(codec.embed(data, {"nodegraph": "x"}))[1] == {"nodegraph": "x"}
    with pytest.raises(ValueError, match=r"not known cannot be written as \.latent"):
        codec.export(random(space=None))
    with pytest.raises(ValueError, match=r"a latent is written as \.safetensors or \.latent, found \.png"):
        CODECS[Latent].in_format(".png", {})


# --- ResizeLatent


@pytest.mark.parametrize(("method", "mode"), [("nearest", "nearest-exact"), ("bilinear",) * 2, ("area",) * 2, ("bicubic",) * 2])
def test_methods_are_those_of_torch(method, mode):
    latent = random(batch=2)
    resized = resize_latent(latent, scale=1.5, method=method)
    assert torch.equal(resized.samples, F.interpolate(latent.samples, size=(9, 8), mode=mode))
    assert (resized.size, resized.space) == ((72, 60), SD)


def test_one_side_keeps_the_proportions_and_padding_is_filled():
    resized = resize_latent(random(size=(48, 40)), width=60)
    assert resized.size == (72, 60)
    assert resized.samples.shape == (1, 4, 9, 8)
    assert resized.padding == (0, 4)
    assert resize_latent(random(space=None), width=80, height=24).samples.shape == (1, 4, 3, 10)


def test_bislerp_against_the_formula_of_slerp():
    """Each output cell by itself, in float64, by the exponential map of the sphere instead of the formula with two sines."""

    def between(a, b, share):
        length = a.norm() * (1 - share) + b.norm() * share
        a, b = a / a.norm(), b / b.norm()
        tangent = b - (a @ b) * a
        angle = torch.atan2(tangent.norm(), a @ b)
        return length * (torch.cos(share * angle) * a + torch.sin(share * angle) * tangent / tangent.norm())

    def line(cells, length):
        n = len(cells)
        positions = [min(max((i + 0.5) * n / length - 0.5, 0), n - 1) for i in range(length)]
        return torch.stack([cells[int(p)] if p % 1 == 0 else between(cells[int(p)], cells[int(p) + 1], p % 1) for p in positions])

    latent = random(h=3, w=4).samples.double()
    rows = torch.stack([line(row, 7) for row in latent[0].permute(1, 2, 0)])  # (h, W, C)
    expected = torch.stack([line(rows[:, x], 5) for x in range(7)], dim=1).permute(2, 0, 1)
    assert torch.allclose(bislerp(latent, (5, 7))[0], expected, atol=1e-12)


def test_bislerp_of_special_cells():
    cells = random(h=4, w=4).samples
    assert torch.equal(bislerp(cells, (4, 4)), cells)
    one = torch.ones(1, 4, 1, 1)
    assert torch.allclose(bislerp(one, (3, 5)), torch.ones(1, 4, 3, 5))
    opposite = torch.cat([one, -one], dim=-1)
    assert torch.allclose(bislerp(opposite, (1, 4))[0, 0, 0], torch.tensor([1, 0.5, -0.5, -1]))
    assert bislerp(torch.zeros(1, 4, 2, 2), (4, 4)).abs().max() == 0
    quarter = torch.zeros(1, 2, 1, 2)
    quarter[0, 0, 0, 0] = quarter[0, 1, 0, 1] = 1
    assert torch.allclose(bislerp(quarter, (1, 4)).norm(dim=1), torch.ones(1, 1, 4))  # linear interpolation would give 0.79


@pytest.mark.parametrize("scale", [0.3, 1.1, 1.5, 2.55])
def test_a_scale_gives_whole_cells(scale):
    """As ComfyUI rounds: the cells, not the pixels."""
    for rows in (505, 511, 512):
        latent = Latent(torch.zeros(1, 4, 64, 40), (rows, 320), SD)
        resized = resize_latent(latent, scale=scale)
        assert resized.samples.shape[2:] == (round(64 * scale), round(40 * scale))
        assert all(0 <= padding < 8 for padding in resized.padding)


def test_the_centre_is_cut_out_to_new_proportions():
    latent = random(h=6, w=12)
    resized = resize_latent(latent, width=32, height=32, method="nearest", crop=True)
    assert torch.equal(resized.samples, F.interpolate(latent.samples[..., 3:9], size=(4, 4), mode="nearest-exact"))
    flat = resize_latent(latent, width=96, height=32, method="area", crop=True)
    assert torch.equal(flat.samples, latent.samples[..., 1:5, :])
    assert resize_latent(Latent(latent.samples, (48, 96), SD, (7,)), scale=2.0).numbers == (7,)


def test_a_size_is_needed():
    with pytest.raises(ValueError, match="needs a width, a height or a scale"):
        resize_latent(random())


# --- CompositeLatent


def composed(original, pasted, x, y, *, feather):
    """Cell by cell."""
    result = original.clone()
    rows, columns = original.shape[-2:]
    height, width = min(pasted.shape[-2], rows - y), min(pasted.shape[-1], columns - x)
    for i in range(height):
        for j in range(width):
            weight = 1.0
            for distance, inside in (
                (i, y > 0),
                (j, x > 0),
                (height - 1 - i, y + pasted.shape[-2] < rows),
                (width - 1 - j, x + pasted.shape[-1] < columns),
            ):
                if inside and distance < feather:
                    weight *= (distance + 1) / feather
            result[..., y + i, x + j] = original[..., y + i, x + j] * (1 - weight) + pasted[..., i, j] * weight
    return result


@pytest.mark.parametrize(("x", "y", "feather"), [(0, 0, 0), (16, 8, 0), (16, 8, 16), (0, 8, 24), (40, 56, 16), (23, 15, 17)])
def test_latents_are_pasted_and_fade_in(x, y, feather):
    original, pasted = random(h=9, w=8), random(h=5, w=4, seed=1)
    result = composite_latent(pasted, original, x, y, feather=feather)
    assert torch.allclose(
        result.samples, composed(original.samples, pasted.samples, x // 8, y // 8, feather=feather // 8), atol=1e-6
    )
    assert (result.size, result.space) == (original.size, original.space)
    assert torch.equal(original.samples, random(h=9, w=8).samples)


def test_a_mask_says_what_is_pasted():
    original, pasted = random(batch=2, h=4, w=4), random(h=4, w=4, seed=1)
    left = torch.zeros(1, 32, 32)
    left[..., :16] = 1
    result = composite_latent(pasted, original, mask=Mask(left)).samples
    assert torch.equal(result[..., :2], pasted.samples[..., :2].expand(2, -1, -1, -1))
    assert torch.equal(result[..., 2:], original.samples[..., 2:])


def test_pasted_latent_may_be_stretched():
    original, small = random(h=4, w=4), random(h=2, w=8, seed=1)
    expected = F.interpolate(small.samples, size=(4, 4), mode="bilinear")
    assert torch.equal(composite_latent(small, original, stretch=True).samples, expected)
    placed = composite_latent(small, original, 16, 8, stretch=True).samples  # it covers the right part of the lower three rows
    assert torch.equal(placed[..., 1:, 2:], expected[..., :3, :2])
    assert torch.equal(placed[..., 0, :], original.samples[..., 0, :])


def test_what_cannot_be_pasted_is_an_error():
    with pytest.raises(ValueError, match="expected x and y inside the original of 40x48 pixels, found 40 and 0"):
        composite_latent(random(), random(), x=40)
    with pytest.raises(ValueError, match="expected one, or one for each of 1, found 2"):
        composite_latent(random(batch=2), random())
    with pytest.raises(ValueError, match=r"expected one of Stable Diffusion 1 and 2 .*, which this original is, found one of .*XL"):
        composite_latent(random(space=SDXL), random())


# --- the space of a latent


class Half:
    noise_schedule = NoiseSchedule()

    def __call__(self, x, sigma):
        return x / 2


def test_nodes_know_the_space(model):
    latent = empty_latent(model.vae, width=32, height=32)
    assert latent.space == model.vae.part.config.latent
    assert vae_encode(model.vae, Image(torch.zeros(1, 32, 32, 3))).space == latent.space
    unknown = Latent(latent.samples, latent.size)
    sampled = sampler(Denoiser(Half(), latent.space), unknown, noise(unknown, seed=1), sampler="euler", steps=1)
    assert sampled.space == latent.space
    assert (
        repr(random())
        == "<Latent: samples float32 1x4x6x5, size 48x40, space of Stable Diffusion 1 and 2 (4 channels, scale 0.18215)>"
    )


def test_a_latent_of_another_space_is_refused_by_name(model):
    sdxl = random(space=SDXL)
    sd = Denoiser(Half(), SD)
    message = r"expected one of Stable Diffusion 1 and 2 .*, which this UNet denoises, found one of Stable Diffusion XL .*0\.13025"
    with pytest.raises(ValueError, match=message):
        sampler(sd, sdxl, noise(sdxl, seed=1), steps=1)
    with pytest.raises(ValueError, match="which this autoencoder decodes, found one of Stable Diffusion XL"):
        vae_decode(model.vae, sdxl)
    with pytest.raises(ValueError, match=r"an autoencoder with 4 channels, scale 0\.5, 8 pixels per cell"):
        sampler(sd, random(space=LatentSpace(4, 8, 0.5)), noise(sdxl, seed=1), steps=1)
    assert sampler(sd, random(space=LatentSpace(4, 4)), noise(sdxl, seed=1), sampler="euler", steps=1).samples.isfinite().all()
    assert callable(apply_pix2pix)


def test_the_error_reaches_the_user_with_the_node(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(CODECS[Latent].export(random(space=SDXL))[0])
    workflow = Workflow("wrong")
    model = workflow.add("LoadModel", model="builtin:tiny")
    workflow.output(
        "picture", workflow.add("VAEDecode", vae=model.vae, latent=workflow.add("LoadLatent", path=tmp_path / "a.safetensors"))
    )
    with (
        Engine(None) as engine,
        pytest.raises(NodeError, match=r"expected one of builtin:tiny .*, found one of Stable Diffusion XL"),
    ):
        engine.run(workflow)


# --- like ComfyUI, and split runs


@pytest.mark.parametrize("draw", ["per_picture", "sequential"])
def test_like_comfyui_sets_draw_and_step_noise(draw):
    latent = random(batch=2)
    both = sampler(
        Denoiser(Half()),
        latent,
        noise(latent, seed=5, draw="sequential"),
        sampler="euler_ancestral",
        steps=3,
        step_noise="comfyui",
    )
    short = sampler(Denoiser(Half()), latent, noise(latent, seed=5, draw=draw), sampler="euler_ancestral", steps=3, like="comfyui")
    assert torch.equal(short.samples, both.samples)
    plain = sampler(Denoiser(Half()), latent, noise(latent, seed=5), sampler="euler_ancestral", steps=3)
    assert not torch.equal(plain.samples, both.samples)


def test_like_comfyui_leaves_no_noise_none():
    latent = random()
    none = noise(latent, seed=5, draw="none")
    runs = [sampler(Denoiser(Half()), latent, none, sampler="euler", steps=3, like=like).samples for like in (None, "comfyui")]
    assert torch.equal(*runs)


def recording(drawn):
    """A sampler that notes the noise of each step."""

    def sample_recorded(denoise, x, sigmas, *, noise, on_step):
        for i in range(len(sigmas) - 1):
            drawn.append(noise(sigmas[i], sigmas[i + 1]))
            on_step(i, x, x)
        return x

    return sample_recorded


def test_second_part_of_a_run_draws_other_noise():
    latent = random()
    parts = []
    for draw, steps in (("per_picture", {"end_step": 3}), ("none", {"start_step": 3}), ("none", {"start_step": 4})):
        drawn = []
        sampler(Denoiser(Half()), latent, noise(latent, seed=5, draw=draw), sampler=recording(drawn), steps=6, **steps)
        parts.append(drawn)
    first, second, third = (torch.stack(part) for part in parts)
    every = torch.cat([first, second, third[:1]])
    for i in range(len(every)):
        for j in range(i):
            assert not torch.equal(every[i], every[j])
    drawn = []
    sampler(Denoiser(Half()), latent, noise(latent, seed=5), sampler=recording(drawn), steps=6)
    assert torch.equal(torch.stack(drawn[:3]), first)  # a run that is not split is as it was
