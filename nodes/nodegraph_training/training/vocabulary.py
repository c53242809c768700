"""A vocabulary of given words in CLIP's byte-pair format: every byte, and a token for each word."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from nodegraph_diffusion.text.tokenizer import END, START, WORD_END, byte_alphabet

_WORD: Final = re.compile(r"[a-z]+|[0-9]|[!-/:-@\[-`{-~]+")  # as the tokenizer splits ASCII text


def vocabulary_files(words: Sequence[str], max_length: int) -> dict[str, str]:
    """The files of a tokenizer, by name, whose vocabulary has these words as whole tokens."""
    merges = _merges(sorted({part for word in words for part in _WORD.findall(word.lower())}))
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


def _merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent pair first (Sennrich et al. 2016, algorithm 1), until each word is one symbol."""
    split = [[*word[:-1], word[-1] + WORD_END] for word in words]
    merges = []
    while counts := Counter(pair for symbols in split for pair in pairwise(symbols)):
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        split = [_merged(symbols, best) for symbols in split]
    return merges


def _merged(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for symbol in symbols:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged
