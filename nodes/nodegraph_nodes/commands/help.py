"""The end of a help text: examples and exit statuses."""

from __future__ import annotations

from typing import Final

WRONG: Final = "2 the command line or a file is wrong"


def epilog(*examples: str, status: tuple[str, ...] = ("0 done", WRONG)) -> str:
    """Examples, one a line, and the exit statuses of a command; click keeps the line breaks of a paragraph that begins with \\b."""
    lines = "\n".join(f"  $ {example}" for example in examples)
    return f"\b\n{'Examples' if len(examples) > 1 else 'Example'}:\n{lines}\n\nExit status: {'; '.join(status)}."
