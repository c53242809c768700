"""The toy world's vocabulary in CLIP's byte-pair format: every byte, and a token for each word of its captions."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

from nodegraph_diffusion.recipes.tiny.world import captions
from nodegraph_diffusion.recipes.tiny.world.scene import COLOURS, KINDS

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
MAX_LENGTH = 32


def words() -> list[str]:
    """Every word that a caption can contain, sorted."""
    phrases = [*captions.OPENINGS, *captions.RIGHTWARD, *captions.LEFTWARD, *COLOURS, *KINDS, "a an the"]
    for table in (captions.PLACE_PHRASES, captions.GROUND_PHRASES, captions.TIME_PHRASES):
        phrases += [phrase for options in table.values() for phrase in options]
    return sorted({word for phrase in phrases for word in phrase.split()})


def byte_symbols() -> list[str]:
    """A printable character for each byte in CLIP's order (Radford et al. 2019): printable Latin-1 first, then the others."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]


def learn_merges(vocabulary: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent pair first (Sennrich et al. 2016, algorithm 1), until each word is one symbol."""
    split = [[*word[:-1], word[-1] + WORD_END] for word in vocabulary]
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


@cache
def vocabulary() -> dict[str, int]:
    """Token to number: bytes, bytes at the end of a word, merges, the two special tokens."""
    symbols = byte_symbols()
    merged = ["".join(pair) for pair in learn_merges(words())]
    tokens = [*symbols, *(symbol + WORD_END for symbol in symbols), *merged, START, END]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


def tokens(text: str) -> list[int]:
    """A caption of the grammar as MAX_LENGTH token numbers: start, words, end, padded with the end token."""
    table = vocabulary()
    numbers = [table[START], *(table[word + WORD_END] for word in text.split()), table[END]]
    if len(numbers) > MAX_LENGTH:
        raise ValueError(f"caption {text!r} has {len(numbers)} tokens with its start and end; at most {MAX_LENGTH} fit")
    return numbers + [table[END]] * (MAX_LENGTH - len(numbers))


def write_vocabulary(folder: Path) -> None:
    """Write a CLIP tokenizer's files: vocab.json, merges.txt and their configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    merges = "\n".join(f"{left} {right}" for left, right in learn_merges(words()))
    specials = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    config = {**specials, "model_max_length": MAX_LENGTH, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True}
    (folder / "vocab.json").write_text(json.dumps(vocabulary(), ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(specials, indent=2) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
