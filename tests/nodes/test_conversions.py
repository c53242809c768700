"""Objects of Pillow, numpy and torch are accepted where a node expects a picture, a mask, a latent or noise."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image as pillow

from nodegraph import Engine, Workflow, WorkflowError
from nodegraph_nodes.codecs import CODECS
from nodegraph_nodes.types import Denoiser, Image, Latent, Mask, Noise, Sigmas
from tests.support.colour_profiles import DISPLAY_P3, as_srgb, display_profile

GRADIENT = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3) * 4


@pytest.fixture
def engine():
    return Engine(None)


def resized(engine, image):
    """The picture that a node receives."""
    workflow = Workflow("wf")
    workflow.output("image", workflow.add("Resize", name="it", image=image, width=5, height=4, method="nearest"))
    return engine.run(workflow)["image"].pixels


@pytest.mark.slow
@pytest.mark.parametrize(
    "image",
    [
        pillow.fromarray(GRADIENT),
        pillow.fromarray(GRADIENT).convert("RGBA"),
        GRADIENT,
        GRADIENT[None],
        GRADIENT.astype(np.float32) / 255,
        (GRADIENT / 255).astype(">f8"),
        GRADIENT.astype(np.uint16) * 257,
        torch.from_numpy(GRADIENT),
        torch.from_numpy(GRADIENT).double() / 255,
        Image(torch.from_numpy(GRADIENT)[None].float() / 255),
    ],
    ids=lambda image: f"{type(image).__module__}.{type(image).__name__}",
)
def test_nodes_take_pictures_of_other_libraries(engine, image):
    assert torch.allclose(resized(engine, image)[0], torch.from_numpy(GRADIENT).float() / 255, atol=1e-6)


def test_colour_profile_of_a_picture_counts(engine):
    picture = pillow.fromarray(GRADIENT)
    for profile, expected in ((display_profile(DISPLAY_P3), as_srgb(GRADIENT / 255, DISPLAY_P3)), (b"nonsense", GRADIENT / 255)):
        picture.info["icc_profile"] = profile
        assert np.abs(resized(engine, picture)[0].numpy() - expected).max() < 1.6 / 255


def test_grey_pictures_become_colour(engine):
    grey = np.array([[0, 65535], [32768, 1]], dtype=np.uint16)
    expected = (torch.from_numpy(grey.astype(np.float64)) / 65535).float()[..., None].expand(2, 2, 3)
    for picture in (pillow.fromarray(grey), grey):
        assert torch.allclose(CODECS[Image].convert(picture).pixels[0], expected, atol=1e-6)


def test_digest_is_that_of_the_converted_value(engine):
    workflow = Workflow("wf")
    workflow.output("image", workflow.add("Resize", name="it", image=GRADIENT, width=5, height=4))
    first = engine.run(workflow)
    workflow.replace("it", image=pillow.fromarray(GRADIENT))
    assert engine.run(workflow).cached == ("it",)
    workflow.replace("it", image=GRADIENT + 1)
    assert engine.run(workflow).ran == ("it",)
    assert first.nodes["it"].key is not None


def test_object_that_changes_later_changes_nothing(engine):
    array = GRADIENT.copy()
    converted = CODECS[Image].convert(array)
    array[:] = 0
    assert converted.pixels.max() > 0


def test_lists_of_pictures(engine):
    workflow = Workflow("wf")
    workflow.output("sheet", workflow.add("Grid", name="it", images=[GRADIENT, pillow.fromarray(GRADIENT)], columns=2))
    result = engine.run(workflow)
    assert result["sheet"].pixels.shape[0] == 1
    assert result.nodes["it"].key is not None
    assert engine.run(workflow).cached == ("it",)


def test_override_may_be_a_picture(engine):
    workflow = Workflow("wf")
    workflow.output("image", workflow.add("Resize", name="it", image=workflow.add("LoadImage", path="x").image, width=5, height=4))
    (path := "workflows/examples/scene.png")
    workflow.replace("load_image", path=path)
    assert engine.run(workflow, params={"it.image": GRADIENT})["image"].pixels.shape == (1, 4, 5, 3)


def test_masks_latents_noise_and_sigmas(engine):
    half = CODECS[Mask].convert(np.array([[True, False]]))
    assert half.values.tolist() == [[[1.0, 0.0]]]
    assert CODECS[Mask].convert(pillow.new("L", (3, 2), 255)).values.tolist() == torch.ones(1, 2, 3).tolist()
    samples = torch.randn(4, 2, 3)
    assert (CODECS[Latent].convert(samples).samples.shape, CODECS[Latent].convert(samples).size) == ((1, 4, 2, 3), (16, 24))
    made = CODECS[Noise].convert(samples.numpy())
    assert torch.equal(made.values, samples[None])
    assert made.seed == 0
    workflow = Workflow("wf")
    workflow.output("flipped", workflow.add("FlipSigmas", sigmas=np.array([2.0, 1.0, 0.0])))
    assert engine.run(workflow)["flipped"].values.tolist()[-1] == 2.0
    workflow = Workflow("wf")
    workflow.output("noise", workflow.add("Noise", name="noise", like=samples, seed=1))
    assert engine.run(workflow)["noise"].values.shape == (1, 4, 2, 3)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((2, 2, 5), np.uint8), r"expected pictures of shape \(H, W\), .*, found \(2, 2, 5\)"),
        (np.full((2, 2), 1.5), "expected numbers from 0 to 1, found 1.5 to 1.5"),
        (np.full((2, 2), np.nan), "expected finite numbers, found NaN or infinity"),
        (np.zeros((2, 2), np.int32), "expected numbers from 0 to 1 or unsigned integers, found int32"),
        (np.array([["a"]]), "expected an array of numbers"),
        (object(), "expected a link to an output of type Image"),
        (
            "hello",
            (
                r"expected a link to an output of type Image, found 'hello'\. Give the output of a node, such as node\.output, "
                r"or an object of type Image, or an array or another object that it can be made from\."
            ),
        ),
    ],
)
def test_object_that_does_not_fit_is_refused(engine, value, message):
    with pytest.raises(WorkflowError, match=rf"\[E110\] 'image' of node 'it': {message}"):
        resized(engine, value)


def test_shapes_of_latents_are_checked():
    with pytest.raises(ValueError, match=r"expected floating-point numbers of shape .*, found int64 of \(2,\)"):
        CODECS[Latent].convert(torch.tensor([1, 2]))


def test_pictures_go_back_to_other_libraries():
    image = CODECS[Image].convert(GRADIENT)
    assert np.array_equal(np.asarray(image.to_pil()), GRADIENT)
    assert image.numpy().shape == (1, 4, 5, 3)
    assert np.array_equal(np.asarray(pillow.open(io.BytesIO(image._repr_png_()))), GRADIENT)
    several = Image(torch.cat([image.pixels, image.pixels]))
    assert pillow.open(io.BytesIO(several._repr_png_())).size == (5 + 8 + 5, 4)
    mask = Mask(torch.tensor([[[0.0, 1.0]]]))
    assert (mask.to_pil().mode, mask.numpy().tolist()) == ("L", [[[0.0, 1.0]]])
    assert pillow.open(io.BytesIO(mask._repr_png_())).size == (2, 1)
    for value in (image, mask):
        encoded = value.as_html().removeprefix('<img src="data:image/png;base64,').removesuffix('">')
        assert base64.b64decode(encoded) == value._repr_png_()


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (Image(torch.zeros(1, 4, 5, 3)), "<Image: pixels float32 1x4x5x3>"),
        (Latent(torch.zeros(1, 4, 2, 3), (16, 24)), "<Latent: samples float32 1x4x2x3, size 16x24>"),
        (Noise(torch.zeros(1, 4, 2, 3), 7), "<Noise: values float32 1x4x2x3, seed 7>"),
        (Sigmas(torch.zeros(3)), "<Sigmas: values float32 3>"),
        (Denoiser(print), "<Denoiser: function builtin_function_or_method, latent None>"),
    ],
)
def test_values_show_themselves_in_one_line(value, line):
    assert repr(value) == line
