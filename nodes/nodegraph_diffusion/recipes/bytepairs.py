"""Vocabularies in CLIP's byte-pair format: every byte, and one token for each word of a world's captions."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
_PIECE = re.compile(r"\w+|[^\w\s]")


def byte_symbols() -> list[str]:
    """A printable character for each byte in CLIP's order (Radford et al. 2019): printable Latin-1 first, then the others."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]


def learn_merges(words: tuple[str, ...]) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent pair first (Sennrich et al. 2016, algorithm 1), until each word is one symbol."""
    split = [[*word[:-1], word[-1] + WORD_END] for word in words]
    merges = []
    while counts := Counter(pair for symbols in split for pair in pairwise(symbols)):
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        split = [_merge(symbols, best) for symbols in split]
    return merges


def _merge(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for symbol in symbols:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged


@dataclass(frozen=True)
class WordVocabulary:
    """A vocabulary with these words; its texts have at most `max_length` tokens with their start and end."""

    words: tuple[str, ...]
    max_length: int

    @cached_property
    def merges(self) -> list[tuple[str, str]]:
        """The merges that make each word one token."""
        return learn_merges(self.words)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Token to number: bytes, bytes at the end of a word, merges, the two special tokens."""
        symbols = byte_symbols()
        merged = ["".join(pair) for pair in self.merges]
        tokens = [*symbols, *(symbol + WORD_END for symbol in symbols), *merged, START, END]
        return {token: number for number, token in enumerate(dict.fromkeys(tokens))}

    def tokens(self, text: str) -> list[int]:
        """A text of these words and punctuation as `max_length` token numbers: start, words, end, padded with the end token."""
        table, length = self.numbers, self.max_length
        numbers = [table[START], *(table[piece + WORD_END] for piece in _PIECE.findall(text)), table[END]]
        if len(numbers) > length:
            raise ValueError(f"caption {text!r} has {len(numbers)} tokens with its start and end; at most {length} fit")
        return numbers + [table[END]] * (length - len(numbers))

    def write(self, folder: Path) -> None:
        """Write a CLIP tokenizer's files: vocab.json, merges.txt and their configuration."""
        folder.mkdir(parents=True, exist_ok=True)
        merges = "\n".join(f"{left} {right}" for left, right in self.merges)
        specials = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
        config = {**specials, "model_max_length": self.max_length, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True}
        (folder / "vocab.json").write_text(json.dumps(self.numbers, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
        (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
        (folder / "special_tokens_map.json").write_text(json.dumps(specials, indent=2) + "\n", encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
