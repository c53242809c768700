"""Loading text encoders and their tokenizers, and reading prompts with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodegraph_nodes.models.opened_files import Digest, open_part
from nodegraph_nodes.models.parts import network_dtype, network_on_demand, part_on_demand, patched_on_demand
from nodegraph_nodes.types import TextEncoder

if TYPE_CHECKING:
    from nodegraph import Run
    from nodegraph_diffusion.checkpoint import TextEncoders
    from nodegraph_diffusion.networks.clip import CLIPTextModel
    from nodegraph_diffusion.text.encode import Reader
    from nodegraph_diffusion.text.tokenizer import Tokenizer


def open_text_encoder(texts: TextEncoders, digest: Digest) -> TextEncoder:
    """Text encoders with their files as they are now. Raises OSError if a file does not exist."""
    return TextEncoder(tuple(open_part(part, digest) for part in texts.parts))


def load_text_network(encoder: TextEncoder, run: Run, index: int = 0) -> CLIPTextModel:
    """One text encoder with its patches, on the run's device. Raises ValueError if the files are damaged or were changed."""
    from nodegraph_diffusion.checkpoint import load_text_encoder

    opened, device, dtype = encoder.opened[index], run.device, network_dtype("text_encoder", run)
    network = network_on_demand(opened, run, dtype, lambda: load_text_encoder(opened.part, device, dtype))
    return patched_on_demand(network, opened, encoder.patches, run=run, dtype=dtype).get()


def load_text_tokenizer(encoder: TextEncoder, run: Run, index: int = 0) -> Tokenizer:
    """The tokenizer in the model's folder, or else CLIP's. Raises ValueError if the folder holds no usable tokenizer."""
    from nodegraph_diffusion.text.tokenizer import load_tokenizer

    opened = encoder.opened[index]
    folder = opened.part.tokenizer
    pad = 0 if folder is None and opened.part.config.activation == "gelu" else None  # OpenCLIP pads with token 0
    return part_on_demand(opened, run, "tokenizer", dtype=None, load=lambda: load_tokenizer(folder, pad)).get()


def load_readers(encoder: TextEncoder, run: Run, clip_skip: int | None = None) -> tuple[Reader, ...]:
    """Each text encoder with its tokenizer and its embeddings. Raises ValueError if one has no layer `clip_skip`."""
    layers = min(part.config.layers for part in encoder.parts)
    if clip_skip is not None and clip_skip > layers:
        raise ValueError(
            f"clip_skip: expected at most {layers}, the number of layers of this text encoder, found {clip_skip}. "
            f"Choose a smaller number"
        )
    return tuple(_load_reader(encoder, run, index) for index in range(len(encoder.parts)))


def _load_reader(encoder: TextEncoder, run: Run, index: int) -> Reader:
    from nodegraph_diffusion.text.encode import Reader

    embeddings = {name: vectors[index] for name, vectors in encoder.embeddings.items()}
    return Reader(load_text_network(encoder, run, index), load_text_tokenizer(encoder, run, index), embeddings)
