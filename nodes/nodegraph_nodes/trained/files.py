"""Trained weights as files.

Networks, LoRAs and vectors are read from files, which are mapped into memory. So the tensors of a trained value are written to a
file of this process, once for each content; the folder is removed when the process ends.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from nodegraph.plugin_api import FileState, replacing
from nodegraph_diffusion.checkpoint import EmbeddingFile, LoraFile, describe
from nodegraph_nodes.model_files import OpenedFile, Patch
from nodegraph_nodes.models.errors import file_errors
from nodegraph_nodes.trained.codec import TrainedCodec
from nodegraph_nodes.types import Trained, TrainedEmbedding, TrainedLora


def file_of(trained: Trained) -> OpenedFile:
    """A file with the tensors of a value."""
    codec = TrainedCodec(type(trained))
    digest = codec.digest(trained)
    path = Path(_folder().name) / f"{digest[:32]}{codec.suffix}"
    if not path.exists():
        with replacing(path) as temporary:
            codec.save(trained, temporary)
    return OpenedFile(path, digest, FileState.of(path))


def write_once(path: Path, data: bytes) -> None:
    """Write a file beside those of tensors, unless it is there."""
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(data)


def lora_patch(lora: TrainedLora, strength: float) -> Patch:
    """The LoRA as a patch of the networks of a model."""
    return Patch(lora=lora_file(lora), files=(file_of(lora),), strength=strength)


def lora_file(lora: LoraFile | TrainedLora) -> LoraFile:
    """The file of a LoRA."""
    if isinstance(lora, LoraFile):
        return lora
    with file_errors():
        return describe(file_of(lora).path).lora()


def embedding_file(embedding: EmbeddingFile | TrainedEmbedding) -> EmbeddingFile:
    """The file of the vectors of a word."""
    if isinstance(embedding, EmbeddingFile):
        return embedding
    with file_errors():
        return describe(file_of(embedding).path).embedding()


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="nodegraph-trained-")
