"""Nodes that train text encoders."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from nodegraph import Help, Range, Run, Seed, node
from nodegraph_nodes.trained.models import TrainedTextEncoder
from nodegraph_training.nodes.inputs import Batch, Options, Rate, Steps
from nodegraph_training.types import DataSet, TrainedImageEncoder


class Clip(NamedTuple):
    """Both encoders of CLIP."""

    text_encoder: TrainedTextEncoder
    image_encoder: TrainedImageEncoder


@node("TrainCLIP", numeric=True)
def train_clip(
    data: DataSet,
    steps: Steps = 5_000,
    width: Annotated[int, Range(8, 4096), Help("of both encoders; a multiple of 4")] = 128,
    layers: Annotated[int, Range(1, 64)] = 3,
    patch: Annotated[int, Range(1, 512), Help("side of the patches of a picture, in pixels")] = 8,
    max_length: Annotated[int, Range(8, 512), Help("tokens that the text encoder reads at once")] = 32,
    batch: Batch = 64,
    learning_rate: Rate = 1e-3,
    options: Options = None,
    seed: Seed = 0,
    run: Run = Run(),
) -> Clip:
    """Train a text encoder and an image encoder from nothing.

    A picture and its caption get similar embeddings (Radford et al. 2021). The vocabulary has each word of the captions.
    """
    import torch

    from nodegraph_diffusion.networks.clip import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel
    from nodegraph_diffusion.training.tasks.clip import CLIPTask
    from nodegraph_training.training.examples import CaptionedPixels, require_squares
    from nodegraph_training.training.loop import HowToTrain, copied, train
    from nodegraph_training.training.networks import built, tokenizer_of
    from nodegraph_training.training.sizes import sizes_of
    from nodegraph_training.training.texts import vocabulary_files

    pictures = data.pictures
    require_squares(pictures)
    files = vocabulary_files(pictures.words(), max_length)
    tokenizer = tokenizer_of(files)
    sizes: dict[str, Any] = {"width": width, "layers": layers, "heads": 4, "mlp_width": 4 * width, "projection": width}
    text_config = CLIPTextConfig(vocab_size=tokenizer.vocab_size, max_length=max_length, eos=tokenizer.eos, **sizes)
    image_config = CLIPVisionConfig(size=pictures.side, patch=patch, **sizes)
    text, image = built(lambda: (CLIPTextModel(text_config), CLIPVisionModel(image_config)), seed, run)
    how = HowToTrain(steps=steps, batch=batch, learning_rate=learning_rate, seed=seed, options=options)
    with run.work_folder() as folder:
        trainer = train(CLIPTask(image, text), CaptionedPixels(pictures, tokenizer), how, run=run, folder=folder)
        with trainer.averaged(), torch.no_grad():
            return Clip(
                TrainedTextEncoder(copied(text.state_dict()), {"config": sizes_of(text_config), "tokenizer": files}),
                TrainedImageEncoder(copied(image.state_dict()), {"config": sizes_of(image_config)}),
            )


@node("TrainTextEncoder", numeric=True)
def train_text_encoder(
    data: DataSet,
    steps: Steps = 4_000,
    batch: Batch = 64,
    learning_rate: Rate = 1e-3,
    options: Options = None,
    seed: Seed = 0,
    run: Run = Run(),
) -> TrainedTextEncoder:
    """Train a text encoder on the captions of `PictureWorld` alone.

    Linear heads must read from it what a caption demands: each thing, its colour and size, what is left of what, place and time.
    They are discarded. So it knows order, counts and which colour belongs to which thing before a denoiser is trained.
    """
    from nodegraph_diffusion.recipes.embedded.text import Reader, ReadingTask, vocabulary
    from nodegraph_training.training.examples import ReadPictures
    from nodegraph_training.training.loop import HowToTrain, copied, train
    from nodegraph_training.training.networks import built
    from nodegraph_training.training.sizes import sizes_of
    from nodegraph_training.training.texts import files_of

    examples = ReadPictures(data.pictures, run.device)
    reader = built(Reader, seed, run)
    how = HowToTrain(steps=steps, batch=batch, learning_rate=learning_rate, seed=seed, average=0.998, options=options)
    with run.work_folder() as folder:
        trainer = train(ReadingTask(reader), examples, how, run=run, folder=folder)
        with trainer.averaged():
            settings = {"config": sizes_of(reader.encoder.config), "tokenizer": files_of(vocabulary())}
            return TrainedTextEncoder(copied(reader.encoder.state_dict()), settings)
