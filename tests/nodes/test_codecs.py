"""Codecs store values exactly, digests distinguish values, and wrong values are refused."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from nodegraph_diffusion.conditioning.prompt import Area, Prompt, SizeConditioning
from nodegraph_diffusion.conditioning.steps import Before, Every, From
from nodegraph_nodes.codecs import CODECS
from nodegraph_nodes.types import Conditioning, Image, ImageEmbedding, Latent, Mask, Noise, Sigmas
from tests.support.values import image, make, tensor_of

kinds = st.sampled_from(list(CODECS))
dtypes = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.uint8])
shapes = st.lists(st.integers(0, 4), min_size=0, max_size=5)


@st.composite
def tensors(draw):
    """Tensors of any bits, including NaN, infinities and both zeros."""
    dtype, shape = draw(dtypes), draw(shapes)
    count = math.prod(shape) * torch.empty(0, dtype=dtype).element_size()
    data = draw(st.binary(min_size=count, max_size=count))
    flat = torch.frombuffer(bytearray(data), dtype=torch.uint8) if count else torch.empty(0, dtype=torch.uint8)
    return flat.view(dtype).reshape(shape)


def bits(tensor):
    return str(tensor.dtype), tuple(tensor.shape), bytes(tensor.contiguous().flatten().view(torch.uint8).tolist())


# --- digests and storing


@settings(max_examples=60, deadline=None)
@given(kinds, tensors())
def test_stored_values_are_restored_exactly(tmp_path_factory, kind, tensor):
    value, codec = make(kind, tensor), CODECS[kind]
    path = tmp_path_factory.getbasetemp() / f"value{codec.suffix}"
    codec.save(value, path)
    assert codec.encode(value) == path.read_bytes()
    for back in (codec.load(path), codec.decode(path.read_bytes())):
        assert type(back) is kind
        assert bits(tensor_of(back)) == bits(tensor)
        assert codec.plain_fields(back) == codec.plain_fields(value)
        assert codec.digest(back) == codec.digest(value)


@settings(max_examples=100, deadline=None)
@given(kinds, tensors(), kinds, tensors())
def test_digests_are_equal_only_for_equal_values(kind, tensor, other_kind, other):
    first, second = make(kind, tensor), make(other_kind, other)
    same = kind is other_kind and bits(tensor) == bits(other)
    assert (CODECS[kind].digest(first) == CODECS[other_kind].digest(second)) == same
    assert CODECS[kind].digest(first) == CODECS[kind].digest(make(kind, tensor.clone()))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Latent(torch.zeros(1, 4, 3, 5), (24, 40)), Latent(torch.zeros(1, 4, 3, 5), (23, 40))),
        (Noise(torch.zeros(1, 4, 3, 5), 1), Noise(torch.zeros(1, 4, 3, 5), 2)),
        (Mask(torch.zeros(1, 2, 3)), Mask(torch.zeros(1, 3, 2))),
        (Mask(torch.zeros(1, 2, 3)), Mask(-torch.zeros(1, 2, 3))),
        (Mask(torch.zeros(1, 2, 2, dtype=torch.float32)), Mask(torch.zeros(1, 2, 4, dtype=torch.float16))),
        (Conditioning((Prompt(torch.zeros(1, 2, 3)),)), Mask(torch.zeros(1, 2, 3))),
    ],
)
def test_digests_distinguish_similar_values(first, second):
    assert CODECS[type(first)].digest(first) != CODECS[type(second)].digest(second)


EMBEDDING = torch.arange(6.0).reshape(1, 2, 3)
MASK = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(1))
ALIKE = [
    Conditioning((Prompt(EMBEDDING),)),
    Conditioning((Prompt(EMBEDDING), Prompt(EMBEDDING))),
    *(
        Conditioning((Prompt(EMBEDDING, **fields),))
        for fields in (
            {"pooled": EMBEDDING[0, :1]},
            {"mask": MASK},
            {"mask": MASK, "mask_strength": 0.5},
            {"mask": MASK, "mask_bounds": True},
            {"strength": 1 / 3},
            {"area": Area(8, 16, 0, 24)},
            {"area": Area(8, 16, 0, 24, fraction=True)},
            {"start": 0.25},
            {"end": 0.25},
            {"steps": (Before(0.5), Every(2, 1))},
            {"steps": (From(3),)},
            {"term": 1},
            {"term_weight": -0.5},
            {"size": SizeConditioning()},
            {"size": SizeConditioning(height=768, width=512, crop_y=8, crop_x=16, target_height=1024, aesthetic=6.5)},
        )
    ),
]


@pytest.mark.parametrize("value", ALIKE)
def test_stored_prompts_keep_all_their_settings(value, tmp_path):
    codec = CODECS[Conditioning]
    codec.save(value, tmp_path / "prompts.safetensors")
    back = codec.load(tmp_path / "prompts.safetensors")
    assert codec.digest(back) == codec.digest(value)
    for ours, theirs in zip(back.prompts, value.prompts, strict=True):
        assert (ours.size, ours.area, ours.strength, ours.start, ours.end) == (
            theirs.size,
            theirs.area,
            theirs.strength,
            theirs.start,
            theirs.end,
        )
        assert (ours.steps, ours.term, ours.term_weight) == (theirs.steps, theirs.term, theirs.term_weight)
        for name in ("embedding", "pooled", "mask"):
            expected, found = getattr(theirs, name), getattr(ours, name)
            assert (found is None and expected is None) or torch.equal(found, expected)


def test_each_prompt_setting_changes_the_digest():
    digests = [CODECS[Conditioning].digest(value) for value in ALIKE]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pooled": torch.zeros(3)}, "expected float32 of shape (1, P), found float32 of shape (3,)"),
        ({"mask": torch.full((1, 2, 2), math.nan)}, "4 NaN among its 4 values"),
    ],
)
def test_check_names_a_bad_tensor_of_a_prompt(fields, message):
    assert message in CODECS[Conditioning].check(Conditioning((Prompt(EMBEDDING, **fields),)))


def test_view_is_stored_without_its_base(tmp_path):
    whole = torch.arange(24.0).reshape(1, 4, 6)
    for view in (whole[:, ::2, 1:4], whole.transpose(1, 2), whole.requires_grad_()):
        value, codec = Mask(view), CODECS[Mask]
        codec.save(value, tmp_path / "view.safetensors")
        back = codec.load(tmp_path / "view.safetensors")
        assert torch.equal(back.values, view)
        assert codec.digest(back) == codec.digest(value)
        assert (tmp_path / "view.safetensors").stat().st_size < 200 + view.numel() * 4


def test_view_of_a_single_pixel_is_stored(tmp_path):
    mask = Mask(torch.full((1, 1, 1, 3), 0.25)[..., 0])
    codec = CODECS[Mask]
    codec.save(mask, tmp_path / "file")
    assert codec.load(tmp_path / "file").values.tolist() == [[[0.25]]]
    assert codec.digest(mask) == codec.digest(Mask(torch.full((1, 1, 1), 0.25)))


def test_changing_a_loaded_value_leaves_the_file(tmp_path):
    codec = CODECS[Mask]
    codec.save(Mask(torch.zeros(1, 2, 3)), tmp_path / "mask.safetensors")
    before = (tmp_path / "mask.safetensors").read_bytes()
    codec.load(tmp_path / "mask.safetensors").values.fill_(1)
    assert (tmp_path / "mask.safetensors").read_bytes() == before


def test_sizes_are_bytes_in_memory():
    assert CODECS[Image].size(image()) == 3 * 5 * 3 * 4


# --- checks of values


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            Mask(torch.tensor([[[math.nan, 0, math.nan]]])),
            "2 NaN among its 3 values; if it computed in another dtype, --dtype float32 may help",
        ),
        (Mask(torch.tensor([[[math.inf, -math.inf, 0]]])), "2 infinite among its 3 values"),
        (Mask(torch.tensor([[[math.inf, math.nan, 0]]])), "1 NaN and 1 infinite among its 3 values"),
        (Image(torch.zeros(1, 3, 4, 5)), "expected float32 of shape (B, H, W, 3), found float32 of shape (1, 3, 4, 5)"),
        (Image(torch.zeros(4, 5, 3)), "found float32 of shape (4, 5, 3)"),
        (Latent(torch.zeros(1, 4, 2, 2, dtype=torch.bfloat16), (16, 16)), "expected float32 of shape (B, C, h, w), found bfloat16"),
    ],
)
def test_check_names_what_is_wrong(value, message):
    assert message in (CODECS[type(value)].check(value) or "")


def test_finite_values_pass_the_check():
    for kind in CODECS:
        shape = {Image: (1, 2, 2, 3), Mask: (1, 2, 2), Conditioning: (1, 2, 2), Sigmas: (5,), ImageEmbedding: (1, 5)}.get(
            kind, (1, 4, 2, 2)
        )
        assert CODECS[kind].check(make(kind, torch.rand(shape))) is None


@pytest.mark.parametrize("kind", CODECS, ids=lambda kind: kind.__name__)
def test_stored_file_is_a_safetensors_file(tmp_path, kind):

    shape = {Image: (1, 2, 3, 3), Mask: (1, 2, 3), Conditioning: (1, 2, 5), Sigmas: (5,)}.get(kind, (1, 4, 2, 3))
    value, path = make(kind, torch.rand(shape)), tmp_path / "file"
    CODECS[kind].save(value, path)
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        assert {name: file.get_tensor(name).tolist() for name in names} == {
            name: tensor.tolist() for name, tensor in CODECS[kind].tensors(value).items()
        }
    header = int.from_bytes(path.read_bytes()[:8], "little")
    assert header % 8 == 0


def test_loaded_value_can_be_changed_without_changing_the_file(tmp_path):
    CODECS[Image].save(make(Image, torch.rand(1, 8, 8, 3)), tmp_path / "file")
    before = (tmp_path / "file").read_bytes()
    CODECS[Image].load(tmp_path / "file").pixels.zero_()
    assert (tmp_path / "file").read_bytes() == before
