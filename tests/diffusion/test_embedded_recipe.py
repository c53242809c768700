"""The recipe of the 128x128 model: its parts, and the whole of it at a toy size."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from nodegraph_diffusion.checkpoint import describe
from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.networks.unet import UNet
from nodegraph_diffusion.networks.vae import AutoencoderKL
from nodegraph_diffusion.recipes.embedded import autoencoder, denoiser, evaluation, latents, layout, stages, text
from nodegraph_diffusion.recipes.embedded.__main__ import STAGES, run
from nodegraph_diffusion.recipes.embedded.card import card
from nodegraph_diffusion.recipes.embedded.data import pictures, training_scene
from nodegraph_diffusion.recipes.embedded.decoder import DecoderTask
from nodegraph_diffusion.recipes.pictureworld import caption, parse, reading_of, scene
from nodegraph_diffusion.text.tokenizer import load_tokenizer
from nodegraph_diffusion.training.loop.task import Moment


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_captions_have_the_tokens_of_the_tokenizer(tmp_path: Path) -> None:
    text.vocabulary().write(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    captions = [caption(scene(0, index), index, style) for index in range(60) for style in text.STYLES]
    assert any("," in each for each in captions)
    for each in ("", *captions):
        numbers = [tokenizer.bos, *tokenizer.encode(each), tokenizer.eos]
        padding = [tokenizer.pad] * (text.MAX_LENGTH - len(numbers))
        assert text.vocabulary().tokens(each) == [*numbers, *padding]
        assert not tokenizer.unknown_words(each)


@pytest.mark.parametrize(
    ("words", "count", "things", "pairs", "setting"),
    [
        ("a cat", 1, [(5, 0, 0)], [0, 0, 0], [0, 0]),
        ("two small red trees side by side", 2, [(2, 1, 1)] * 2, [3, 0, 0], [0, 0]),
        ("a cat right of a tree in the snow", 2, [(2, 0, 0), (5, 0, 0)], [1, 0, 0], [3, 0]),
        ("a cat below a tree at night", 2, [(2, 0, 0), (5, 0, 0)], [2, 0, 0], [0, 3]),
        ("a red cat between two trees", 3, [(5, 1, 0), (2, 0, 0), (2, 0, 0)], [4, 4, 0], [0, 0]),
        ("a tree left of a boat and above a car", 3, [(2, 0, 0), (3, 0, 0), (4, 0, 0)], [1, 2, 0], [0, 0]),
    ],
)
def test_attributes_are_those_of_things_in_the_order_in_which_they_stand(
    words: str, count: int, things: list[tuple[int, int, int]], pairs: list[int], setting: list[int]
) -> None:
    padded = [*things, *[(0, 0, 0)] * (3 - len(things))]
    expected = [count, *(number for thing in padded for number in thing), *pairs, *setting]
    assert text.attributes(parse(words)) == expected
    assert all(0 <= number < classes for number, classes in zip(expected, text.SLOTS, strict=True))


def test_a_pair_has_the_same_attributes_in_both_wordings() -> None:
    assert text.attributes(parse("a red cat above a blue tree")) == text.attributes(parse("a blue tree beneath a red cat"))


def test_cells_of_a_thing_weigh_more_and_show_it() -> None:
    each = scene(0, 1, count=2)
    weights, classes = layout.thing_weights(each, 16), layout.cell_classes(each, 8)
    for thing in each.things:
        x, y = (number // 2 for number in thing.box.doubled_centre)
        assert weights[y // 64, x // 64] == layout.THING_WEIGHT
        assert classes[:, y // 128, x // 128].tolist() == [
            layout.KINDS.index(thing.kind) + 1,
            layout.COLOURS.index(thing.colour) + 1,
        ]
    assert weights[0, 0] == 1
    assert classes[:, 0, 0].tolist() == [0, 0]
    assert bool(((classes[0] > 0) == (classes[1] > 0)).all())


def test_velocity_weights_are_one_until_the_cap() -> None:
    snr = torch.tensor([0.01, 1.0, 3.9, 9.0, 99.0])
    torch.testing.assert_close(denoiser.velocity_weights(snr / (snr + 1)), torch.tensor([1.0, 1.0, 1.0, 0.5, 0.05]))


def test_partial_captions_name_some_of_the_things() -> None:
    examples = denoiser.CaptionedScenes(torch.zeros(300, 8, 16, 16, dtype=torch.float16))
    named: Counter[bool] = Counter()
    for index in range(300):
        scenes = training_scene(index)
        words = examples.partial_caption(scenes, "the whole caption", generator().manual_seed(index))
        if words == "the whole caption":
            continue
        demanded = [group for group in parse(words).groups for _ in range(group.count)]
        assert 0 < len(demanded) < len(scenes.things)
        assert not Counter(group.kind for group in demanded) - Counter(thing.kind for thing in scenes.things)
        named[True] += 1
    assert 10 < named[True] < 80


def test_denoiser_task_trains_the_unet_and_not_the_text_encoder() -> None:
    torch.manual_seed(0)
    encoder = CLIPTextModel(text.config())
    task = denoiser.SceneDenoiserTask(UNet(denoiser.CONFIG), encoder)
    batch = denoiser.CaptionedScenes(torch.randn(4, 8, 16, 16, generator=generator()).half()).batch([0, 3], generator())
    losses = task.losses(batch, Moment(step=0, generator=generator()))
    losses.by_network["denoiser"].backward()
    assert 0.5 < float(losses.figures["velocity"].detach()) < 3  # the first prediction is zero, and the target has unit variance
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert all(parameter.grad is not None for parameter in task.networks["denoiser"].parameters().values())


def test_what_only_a_clear_picture_shows_is_left_out_of_captions_at_low_noise_only() -> None:
    task = denoiser.SceneDenoiserTask(UNet(denoiser.CONFIG), CLIPTextModel(text.config()))
    whole, partial = (torch.tensor([text.vocabulary().tokens(words)] * 2) for words in ("two cats", "a cat"))
    weak = denoiser.PARTIAL_SNR / (denoiser.PARTIAL_SNR + 1) * 0.99
    signal = torch.tensor([weak, weak * 1.05]).view(2, 1, 1, 1)
    chosen = task.named_tokens(tokens=whole, partial_tokens=partial, signal=signal)
    assert torch.equal(chosen, torch.stack([whole[0], partial[0]]))


def test_a_new_autoencoder_reduces_and_enlarges_pictures() -> None:
    """Before any training it is as good as the means of 8x8 blocks: 19 dB; one with random weights has 9 dB."""
    assert autoencoder.psnr(autoencoder.new_autoencoder(), pictures([training_scene(index) for index in range(4)])) > 17


def test_decoder_task_leaves_the_encoder_as_it_is() -> None:
    torch.manual_seed(0)
    task = DecoderTask(AutoencoderKL(autoencoder.CONFIG))
    trained = task.networks["decoder"].parameters()
    assert trained
    assert all(name.startswith(("decoder.", "post_quant_conv.")) for name in trained)
    losses = task.losses(torch.zeros(1, 3, 32, 32), Moment(step=0, generator=generator()))
    assert losses.by_network["decoder"].requires_grad


def test_crops_are_parts_of_pictures_some_of_them_changed() -> None:
    crops = autoencoder.Crops().batch([0, 1], generator())
    assert crops.shape == (2 * autoencoder.CROPS, 3, autoencoder.CROP, autoencoder.CROP)
    assert float(crops.abs().max()) <= 1
    assert torch.equal(crops, autoencoder.Crops().batch([0, 1], generator()))


def test_encoding_of_scenes_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "BLOCK", 2)
    torch.manual_seed(0)
    model = AutoencoderKL(autoencoder.CONFIG).requires_grad_(False)
    answers = iter([False, True])
    assert not latents.encode_scenes(model, tmp_path, 3, lambda: next(answers))
    assert len(list(tmp_path.iterdir())) == 1
    assert latents.encode_scenes(model, tmp_path, 3, lambda: False)
    found = latents.read_latents(tmp_path, 3)
    assert found.shape == (3, 8, 16, 16)
    assert found.dtype == torch.float16


def test_captions_of_the_evaluation() -> None:
    assert all(any(group.count > 1 for group in parse(each).groups) for each in evaluation.counting_captions(5))
    assert len(set(evaluation.full_captions(3, 10))) == 10
    for things in (1, 2, 3):
        for each in evaluation.full_captions(things, 5):
            demands = parse(each)
            assert sum(group.count for group in demands.groups) == things
            assert demands.place is not None
            assert all(group.colour and group.size for group in demands.groups)


def test_holes_are_judged_by_place_and_time_and_the_new_thing() -> None:
    asked = evaluation.holes(4)
    readings = [reading_of(hole.scene) for hole in asked]
    readings[1] = replace(readings[1], time="day" if readings[1].time == "night" else "night")
    score = evaluation.score_holes(lambda pixels: readings, pictures([scene(0, 0)]), asked)
    assert (score.right, score.total, score.wrong["time"]) == (3, 4, 1)
    assert score.wrong["thing"] == 4  # the scenes show the old things


def check_that_the_folder_can_take_the_place_of_the_embedded_model(folder: Path, figures: Any) -> None:
    expected = {"preview.json", "judge.safetensors", "README.md", "samples.png", "world.png", "model_index.json"}
    assert expected | {"unet", "vae", "text_encoder", "tokenizer", "scheduler"} == {file.name for file in folder.iterdir()}
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 20e6
    record, latent = json.loads((folder / "preview.json").read_text(encoding="utf-8")), describe(folder).model().unet.latent
    assert (record["channels"], record["factor"]) == (len(record["weights"]), latent.factor) == (8, 8)
    written = (folder / "README.md").read_text(encoding="utf-8")
    for stage in stages.TRAINED:
        assert f"| {stage} |" in written
    for fact in (
        f"{figures['decibels']:.2f} dB",
        "2 of 8 | 0.0 |",
        "owl, rabbit",
        "the judge itself, as drawn",
        "Below the target: ",
    ):
        assert fact in written
    with Image.open(folder / "samples.png") as samples:
        assert samples.size == (128, 6 * 128)


def test_card_has_every_figure_and_names_what_missed_its_target() -> None:
    def score(right: int) -> dict[str, Any]:
        return {"right": right, "total": 100, "wrong": {"size": 100 - right}}

    right = {"1 held-out": (100, 98), "2 held-out": (98, 97), "3 held-out": (93, 91), "open": (80, 81), "counts": (70, 71)}
    painted = {
        kind: {"disagreements": 3, "scores": {"learned": score(each[0]), "matched filter": score(each[1])}}
        for kind, each in {**right, "holes": (95, 96)}.items()
    }
    judges = {name: {"as drawn": f"{count} of 100"} for name, count in (("learned", 98), ("matched filter", 99))}
    figures = {"decibels": 33.214, "measured": 500, "preview": [0.9, 0.8, 0.7], "judges": judges, "painted": painted}
    run = {
        "stages": {stage: {"steps": 1234, "hours": 2.5} for stage in stages.TRAINED},
        "sizes": {"parameters": {"unet": 6_720_200}, "megabytes": 17.04, "latent": [8, 16]},
        "scenes": 5678,
        "machine": "a machine",
    }
    written = card(figures, run, "We looked at them.")
    assert "- Below the target: one thing, every attribute right (98%).\n" in written
    for fact in (
        "| 98 of 100 (wrong: size 2) |",
        "33.21 dB",
        "90%, 80%, 70%",
        "1,234 of 16 | 2.5 |",
        "5,678 scenes",
        "We looked at them.",
    ):
        assert fact in written
    assert "$" not in written


@pytest.mark.slow
def test_recipe_from_nothing_at_toy_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped twice, continues, and ends with a model that our loader opens and with all figures."""
    seen = reading_of(scene(0, 1))  # the matched filter takes long to read a picture
    monkeypatch.setattr(stages, "judge_by_templates", lambda pixels: [seen] * len(pixels))
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked in (2, 6)

    toy = stages.Recipe(
        work=tmp_path,
        narrow_autoencoder_steps=2,
        autoencoder_steps=2,
        text_steps=2,
        judge_steps=2,
        judge_scenes=8,
        scenes=20,
        denoiser_steps=2,
        settling_steps=2,
        decoder_steps=2,
        evaluated=1,
        measured=2,
        stop=stop,
    )
    for _ in range(2):
        with pytest.raises(stages.Stopped):
            run(toy)
    run(toy)
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert figures["painted"].keys() == {"1 held-out", "2 held-out", "3 held-out", "open", "counts", "holes"}
    assert figures["painted"]["3 held-out"]["scores"]["matched filter"]["total"] == 1
    check_that_the_folder_can_take_the_place_of_the_embedded_model(tmp_path / "model", figures)
    assert all(result is None or (tmp_path / result).exists() for _, result in STAGES.values())
    (tmp_path / "notes.md").write_text("We looked at them.", encoding="utf-8")
    run(toy)  # nothing is left to do but the export and the card
    assert "We looked at them." in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
