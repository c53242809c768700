"""New text encoders, and their vocabulary in CLIP's byte-pair format: every byte, and a token for each word."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nodegraph.plugin_api import dataclass
from nodegraph_diffusion.networks.clip import CLIPTextConfig, CLIPTextModel
from nodegraph_diffusion.recipes.bytepairs import WordVocabulary, learn_merges
from nodegraph_diffusion.text.encode import Reader
from nodegraph_diffusion.text.tokenizer import END, START, WORD_END, byte_alphabet
from nodegraph_nodes.trained.models import TrainedTextEncoder
from nodegraph_training.training.loop import copied
from nodegraph_training.training.networks import built, tokenizer_of
from nodegraph_training.training.sizes import sizes_of

if TYPE_CHECKING:
    from nodegraph import Run
    from nodegraph_training.types import Pictures

_HEADS: Final = 4

_WORD: Final = re.compile(r"[a-z]+|[0-9]|[!-/:-@\[-`{-~]+")  # as the tokenizer splits ASCII text


def vocabulary_files(words: Sequence[str], max_length: int) -> dict[str, str]:
    """The files of a tokenizer, by name, whose vocabulary has these words as whole tokens."""
    merges = learn_merges(tuple(sorted({part for word in words for part in _WORD.findall(word.lower())})))
    alphabet = byte_alphabet()
    merged = ["".join(pair) for pair in merges]
    tokens = [*alphabet, *(symbol + WORD_END for symbol in alphabet), *merged, START, END]
    specials = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    config = {**specials, "model_max_length": max_length, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True}
    lines = "\n".join(f"{left} {right}" for left, right in merges)
    return {
        "vocab.json": json.dumps({token: number for number, token in enumerate(dict.fromkeys(tokens))}, ensure_ascii=False) + "\n",
        "merges.txt": f"#version: 0.2\n{lines}\n",
        "special_tokens_map.json": json.dumps(specials) + "\n",
        "tokenizer_config.json": json.dumps(config) + "\n",
    }


def files_of(vocabulary: WordVocabulary) -> dict[str, str]:
    """The files of a vocabulary's tokenizer, by name."""
    with tempfile.TemporaryDirectory(prefix="nodegraph-") as folder:
        vocabulary.write(Path(folder))
        return {file.name: file.read_text(encoding="utf-8") for file in sorted(Path(folder).iterdir())}


@dataclass(frozen=True, kw_only=True)
class TextSizes:
    """Sizes of a new text encoder. Unless it is `causal`, each word attends to all others."""

    width: int
    layers: int
    max_length: int
    causal: bool


@dataclass(frozen=True, kw_only=True)
class NewTextEncoder:
    """A text encoder in training, with its tokenizer and the files of that."""

    reader: Reader
    files: Mapping[str, str]

    def trained(self) -> TrainedTextEncoder:
        """What it has learned so far, as the output of a node."""
        network = self.reader.model
        settings = {"config": sizes_of(network.config), "tokenizer": dict(self.files)}
        return TrainedTextEncoder(copied(network.state_dict()), settings)


def new_text_encoder(pictures: Pictures, sizes: TextSizes, *, seed: int, run: Run) -> NewTextEncoder:
    """A new text encoder whose vocabulary has each word of the captions of these pictures."""
    files = vocabulary_files(pictures.words(), sizes.max_length)
    tokenizer = tokenizer_of(files)
    config = CLIPTextConfig(
        vocab_size=tokenizer.vocab_size,
        width=sizes.width,
        layers=sizes.layers,
        heads=_HEADS,
        max_length=sizes.max_length,
        mlp_width=4 * sizes.width,
        activation="quick_gelu" if sizes.causal else "gelu",  # as CLIP and as BERT
        eos=tokenizer.eos,
        causal=sizes.causal,
    )
    network = built(lambda: CLIPTextModel(config), seed, run)
    return NewTextEncoder(reader=Reader(network, tokenizer), files=files)
