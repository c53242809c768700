"""Prompts: weighted text to the encoding that a denoiser attends to, computed as ComfyUI computes it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nodegraph_diffusion.tokenizer import Tokenizer

if TYPE_CHECKING:
    from nodegraph_diffusion.clip import CLIPTextModel

NESTING_WEIGHT = 1.1
WHOLE_BELOW = 8  # a stretch of fewer tokens is not cut at the end of a chunk
PARENTHESIS = re.compile(r"\\[()]|[()]")
ESCAPED = re.compile(r"\\([()])")

WeightedToken = tuple[int, float]


def parse_weights(text: str) -> list[tuple[str, float]]:
    """The stretches of `text` that parentheses part, in their order, each with its weight; 1 outside them.

    `(text)` multiplies the weight by 1.1 and `(text:1.3)` sets it to 1.3, whatever is around; groups nest. `\\(` and
    `\\)` are parentheses of the text, and so are those without a partner. Square brackets are text: that they lower a
    weight is another program's rule. A number that is not finite is text.
    """
    pending = [(part, 1.0) for part in _split(text)][::-1]
    stretches = []
    while pending:
        part, weight = pending.pop()
        if _is_group(part):
            inner, weight = _group_weight(part[1:-1], weight * NESTING_WEIGHT)
            pending += [(part, weight) for part in _split(inner)][::-1]
        else:
            stretches.append((ESCAPED.sub(r"\1", part), weight))
    return stretches


def chunk_prompt(tokenizer: Tokenizer, text: str) -> list[list[WeightedToken]]:
    """`text` as chunks of `tokenizer.max_length` tokens with their weights: begin, text, end and filling in each.

    A stretch of one weight that does not fit into what is left of a chunk goes on in the next one; if it has fewer than
    8 tokens, it goes there whole. An empty text is one empty chunk.
    """
    room = tokenizer.max_length - 2
    if room < 1:
        raise ValueError(f"tokenizer: expected a max_length of at least 3, found {tokenizer.max_length}; CLIP has 77")
    chunks: list[list[WeightedToken]] = [[]]
    for stretch, weight in parse_weights(text):
        tokens = [(token, weight) for token in tokenizer.encode(stretch)]
        whole = len(tokens) < min(WHOLE_BELOW, room + 1)
        while len(tokens) > room - len(chunks[-1]):
            left = 0 if whole else room - len(chunks[-1])
            chunks[-1] += tokens[:left]
            tokens = tokens[left:]
            chunks.append([])
        chunks[-1] += tokens
    return [_framed(tokenizer, chunk) for chunk in chunks]


def encode_prompt(model: CLIPTextModel, tokenizer: Tokenizer, text: str, clip_skip: int = 1) -> Tensor:
    """Encode `text`, weights and any length: (1, n * max_length, width) float32 on the model's device, for n chunks.

    A token of weight w becomes empty + w * (z - empty), where z is its encoding and `empty` that of an empty prompt at
    the same position. `clip_skip` 2 reads the last but one layer. Raises ValueError where tokenizer and model do not
    belong together.
    """
    chunks = chunk_prompt(tokenizer, text)
    weights = torch.tensor([[weight for _, weight in chunk] for chunk in chunks])
    weighted = bool((weights != 1).any())
    if weighted:
        chunks += chunk_prompt(tokenizer, "")
    tokens = torch.tensor([[token for token, _ in chunk] for chunk in chunks])  # (n, max_length)
    _require_match(model, tokenizer, tokens)
    device = next(model.parameters()).device
    with torch.no_grad():
        encoded: Tensor = model(tokens.to(device), clip_skip).float()  # (n, max_length, width)
    if weighted:
        encoded = torch.lerp(encoded[-1], encoded[:-1], weights.to(device)[:, :, None])
    return encoded.reshape(1, -1, encoded.shape[-1])  # (1, n * max_length, width)


def _split(text: str) -> Iterator[str]:
    """`text` cut around its outermost groups, which keep their parentheses."""
    start = depth = 0
    for match in PARENTHESIS.finditer(text):
        if match[0] == "(":
            if depth == 0 and start < match.start():
                yield text[start : match.start()]
            start = match.start() if depth == 0 else start
            depth += 1
        elif match[0] == ")":
            depth -= 1
            if depth == 0:
                yield text[start : match.end()]
                start = match.end()
    if start < len(text):
        yield text[start:]


def _is_group(part: str) -> bool:
    return len(part) > 1 and part[0] == "(" and part[-1] == ")" and part[-2] != "\\"


def _group_weight(inner: str, nested: float) -> tuple[str, float]:
    """What a group holds and its weight: the number behind its last colon, where there is one, else `nested`."""
    text, colon, number = inner.rpartition(":")
    try:
        weight = float(number) if colon and text else nested
    except ValueError:
        return inner, nested
    return (text, weight) if colon and text and math.isfinite(weight) else (inner, nested)


def _framed(tokenizer: Tokenizer, tokens: list[WeightedToken]) -> list[WeightedToken]:
    filling = tokenizer.max_length - len(tokens) - 2
    return [(tokenizer.bos, 1.0), *tokens, (tokenizer.eos, 1.0), *[(tokenizer.pad, 1.0)] * filling]


def _require_match(model: CLIPTextModel, tokenizer: Tokenizer, tokens: Tensor) -> None:
    config = model.config
    if tokenizer.max_length > config.max_length or int(tokens.max()) >= config.vocab_size:
        raise ValueError(
            f"prompt: expected a tokenizer for a text encoder of {config.vocab_size} tokens and {config.max_length} "
            f"positions, found one of {tokenizer.vocab_size} tokens and {tokenizer.max_length} positions; "
            "load both from one checkpoint"
        )
