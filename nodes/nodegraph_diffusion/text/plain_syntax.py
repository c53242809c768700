"""Finds what other programs read as syntax in a prompt, and what is only text here."""

from __future__ import annotations

import re
from typing import Final, Literal

from nodegraph_diffusion.text.emphasis import parse_emphasis, parse_weights

EMBEDDING = re.compile(r"(?<!\S)embedding:(\S+)")

_A1111: Final = "works with syntax: a1111"
_EVERYWHERE: Final = (
    (re.compile(r"<(?:lora|lyco|lycoris|hypernet)\s*:[^<>]*>", re.IGNORECASE), "a LoRA is a node: LoadLora"),
    (re.compile(r"\{[^{}|]*\|[^{}]*\}"), "write one of the words, or let a TextTemplate node draw one"),
    (re.compile(r"(?<!\w)__[\w/*-]*[^\W_][\w/*-]*__(?!\w)"), "write a word from the list, or let a TextTemplate node draw one"),
    (re.compile(r"\$params\.[A-Za-z_][\w-]*"), "a param is a whole value: text: $params.NAME"),
)
_ONLY_A1111: Final = (
    (re.compile(r"(?<!\\)\[[^\[\]]*:\s*(?:\d+\.?\d*|\.\d+)\s*\]"), _A1111),
    (re.compile(r"(?<!\\)\[[^\[\]|]*\|[^\[\]]*\]"), _A1111),
    (re.compile(r"\bAND\b"), _A1111),
)


def plain_syntax(text: str, syntax: Literal["comfyui", "a1111"]) -> list[tuple[str, str]]:
    """The first part of each kind that another program would not read as text, with what to do instead."""
    kinds = _EVERYWHERE if syntax == "a1111" else (*_EVERYWHERE, *_ONLY_A1111)
    found = [(match[0], advice) for pattern, advice in kinds if (match := pattern.search(text))]
    for segment, _ in parse_weights(text) if syntax == "comfyui" else parse_emphasis(text):
        match = re.search(r"\S*embedding:\S*", EMBEDDING.sub("", segment))
        if match:
            return [*found, (match[0], "put a space before 'embedding:', and the name right after it")]
    return found
