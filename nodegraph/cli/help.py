"""The end of a help text: examples and exit statuses."""

from __future__ import annotations

from typing import Final

DONE: Final = "0 done"
WRONG_CALL: Final = "2 the command line or a setting is wrong"
WRONG_WORKFLOW: Final = "2 the workflow, a plugin or the command line is wrong"


def epilog(*examples: str, status: tuple[str, ...] = (DONE, WRONG_CALL)) -> str:
    """Examples, one a line, and the exit statuses of a command; click keeps the line breaks of a paragraph that begins with \\b."""
    lines = "\n".join(f"  $ {example}" for example in examples)
    return f"\b\n{'Examples' if len(examples) > 1 else 'Example'}:\n{lines}\n\nExit status: {'; '.join(status)}."
