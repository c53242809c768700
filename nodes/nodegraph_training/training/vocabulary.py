"""A vocabulary of given words in CLIP's byte-pair format: every byte, and a token for each word."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from nodegraph_diffusion.recipes.bytepairs import WordVocabulary, learn_merges
from nodegraph_diffusion.text.tokenizer import END, START, WORD_END, byte_alphabet

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
