"""The pack's hook implementations: an index to everything it registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nodegraph import hookimpl

if TYPE_CHECKING:
    from nodegraph.plugin_api import Codec

__nodegraph_includes__ = ("nodegraph_diffusion", "nodegraph_nodes")
__nodegraph_excludes__ = ("*.safetensors", "*.png", "*.md", "*.yaml")


@hookimpl
def register_nodes(register: Callable[[Callable[..., Any]], None]) -> None:
    from nodegraph_training.nodes import (
        adapters,
        autoencoders,
        classifiers,
        data,
        denoisers,
        evaluate,
        options,
        pixels,
        text_encoders,
    )

    for function in (
        data.picture_world,
        data.image_folder,
        data.drawn_picture,
        options.training_options,
        autoencoders.train_autoencoder,
        autoencoders.train_decoder,
        text_encoders.train_clip,
        text_encoders.train_text_encoder,
        denoisers.train_denoiser,
        denoisers.train_denoiser_and_text,
        pixels.empty_pixels,
        pixels.pixels_to_image,
        classifiers.train_classifier,
        classifiers.classifier_guidance,
        classifiers.clip_guidance,
        adapters.train_lora,
        adapters.train_textual_inversion,
        adapters.train_control_net,
        adapters.edges,
        evaluate.evaluate,
        evaluate.evaluate_autoencoder,
        evaluate.judge_pictures,
        evaluate.compare_pictures,
        evaluate.frechet_distance,
        evaluate.export_model,
    ):
        register(function)


@hookimpl
def register_codecs(register: Callable[[type, Codec], None]) -> None:
    from nodegraph_nodes.trained.codec import TrainedCodec
    from nodegraph_training.types import TrainedClassifier, TrainedImageEncoder

    for kind in (TrainedImageEncoder, TrainedClassifier):
        register(kind, TrainedCodec(kind))
