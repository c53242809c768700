"""Fenced blocks of Markdown pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)")
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


def links(page: Path) -> list[str]:
    """The targets of the links and pictures of a page, outside fenced blocks."""
    return _LINK.findall(_without_blocks(page))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page: lower case, hyphens for spaces, without other punctuation."""
    found: set[str] = set()
    for heading in _HEADING.findall(_without_blocks(page)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)  # a link in a heading shows its text
        anchor = name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        number = 0
        while anchor in found:
            number += 1
            anchor = f"{name}-{number}"
        found.add(anchor)
    return found


def _without_blocks(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
