"""Pictures as examples: buckets of aspect ratios, resizing, and latents and captions that are encoded once and kept on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.networks.vae import AutoencoderKL
from nodegraph_diffusion.text.encode import Reader, read_prompt
from nodegraph_diffusion.text.tokenizer import load_tokenizer
from nodegraph_diffusion.training.loop.options import TrainingOptions
from nodegraph_diffusion.training.loop.seeds import generator_for
from nodegraph_diffusion.training.loop.trainer import Trainer
from nodegraph_diffusion.training.noising.objective import Objective
from nodegraph_diffusion.training.pictures.buckets import BucketOrder, Buckets, fit
from nodegraph_diffusion.training.pictures.captions import EncodedCaptions, caption_tokens, encode_captions
from nodegraph_diffusion.training.pictures.latents import EncodedPictures, LatentExamples, encode_pictures
from nodegraph_diffusion.training.pictures.source import PictureFile, PictureTensor, fitted
from nodegraph_diffusion.training.pictures.store import EncodingStore, network_digest
from nodegraph_diffusion.training.tasks.conditions import EncodedCondition
from nodegraph_diffusion.training.tasks.denoiser import ConditionedLatents, DenoiserTask
from tests.support import small_networks as small
from tests.support.training_tasks import UNET, VAE

BUCKETS = Buckets(side=16, step=4, least=8, most=32)


# --- sizes


def test_sizes_are_those_of_kohya() -> None:
    """Heights and widths that kohya's trainers print for 512x512 and 1024x1024 with the usual limits."""
    widths = {256: 1024, 320: 768, 384: 640, 448: 576, 512: 512, 576: 448, 640: 384, 704: 320, 768: 320, 832: 256, 1024: 256}
    found = {(size[1], size[0]) for size in Buckets().sizes}
    assert set(widths.items()) <= found
    assert all(height * width <= 512**2 and height % 64 == width % 64 == 0 for height, width in found)
    assert found == {(width, height) for height, width in found}
    large = Buckets(side=1024, least=256, most=2048).sizes
    assert {(1024, 1024), (896, 1152), (832, 1216), (768, 1344), (640, 1536), (512, 2048)} <= {*large}
    assert Buckets(side=500).sizes[0][0] <= 1024
    assert (448, 448) in Buckets(side=500).sizes


def test_picture_gets_the_size_of_the_nearest_ratio_or_its_own() -> None:
    buckets = Buckets()
    assert buckets.of(100, 100) == (512, 512)
    assert buckets.of(1080, 1920) == (384, 640)  # 1.67; the next is 704 / 320 = 2.2
    assert buckets.of(1920, 1080) == (640, 384)
    assert all(buckets.of(*size) == size for size in buckets.sizes)


@pytest.mark.parametrize("options", [{"step": 0}, {"least": 32}, {"least": 512, "most": 256}, {"side": 10}])
def test_impossible_buckets_are_refused(options) -> None:
    with pytest.raises(ValueError, match="expected 1 <= step <= least <= most"):
        Buckets(**options)


@pytest.mark.parametrize(
    ("original", "size", "resized", "corner"),
    [
        ((100, 200), (50, 50), (50, 100), (0, 25)),
        ((200, 100), (50, 50), (100, 50), (25, 0)),
        ((10, 10), (20, 20), (20, 20), (0, 0)),
        ((333, 500), (384, 576), (384, 577), (0, 0)),
    ],
)
def test_fit_is_the_smallest_that_covers(original, size, resized, corner) -> None:
    found = fit(*original, size)
    assert (found.resized, (found.top, found.left)) == (resized, corner)
    assert (found.original, found.size) == (original, size)


def test_fitted_picture_is_cut_around_its_centre_and_mirrored() -> None:
    ramp = torch.linspace(-1, 1, 12).expand(3, 4, 12)
    how = fit(4, 12, (4, 4))
    assert torch.equal(fitted(ramp, how), ramp[:, :, 4:8])
    assert torch.equal(fitted(ramp, how, mirrored=True), ramp[:, :, 4:8].flip(2))
    smaller = fitted(torch.ones(3, 9, 9), fit(9, 9, (4, 4)))
    assert smaller.shape == (3, 4, 4)
    torch.testing.assert_close(smaller, torch.ones(3, 4, 4))


# --- the order of batches


def test_every_example_comes_once_in_an_epoch_in_batches_of_one_bucket() -> None:
    buckets = ["a"] * 7 + ["b"] * 3 + ["c"]
    order = BucketOrder(buckets, 3, seed=1)
    assert order.batches_per_epoch == 3 + 1 + 1
    epochs = [[order.indices(number) for number in range(5 * epoch, 5 * epoch + 5)] for epoch in range(4)]
    for epoch in epochs:
        assert sorted(index for batch in epoch for index in batch) == list(range(11))
        assert all(len({buckets[index] for index in batch}) == 1 and len(batch) <= 3 for batch in epoch)
    assert len({str(epoch) for epoch in epochs}) == 4
    again, other = BucketOrder(buckets, 3, seed=1), BucketOrder(buckets, 3, seed=2)
    assert again.indices(17) == order.indices(17)  # from the seed and the number alone
    assert [again.indices(number) for number in range(5)] != [other.indices(number) for number in range(5)]
    with pytest.raises(ValueError, match="at least one example, found none"):
        BucketOrder([], 3, seed=1)


# --- sources


def test_file_is_upright_without_transparency_and_known_by_its_bytes(tmp_path) -> None:
    values = np.zeros((2, 3, 4), dtype=np.uint8)
    values[..., 0], values[..., 3] = 255, 255
    values[0, 0] = (0, 0, 0, 0)
    Image.fromarray(values, "RGBA").save(tmp_path / "clear.png")
    pixels = PictureFile(tmp_path / "clear.png").pixels()
    assert pixels[:, 0, 0].tolist() == [1, 1, 1]
    assert pixels[:, 1, 1].tolist() == [1, -1, -1]
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(values[..., :3]).save(tmp_path / "turned.png", exif=exif)
    turned = PictureFile(tmp_path / "turned.png", "a word")
    assert turned.size == (3, 2) == tuple(turned.pixels().shape[1:])
    assert turned.digest != PictureFile(tmp_path / "clear.png").digest
    (tmp_path / "copy.png").write_bytes((tmp_path / "turned.png").read_bytes())
    assert PictureFile(tmp_path / "copy.png").digest == turned.digest


def test_picture_in_memory_is_known_by_its_numbers() -> None:
    a = PictureTensor(torch.zeros(3, 2, 4))
    assert a.size == (2, 4)
    assert a.digest == PictureTensor(torch.zeros(3, 2, 4).double()).digest
    assert len({a.digest, PictureTensor(torch.zeros(3, 4, 2)).digest, PictureTensor(torch.ones(3, 2, 4)).digest}) == 3


# --- encodings on disk


def vae(seed: int = 0) -> AutoencoderKL:
    torch.manual_seed(seed)
    return AutoencoderKL(VAE).eval().requires_grad_(False)


def pictures(count: int = 3) -> list[PictureTensor]:
    shapes = [(16, 16), (8, 32), (20, 10)]
    return [
        PictureTensor(torch.rand(3, *shapes[index % 3], generator=generator_for(index)) * 2 - 1, f"picture {index}")
        for index in range(count)
    ]


def counted(network: AutoencoderKL) -> list[Tensor]:
    """What the network encodes from now on."""
    seen: list[Tensor] = []
    network.encoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    return seen


def test_latents_are_those_of_the_autoencoder_and_computed_once(tmp_path) -> None:
    network = vae()
    encoded = encode_pictures(pictures(), BUCKETS, network, store=EncodingStore(tmp_path), mirror=True)
    assert [how.size for how in encoded.fits] == [(16, 16), (8, 32), (20, 12)]
    for index, picture in enumerate(pictures()):
        for variants, mirrored in ((encoded.plain, False), (encoded.mirrored, True)):
            mean, log_variance = network.encode(fitted(picture.pixels(), encoded.fits[index], mirrored)[None])
            torch.testing.assert_close(variants[index]["mean"], mean[0])
            torch.testing.assert_close(variants[index]["log_variance"], log_variance[0])
    again = vae()
    seen, progress = counted(again), []
    found = encode_pictures(
        pictures(), BUCKETS, again, store=EncodingStore(tmp_path), mirror=True, on_progress=lambda *done: progress.append(done)
    )
    assert seen == []
    assert progress[-1] == (6, 6)
    for before, after in zip([*encoded.plain, *encoded.mirrored], [*found.plain, *found.mirrored], strict=True):
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".safetensors"}


def test_stale_encodings_are_not_used(tmp_path) -> None:
    """Another picture, another size, another encoder: each computes again what depends on it, and nothing else."""
    encode_pictures(pictures(), BUCKETS, vae(), store=EncodingStore(tmp_path))
    changed = pictures()
    changed[1] = PictureTensor(-changed[1].values)
    for sources, buckets, network, count in (
        (changed, BUCKETS, vae(), 1),
        (pictures(), Buckets(side=8, step=4, least=8, most=32), vae(), 3),
        (pictures(), BUCKETS, vae(seed=1), 3),
        (pictures(), BUCKETS, vae().bfloat16(), 3),
        (pictures(), BUCKETS, vae(), 0),
    ):
        seen = counted(network)
        encode_pictures(sources, buckets, network, store=EncodingStore(tmp_path))
        assert len(seen) == count


def test_encoding_that_was_interrupted_continues(tmp_path) -> None:
    network = vae()

    def stop(done: int, count: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_pictures(pictures(), BUCKETS, network, store=EncodingStore(tmp_path), on_progress=stop)
    seen = counted(network)
    encode_pictures(pictures(), BUCKETS, network, store=EncodingStore(tmp_path))
    assert len(seen) == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "other record"])
def test_damaged_file_is_computed_again(tmp_path, damage) -> None:
    store, parts = EncodingStore(tmp_path), {"kind": "x", "n": 1}
    store.put(parts, {"a": torch.ones(3)})
    path = store.path(parts)
    assert path is not None
    other = store.path({"kind": "x", "n": 2})
    assert other is not None
    if damage == "other record":
        store.put({"kind": "x", "n": 2}, {"a": torch.zeros(3)})
        other.replace(path)
    else:
        path.write_bytes(path.read_bytes()[: -5 if damage == "cut" else 0])
    assert store.get(parts) is None
    (found,) = store.encode([parts], lambda index: {"a": torch.full((3,), 2.0)})
    assert found["a"].tolist() == [2, 2, 2]
    again = EncodingStore(tmp_path).get(parts)
    assert again is not None
    assert again["a"].tolist() == [2, 2, 2]


def test_encodings_without_a_folder_stay_in_memory() -> None:
    store = EncodingStore()
    store.put({"n": 1}, {"a": torch.ones(1)})
    assert store.path({"n": 1}) is None
    assert store.get({"n": 1}) is not None
    assert store.get({"n": 2}) is None


def test_digest_of_a_network_is_that_of_its_sizes_and_weights() -> None:
    assert network_digest(vae()) == network_digest(vae())
    changed = vae()
    changed.quant_conv.bias[0] += 1
    scaled = AutoencoderKL(replace(VAE, scaling_factor=0.5))
    scaled.load_state_dict(vae().state_dict())
    assert len({network_digest(each) for each in (vae(), changed, scaled, vae().half(), vae().decoder)}) == 5


def test_buckets_that_do_not_fit_the_latent_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 2, the autoencoder's pixels of a cell"):
        encode_pictures(pictures(), Buckets(side=9, step=3, least=6, most=30), vae(), store=EncodingStore())


# --- captions


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    vocabulary = small.write_tokenizer(tmp_path_factory.mktemp("captions") / "vocabulary")
    return Reader(small.our_text_encoder(), load_tokenizer(vocabulary))


def test_captions_are_encoded_as_prompts_are_but_as_they_stand(reader, tmp_path) -> None:
    captions = ["a dog", "a cat", "a dog", ""]
    encoded = encode_captions([reader], captions, EncodingStore(tmp_path))
    assert encoded.pooled is None
    for caption, context in zip(captions, encoded.contexts, strict=True):
        torch.testing.assert_close(context[None], read_prompt([reader], caption).embedding)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 3
    literal = encode_captions([reader], ["(dog:2)"], EncodingStore(tmp_path)).contexts
    ids = [reader.tokenizer.bos, *reader.tokenizer.encode("(dog:2)"), reader.tokenizer.eos]
    padded = torch.tensor([ids + [reader.tokenizer.pad] * (16 - len(ids))])
    torch.testing.assert_close(literal, reader.model(padded))


def test_two_encoders_are_joined_and_the_last_is_pooled(reader) -> None:
    torch.manual_seed(0)
    second = Reader(CLIPTextModel(replace(small.TEXT, width=64, projection=24)).eval(), reader.tokenizer)
    encoded = encode_captions([reader, second], ["a dog"], EncodingStore())
    prompt = read_prompt([reader, second], "a dog")
    torch.testing.assert_close(encoded.contexts, prompt.embedding)
    assert encoded.pooled is not None
    torch.testing.assert_close(encoded.pooled, prompt.pooled)


def test_long_captions_are_cut_and_new_words_have_their_tokens(reader) -> None:
    tokenizer = reader.tokenizer
    cut = caption_tokens(tokenizer, "a very long caption of many letters")
    assert len(cut) == 16
    assert (cut[0], cut[-1]) == (tokenizer.bos, tokenizer.eos)
    found = caption_tokens(tokenizer, "a <thing> and <thing>", {"<thing>": [900, 901]})
    assert found.count(900) == found.count(901) == 2
    assert found[1 : 1 + len(tokenizer.encode("a "))] == tokenizer.encode("a ")


# --- examples


def encoded_pictures(**changes: Any) -> EncodedPictures:
    return encode_pictures(pictures(5), BUCKETS, vae(), store=EncodingStore(), **changes)


def captions_of(count: int, pooled: bool = False) -> EncodedCaptions:
    contexts = torch.arange(count).float()[:, None, None].expand(count, 2, 8)
    return EncodedCaptions(contexts=contexts, pooled=torch.arange(count).float()[:, None].expand(count, 4) if pooled else None)


def test_examples_are_drawn_from_their_gaussians() -> None:
    encoded = encoded_pictures(mirror=True)
    examples = LatentExamples(encoded, captions_of(5))
    batches = [examples.batch([0], generator_for(0, number)) for number in range(400)]
    drawn = torch.cat([batch.latent for batch in batches])
    means = [encoded.plain[0]["mean"], encoded.mirrored[0]["mean"]]
    torch.testing.assert_close(drawn.mean(0), (means[0] + means[1]) / 2 * 0.18215, rtol=0, atol=0.05)
    assert torch.equal(examples.batch([0], generator_for(0, 7)).latent, batches[7].latent)
    assert batches[0].condition.flatten()[0] == 0
    assert examples.batch([3, 0], generator_for(0)).condition[:, 0, 0].tolist() == [3, 0]


def test_vector_conditioning_has_the_sizes_of_each_picture() -> None:
    width = 4 + 6 * 256
    examples = LatentExamples(encoded_pictures(), captions_of(5, pooled=True), added_dim=width, empty=captions_of(1, pooled=True))
    batch = examples.batch([2], generator_for(0))
    assert batch.added is not None
    assert batch.added_dropped is not None
    assert batch.added[0, :4].tolist() == [2] * 4
    assert batch.added_dropped[0, :4].tolist() == [0] * 4
    assert torch.equal(batch.added[:, 4:], batch.added_dropped[:, 4:])
    from nodegraph_diffusion.networks.unet import timestep_embedding

    how = fit(20, 10, (20, 12))
    numbers = torch.tensor([20.0, 10, how.top, how.left, 20, 12])
    torch.testing.assert_close(batch.added[0, 4:], timestep_embedding(numbers, 256).flatten())


def test_wrong_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="found both or neither"):
        LatentExamples(encoded_pictures(), None)
    with pytest.raises(ValueError, match="expected 5 captions, one a picture, found 4"):
        LatentExamples(encoded_pictures(), captions_of(4))


def test_denoiser_trains_on_pictures_of_several_sizes(tmp_path: Path) -> None:
    """And a run that was stopped continues bit for bit, in the order of buckets."""
    from nodegraph_diffusion.networks.unet import UNet

    encoded, shapes = encoded_pictures(), []

    def trainer(folder: Path) -> Trainer[ConditionedLatents]:
        torch.manual_seed(0)
        unet = UNet(replace(UNET, in_channels=4, out_channels=4))
        unet.register_forward_pre_hook(lambda module, inputs: shapes.append(tuple(inputs[0].shape)))
        task = DenoiserTask(unet, EncodedCondition(torch.zeros(2, 8)), Objective())
        return Trainer(task, LatentExamples(encoded, captions_of(5)), TrainingOptions(steps=6, batch=2), folder=folder)

    whole = trainer(tmp_path / "whole")
    assert whole.run()
    assert sorted(shapes[:3]) == [(1, 4, 10, 6), (2, 4, 4, 16), (2, 4, 8, 8)]
    stopped = trainer(tmp_path / "stopped")
    assert not stopped.run(stop=lambda: stopped.step == 2)
    again = trainer(tmp_path / "stopped")
    assert again.run()
    for a, b in zip(whole.networks.values(), again.networks.values(), strict=True):
        assert all(torch.equal(a.parameters[name], b.parameters[name]) for name in a.parameters)


def test_dropped_examples_have_the_vector_of_the_empty_caption() -> None:
    seen = []

    class Unet(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor, steps: Tensor, context: Tensor, added: Tensor, **unused: None) -> Tensor:
            seen.append((context[:, 0, 0], added[:, 0]))
            return self.weight * x

    task = DenoiserTask(Unet(), EncodedCondition(torch.full((1, 1), -1.0)), Objective(), dropout=0.5)  # type: ignore[arg-type]
    ones = torch.ones(40, 1)
    batch = ConditionedLatents(latent=torch.zeros(40, 1, 1, 1), condition=ones[:, None], added=ones, added_dropped=-ones)
    from nodegraph_diffusion.training.loop.task import Moment

    task.losses(batch, Moment(step=0, generator=generator_for(0)))
    context, added = seen[0]
    assert torch.equal(context, added)
    assert 0 < int((added < 0).sum()) < 40
