"""Tiny tasks of every kind, for tests of training: a few small pictures, and networks that learn them in seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from nodegraph_diffusion.checkpoint import describe, load_text_encoder, load_unet, save_diffusers
from nodegraph_diffusion.networks.classifier import NoisyClassifier
from nodegraph_diffusion.networks.clip import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel
from nodegraph_diffusion.networks.unet import UNet, UNetConfig
from nodegraph_diffusion.networks.vae import AutoencoderKL, VAEConfig
from nodegraph_diffusion.networks.vector_quantiser import AutoencoderVQ
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.recipes.embedded.decoder import DecoderTask
from nodegraph_diffusion.recipes.embedded.text import Reader, ReadingTask, read_captions
from nodegraph_diffusion.recipes.pictureworld import caption, scene
from nodegraph_diffusion.recipes.pictureworld.judges.network import JudgeNetwork
from nodegraph_diffusion.recipes.pictureworld.judges.training import JudgedScenes, JudgeTask
from nodegraph_diffusion.training.loop.options import TrainingOptions
from nodegraph_diffusion.training.loop.recompute import recompute_activations
from nodegraph_diffusion.training.loop.seeds import generator_for
from nodegraph_diffusion.training.loop.task import Moment, Task
from nodegraph_diffusion.training.loop.trainer import Trainer
from nodegraph_diffusion.training.losses.adversarial import PatchDiscriminator
from nodegraph_diffusion.training.noising.objective import Objective
from nodegraph_diffusion.training.tasks.autoencoder import AutoencoderTask, Critic, ReconstructionWeights
from nodegraph_diffusion.training.tasks.classifier import ClassifiedLatents, ClassifierTask
from nodegraph_diffusion.training.tasks.clip import CaptionedPictures, CLIPTask
from nodegraph_diffusion.training.tasks.conditions import LabelCondition, TextCondition
from nodegraph_diffusion.training.tasks.denoiser import ConditionedLatents, DenoiserSamples, DenoiserTask
from nodegraph_diffusion.training.tuning.controlnet import ControlNetTask, HintedLatents, controlnet_of
from nodegraph_diffusion.training.tuning.inversion import InversionCondition
from nodegraph_diffusion.training.tuning.lora import Lora

COUNT = 6
X0 = Objective(target="x0", steps=20, beta_end=0.5)
SIZE = 8
END = 9  # the end token of the texts

VAE = VAEConfig(channels=8, channel_mult=(1, 2), num_res_blocks=1, latent_channels=4, norm_groups=4, mid_attention=False)
UNET = UNetConfig(
    in_channels=3,
    out_channels=3,
    model_channels=16,
    channel_mult=(1,),
    num_res_blocks=1,
    transformer_depth=(1,),
    num_heads=2,
    context_dim=8,
    norm_groups=4,
)
LABELLED = replace(UNET, labels=tuple("abcdef"))
CLASSIFIER = replace(UNET, transformer_depth=(0,), middle_depth=0)
IMAGE = CLIPVisionConfig(size=SIZE, patch=4, width=32, layers=2, heads=2, mlp_width=64, projection=16)
TEXT = CLIPTextConfig(vocab_size=10, width=32, layers=2, heads=2, max_length=4, mlp_width=64, projection=16, eos=END)


def pictures() -> Tensor:
    """(COUNT, 3, SIZE, SIZE) in [-1, 1]: a square of another colour at another place in each."""
    pixels = torch.full((COUNT, 3, SIZE, SIZE), -0.5)
    for index in range(COUNT):
        top, left = 1 + 3 * (index // 3), 2 * (index % 3)
        colour = torch.tensor([1.0 if index & bit else -1.0 for bit in (1, 2, 4)])
        pixels[index, :, top : top + 3, left : left + 3] = colour[:, None, None]
    return pixels


def latents() -> Tensor:
    """(COUNT, 3, 4, 4) of 1 and -1: another pattern in each."""
    return torch.randn(COUNT, 3, 4, 4, generator=generator_for(0, "latents")).sign()


def labels() -> Tensor:
    """(COUNT, 1, LABEL_WIDTH): another class for each latent."""
    return torch.tensor([[[float(index), 0.0, 0.0, 1.0, 1.0]] for index in range(COUNT)])


def texts() -> Tensor:
    """(COUNT, 4): another caption for each picture."""
    return torch.tensor([[8, index, END, END] for index in range(COUNT)])


def captions() -> list[str]:
    """Captions of the picture world."""
    return [caption(scene(0, index), 0, "mixed") for index in range(COUNT)]


class Fixed:
    """Examples that are fields of one batch."""

    def __init__(self, examples: Any) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return COUNT

    def batch(self, indices: list[int], generator: torch.Generator) -> Any:
        """The examples with these indices."""
        if not is_dataclass(self.examples):
            return self.examples[indices]
        values = {field.name: getattr(self.examples, field.name) for field in fields(self.examples)}
        return type(self.examples)(**{name: None if value is None else value[indices] for name, value in values.items()})


def autoencoder(start: int = 2) -> tuple[Task[Any], Any]:
    """A KL autoencoder with a perceptual loss, and a discriminator after `start` steps."""
    torch.manual_seed(0)
    model = AutoencoderKL(VAE)
    features = CLIPVisionModel(IMAGE).requires_grad_(False)
    critic = Critic(discriminator=PatchDiscriminator(channels=4, layers=1), start=start)
    weights = ReconstructionWeights(squares=4.0, perceptual=0.1)
    return AutoencoderTask(
        model, weights=weights, features=features.feature_maps, critic=critic, sampled=pictures()[:2]
    ), pictures()


def vq_autoencoder() -> tuple[Task[Any], Any]:
    """An autoencoder with a codebook."""
    torch.manual_seed(0)
    model = AutoencoderVQ(replace(VAE, codes=16))
    return AutoencoderTask(model, weights=ReconstructionWeights(squares=4.0, bottleneck=1.0)), pictures()


def clip() -> tuple[Task[Any], Any]:
    """Both encoders of CLIP."""
    torch.manual_seed(0)
    return CLIPTask(CLIPVisionModel(IMAGE), CLIPTextModel(TEXT)), CaptionedPictures(pixels=pictures(), tokens=texts())


def denoiser(objective: Objective | None = None, dropout: float = 0.1) -> tuple[Task[Any], Any]:
    """A denoiser of latents under classes."""
    torch.manual_seed(0)
    sampled = DenoiserSamples(conditions=labels(), shape=(3, 4, 4), decode=lambda latent: latent, steps=10)
    objective = objective or Objective(target="x0", draw="importance", steps=20, beta_end=0.5)
    task = DenoiserTask(UNet(LABELLED), LabelCondition(LABELLED.unsaid), objective, dropout=dropout, sampled=sampled)
    return task, ConditionedLatents(latent=latents(), condition=labels())


def text_denoiser() -> tuple[Task[Any], Any]:
    """A denoiser and a text encoder like BERT's, both from nothing."""
    torch.manual_seed(0)
    encoder, unet = CLIPTextModel(replace(TEXT, causal=False, activation="gelu")), UNet(replace(UNET, context_dim=TEXT.width))
    task = DenoiserTask(unet, TextCondition(encoder, texts()[0]), X0, dropout=0.0)
    return task, ConditionedLatents(latent=latents(), condition=texts())


def classifier() -> tuple[Task[Any], Any]:
    """A classifier of noisy latents."""
    torch.manual_seed(0)
    objective = Objective(steps=20, beta_end=0.3)
    task = ClassifierTask(NoisyClassifier(CLASSIFIER, COUNT), objective)
    return task, ClassifiedLatents(latent=latents(), classes=torch.arange(COUNT))


def text_encoder() -> tuple[Task[Any], Any]:
    """The text encoder of the picture world."""
    torch.manual_seed(0)
    return ReadingTask(Reader()), read_captions(captions())


def decoder() -> tuple[Task[Any], Any]:
    """The decoder alone of an autoencoder."""
    torch.manual_seed(0)
    return DecoderTask(AutoencoderKL(VAE)), pictures()


def judge() -> tuple[Task[Any], Any]:
    """The learned judge of the picture world."""
    torch.manual_seed(0)
    return JudgeTask(JudgeNetwork()), JudgedScenes(COUNT).batch([*range(COUNT)], generator_for(0, "distortions"))


def lora() -> tuple[Task[Any], Any]:
    """A LoRA of a denoiser of latents under classes."""
    unet = small_unet()
    adapter = Lora(unet, rank=4, targets=("to_q", "to_k", "to_v", "to_out.0", "in_layers.2", "out_layers.3", "proj_in", "2"))
    return DenoiserTask(unet, LabelCondition(LABELLED.unsaid), X0, adapter=adapter, dropout=0.1), ConditionedLatents(
        latent=latents(), condition=labels()
    )


def inversion() -> tuple[Task[Any], Any]:
    """Vectors of a new word, for a denoiser that knows pictures by their captions."""
    encoder, unet = captioned_denoiser()
    unet.load_state_dict(captioned_weights())
    condition = InversionCondition(encoder, texts()[0], start=(1,))
    word = torch.tensor([[8, TEXT.vocab_size, END, END]]).repeat(COUNT, 1)
    wanted = latents()[4].expand(COUNT, -1, -1, -1)  # that of caption 4
    return DenoiserTask(unet.requires_grad_(False), condition, X0, dropout=0.0), ConditionedLatents(latent=wanted, condition=word)


def captioned_denoiser() -> tuple[CLIPTextModel, UNet]:
    """A new text encoder and a denoiser for it."""
    torch.manual_seed(0)
    return CLIPTextModel(TEXT).requires_grad_(False), UNet(replace(UNET, context_dim=TEXT.width))


@cache
def captioned_weights() -> dict[str, Tensor]:
    """The weights of that denoiser when it knows pictures by their captions."""
    encoder, unet = captioned_denoiser()
    task = DenoiserTask(unet, TextCondition(encoder, texts()[0]), X0, dropout=0.0)
    known = ConditionedLatents(latent=latents(), condition=texts())
    Trainer(task, Fixed(known), TrainingOptions(steps=60, batch=18, learning_rate=1e-2, average=None)).run()
    return unet.state_dict()


def controlnet() -> tuple[Task[Any], Any]:
    """A ControlNet whose hint shows which latent it is."""
    unet = small_unet()
    task = ControlNetTask(unet, controlnet_of(unet, hint_scale=2), LabelCondition(LABELLED.unsaid), X0, dropout=0.0)
    same = labels()[:1].expand(COUNT, -1, -1)
    return task, HintedLatents(latent=latents(), condition=same, hint=pictures() / 2 + 0.5)


def fine_tuning() -> tuple[Task[Any], Any]:
    """A denoiser that was loaded from a file, with its text encoder; activations are computed again."""
    torch.manual_seed(0)
    encoder, unet = CLIPTextModel(TEXT), UNet(replace(UNET, context_dim=TEXT.width, norm_groups=16, num_heads=8))
    vae = AutoencoderKL(replace(VAE, norm_groups=8, latent_channels=3))
    with TemporaryDirectory() as folder:
        special = {"bos_token_id": 8, "eos_token_id": END, "pad_token_id": END}
        path, vocabulary = Path(folder) / "model", Path(folder) / "vocabulary"
        vocabulary.mkdir()
        for name, content in (("vocab.json", "{}"), ("merges.txt", "")):  # texts are tokens here
            (vocabulary / name).write_text(content, encoding="utf-8")
        save_diffusers(
            path,
            unet,
            vae,
            encoder,
            noise_schedule=NoiseSchedule(steps=20, beta_end=0.5),
            tokenizer_folder=vocabulary,
            special_tokens=special,
            sample_size=8,
        )
        model = describe(path)
        loaded = load_unet(model.unet(), "cpu", torch.float32).requires_grad_(True)
        text = load_text_encoder(model.text_encoders().parts[0], "cpu", torch.float32).requires_grad_(True)
        objective = Objective.of(model.unet().noise_schedule)
    recompute_activations(loaded)
    task = DenoiserTask(loaded, TextCondition(text, texts()[0]), objective, dropout=0.1)
    return task, ConditionedLatents(latent=latents(), condition=texts())


def small_unet() -> UNet:
    """A denoiser with random weights, also in its last layer, where a new one has zeros."""
    torch.manual_seed(0)
    unet = UNet(LABELLED)
    nn.init.normal_(unet.get_parameter("out.2.weight"), std=0.1)
    return unet


TASKS: dict[str, Callable[[], tuple[Task[Any], Any]]] = {
    "autoencoder": autoencoder,
    "vq_autoencoder": vq_autoencoder,
    "clip": clip,
    "denoiser": denoiser,
    "text_denoiser": text_denoiser,
    "text_encoder": text_encoder,
    "decoder": decoder,
    "judge": judge,
    "lora": lora,
    "inversion": inversion,
    "controlnet": controlnet,
    "fine_tuning": fine_tuning,
    "classifier": classifier,
}
TUNING = ("lora", "inversion", "controlnet", "fine_tuning")
LAST = "classifier"


def loss_of(task: Task[Any], examples: Any) -> float:
    """The loss of a task of a denoiser, always under the same noise."""
    with torch.no_grad():
        batch = Fixed(examples).batch([*range(COUNT)] * 4, generator_for(0))
        losses = task.losses(batch, Moment(step=0, generator=generator_for(0, "loss")))
    return float(losses.by_network["denoiser"])


def trainer_of(name: str, folder: Path | None = None, **options: Any) -> Trainer[Any]:
    """A trainer of a tiny task. Its seed and batches are always the same."""
    task, examples = TASKS[name]()
    return Trainer(task, Fixed(examples), TrainingOptions(**{"batch": 3, "learning_rate": 3e-3, **options}), folder=folder)


def trainer_to_kill(name: str, folder: Path) -> Trainer[Any]:
    """A trainer of six steps, whose state is saved after two and four, and whose metrics are written after each."""
    others: dict[str, Any] = {LAST: {"accumulation": 2}, "clip": {"optimiser": "muon"}}.get(name, {})
    return trainer_of(name, folder, steps=6, save_every=2, log_every=1, warm_up=2, **others)


def train_until_killed(arguments: Sequence[str]) -> None:
    """Take three steps of every task and begin a fourth of the last. Wait in the middle of it to be killed."""
    torch.set_num_threads(1)
    trainers = [trainer_to_kill(name, Path(arguments[0]) / name) for name in TASKS]
    for trainer in trainers:
        for _ in range(3):
            trainer.advance()
    task = trainers[-1].task
    losses = task.losses

    def wait_in_second_batch(batch: Any, moment: Any) -> Any:
        task.losses = wait_for_end  # type: ignore[method-assign]
        return losses(batch, moment)

    def wait_for_end(batch: Any, moment: Any) -> Any:
        print("in the middle of a step", flush=True)
        sys.stdin.read()

    task.losses = wait_in_second_batch  # type: ignore[method-assign]
    trainers[-1].advance()


if __name__ == "__main__":
    train_until_killed(sys.argv[1:])
