"""Fenced blocks of Markdown pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


_SAVED = re.compile(r"\s*Saved as `([^`]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the file name that the sentence after it gives."""

    language: str
    text: str
    saved: str | None


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        saved = _SAVED.match(text, match.end())
        found.append(Block(match[1], match[2], saved[1] if saved else None))
    return found
