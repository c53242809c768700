"""CLIP's tokenizer: byte-level byte-pair encoding over lower-cased words (Radford et al. 2021, sec. 2.4).

The vocabulary is that of a checkpoint's folder, or the standard one in `clip_vocabulary/`. Tokenizers of CLIP's kind use the
`tokenizers` library directly, because importing transformers takes a second; only other kinds need it.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Encoding, Regex, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
MAX_LENGTH = 77  # CLIP's
CLIP_CLASSES = ("CLIPTokenizer", "CLIPTokenizerFast")
PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class Tokenizer:
    """Text to token ids. `bos`, `eos` and `pad` begin, end and fill a chunk of `max_length` tokens, these included."""

    backend: Backend = field(repr=False)
    _: KW_ONLY
    bos: int
    eos: int
    pad: int
    max_length: int = MAX_LENGTH

    @property
    def vocab_size(self) -> int:
        """One more than the largest id that `encode` returns: the number of rows that a text encoder's table needs."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    @property
    def special_ids(self) -> dict[str, int]:
        """The ids of the special tokens, by their names in the configs of transformers."""
        return {"bos_token_id": self.bos, "eos_token_id": self.eos, "pad_token_id": self.pad}

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without special tokens and without a limit of length."""
        return list(self._encoding(text).ids)

    def unknown_words(self, text: str) -> list[str]:
        """The words of `text` that the vocabulary can only spell, in order, each once.

        A word is spelled if it becomes several tokens and one of them is a single byte. A vocabulary made from few texts has few
        words; the standard one lacks invented words and those of rare scripts.
        """
        encoding = self._encoding(text)
        words: dict[str, None] = {}
        for pieces in _words(encoding):
            start, end = encoding.offsets[pieces[0]][0], encoding.offsets[pieces[-1]][1]
            lone = any(len(encoding.tokens[i].removesuffix(WORD_END)) == 1 for i in pieces)
            if len(pieces) > 1 and lone and any(char.isalpha() for char in text[start:end]):
                words[text[start:end]] = None
        return list(words)

    def _encoding(self, text: str) -> Encoding:
        return self.backend.encode(text, add_special_tokens=False)


def load_tokenizer(folder: Path | None = None, pad: int | None = None) -> Tokenizer:
    """The tokenizer in a checkpoint's `folder` (vocab.json and merges.txt, or tokenizer.json), or CLIP's standard one.

    `pad` is the padding token of the standard one: None for CLIP's end token, 0 for OpenCLIP's. Raises ValueError if the folder has
    no tokenizer, or one that cannot be read.
    """
    if folder is None:
        return _standard() if pad is None else replace(_standard(), pad=pad)
    config = _read_json(folder / "tokenizer_config.json")
    if config.get("tokenizer_class", CLIP_CLASSES[0]) not in CLIP_CLASSES:
        backend = _of_another_kind(folder)
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        backend = _from_vocabulary(folder)
    elif (folder / "tokenizer.json").is_file():
        backend = _from_file(folder / "tokenizer.json")
    else:
        raise ValueError(
            f"{folder}: expected a tokenizer, that is vocab.json and merges.txt, or tokenizer.json; found neither. "
            "Copy them from the model's original folder"
        )
    return _with_specials(folder, backend, {**config, **_read_json(folder / "special_tokens_map.json")})


@cache
def _standard() -> Tokenizer:
    """The 49,408 tokens of CLIP. The vocabulary follows from the merges; reading only these is faster."""
    packed = (resources.files("nodegraph_diffusion") / "text" / "clip_vocabulary" / "merges.txt.gz").read_bytes()
    merges = [(left, right) for left, right in map(str.split, gzip.decompress(packed).decode().splitlines())]
    alphabet = byte_alphabet()
    tokens = [*alphabet, *(byte + WORD_END for byte in alphabet), *(left + right for left, right in merges), START, END]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    backend = _clip_backend(BPE(vocabulary, merges, end_of_word_suffix=WORD_END, unk_token=END))
    _add_special(backend, START, END)
    return Tokenizer(backend, bos=vocabulary[START], eos=vocabulary[END], pad=vocabulary[END])


def byte_alphabet() -> list[str]:
    """The character for each byte in a vocabulary, in CLIP's order of ids.

    Printable bytes are their own characters; the others, which come last, are the characters from U+0100 on (the byte-level
    encoding of Radford et al. 2019, sec. 2.2).
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(0x100 + i) for i in range(256 - len(printable))]


def _clip_backend(model: BPE) -> Backend:
    """CLIP's splitting into words, as in its reference implementation and in transformers' CLIPTokenizer, then `model`."""
    backend = Backend(model)
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PATTERN), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return backend


def _add_special(backend: Backend, *tokens: str) -> None:
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in tokens])


def _from_vocabulary(folder: Path) -> Backend:
    try:
        model = BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"), end_of_word_suffix=WORD_END, unk_token=END)
    except Exception as error:  # the bindings raise bare Exceptions
        raise ValueError(f"{folder}: vocab.json and merges.txt do not hold a byte-pair vocabulary ({error})") from error
    return _clip_backend(model)


def _from_file(path: Path) -> Backend:
    try:
        return Backend.from_file(str(path))
    except Exception as error:  # the bindings raise bare Exceptions
        raise ValueError(f"{path}: not a tokenizer of the `tokenizers` library ({error})") from error


def _of_another_kind(folder: Path) -> Backend:
    from transformers import AutoTokenizer

    backend: Backend | None = getattr(AutoTokenizer.from_pretrained(folder), "backend_tokenizer", None)
    if backend is None:
        raise ValueError(f"{folder}: expected a tokenizer of the `tokenizers` library; save it as a fast tokenizer")
    return backend


def _with_specials(folder: Path, backend: Backend, config: dict[str, Any]) -> Tokenizer:
    """The tokenizer with the special tokens and the length in its `config`, CLIP's by default."""
    ids = []
    for role, usual in (("bos_token", START), ("eos_token", END), ("pad_token", END)):
        entry = config.get(role) or usual
        token = entry["content"] if isinstance(entry, dict) else entry
        found = backend.token_to_id(token)
        if found is None:
            raise ValueError(
                f"{folder}: expected its {role} {token!r} in the vocabulary, found no such token; name one that the vocabulary has"
            )
        ids.append(found)
        _add_special(backend, token)
    length = config.get("model_max_length", MAX_LENGTH)
    length = int(length) if length <= 100_000 else MAX_LENGTH  # an unset length is written as 1e30
    bos, eos, pad = ids
    return Tokenizer(backend, bos=bos, eos=eos, pad=pad, max_length=length)


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); copy it from the model's original folder") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def _words(encoding: Encoding) -> list[list[int]]:
    """The positions of the tokens of each word."""
    words: dict[int, list[int]] = {}
    for position, word in enumerate(encoding.word_ids):
        if word is not None:
            words.setdefault(word, []).append(position)
    return list(words.values())
