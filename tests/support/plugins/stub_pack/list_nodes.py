"""Nodes that return lists, and text that decides what follows."""

from __future__ import annotations

from typing import Annotated

from nodegraph import Range, Run, node

from .values import CALLS, EDITED, Blob, Model


@node("Count")
def count(n: int = 3, start: int = 0) -> list[int]:
    """Returns `n` whole numbers."""
    CALLS.append("Count")
    return list(range(start, start + n))


@node("Rows")
def rows(n: int = 2, length: int = 2) -> list[list[int]]:
    """Returns `n` lists of whole numbers."""
    return [[10 * row + i for i in range(length)] for row in range(n)]


@node("Throw", pure=False)
def throw(n: int = 3) -> list[int]:
    """Returns other numbers each time, and is declared impure."""
    CALLS.append("Throw")
    return [100 * CALLS.count("Throw") + i for i in range(n)]


@node("Words")
def words(text: str) -> list[str]:
    """Returns the words of a text."""
    CALLS.append("Words")
    return text.split()


@node("BadWords")
def bad_words() -> list[str]:
    """Raises instead of returning words."""
    raise ValueError("there are no words")


@node("EditWorkflow")
def edit_workflow(path: str, text: str) -> str:
    """Writes a text into a file beside the cache, as an editor might during a run, and returns it."""
    EDITED[0].joinpath(path).write_text(text)
    return text


@node("CutText")
def cut(text: str, run: Run = Run()) -> list[Blob]:
    """Makes a blob of each word of a text."""
    CALLS.append("CutText")
    return [Blob(word.encode()) for word in text.split()]


@node("CutRows")
def cut_rows(text: str) -> list[list[Blob]]:
    """Makes a list of blobs, one for each letter, of each word of a text."""
    return [[Blob(letter.encode()) for letter in word] for word in text.split()]


@node("Models")
def models(text: str) -> list[Model]:
    """Makes a model of each word of a text."""
    CALLS.append("Models")
    return [Model(word) for word in text.split()]


@node("Sizes")
def sizes(blobs: list[Blob]) -> list[int]:
    """Returns the bytes of each blob of a list."""
    CALLS.append("Sizes")
    return [sum(map(len, blob.items)) for blob in blobs]


@node("Enlarge")
def enlarge(blob: Blob, times: Annotated[int, Range(1, 9)] = 2) -> Blob:
    """Repeats each item of a blob."""
    CALLS.append("Enlarge")
    if b"bad" in blob.items:
        raise ValueError("this blob is bad")
    return Blob(*(item * times for item in blob.items))


@node("Decide")
def decide(text: str) -> str:
    """Returns a text."""
    CALLS.append("Decide")
    return text
