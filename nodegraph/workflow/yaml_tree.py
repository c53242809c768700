"""YAML text as a tree in which each part has its line and column. Documents that are too large or too deep are refused.

PyYAML's parser produces the events. Its composer is not used: it reads scalars by YAML 1.1, takes seconds for a large file, and
overflows the stack on a hundred thousand brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import yaml

from nodegraph.errors import Location, Problem, WorkflowError

DEEPEST: Final = 64
MOST_PARTS: Final = 1_000_000  # a few aliases of aliases would otherwise fill the memory

_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # YAML 1.2.2, production 1
_TAGS = re.compile("(?:^|[\n\r\x85\u2028\u2029])(%TAG)")
_QUOTING = "Put text in quotes if it contains ': ' or ' #', or begins with one of []{}&*!|>%@`."
_PLAINER = {
    "found character that cannot start any token": "a value cannot begin with this character",
    "mapping values are not allowed in this context": "': ' begins a mapping, which is not allowed here",
    "did not find expected alphabetic or numeric character": "its name is missing, or contains a character that is not allowed",
}


class Part:
    """A value in the text. `size` counts the values in it, with every alias in full; `height` counts the levels below it."""

    __slots__ = ("height", "size", "where")

    def __init__(self, where: Location) -> None:
        self.where = where
        self.size, self.height = 1, 0


class Scalar(Part):
    """A single value. `quoted`: it is text, even if it looks like a number."""

    __slots__ = ("quoted", "text")

    def __init__(self, where: Location, text: str, quoted: bool) -> None:
        super().__init__(where)
        self.text, self.quoted = text, quoted


class Sequence(Part):
    """A list."""

    __slots__ = ("items",)

    def __init__(self, where: Location) -> None:
        super().__init__(where)
        self.items: list[Part] = []

    def parts(self) -> list[Part]:
        return self.items


class Mapping(Part):
    """A mapping: its keys and values, in order."""

    __slots__ = ("pairs",)

    def __init__(self, where: Location) -> None:
        super().__init__(where)
        self.pairs: list[tuple[Part, Part]] = []

    def parts(self) -> list[Part]:
        return [part for pair in self.pairs for part in pair]


def read_tree(text: str, file: str) -> Part | None:
    """The tree of one YAML document; None if it is empty. Locations name `file`.

    Raises WorkflowError, with the location, if the text is not well-formed, or is too large or too deep.
    """
    forbidden = _FORBIDDEN.search(text)
    if forbidden:
        message = f"the character U+{ord(forbidden[0]):04X} is not allowed in a workflow file"
        hint = "Remove it, or write it as an escape in double quotes."
        raise _refused(message, _location(text, forbidden.start(), file), hint)
    tags = _TAGS.search(text)
    if tags:  # the parser's time grows with the square of their number
        raise _refused("tags are not supported in a workflow", _location(text, tags.start(1), file), "Remove '%TAG'.")
    try:
        return _Composer(file).compose(yaml.parse(str(text), Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        raise _malformed(error, text, file) from None


class _Composer:
    """Builds the tree from events, without recursion."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.root: Part | None = None
        self.open: list[tuple[Sequence | Mapping, str | None]] = []  # each with its anchor
        self.keys: list[Part | None] = []  # of each open mapping: the key whose value comes next
        self.anchors: dict[str, Part] = {}
        self.count = 0

    def compose(self, events: Iterator[yaml.Event]) -> Part | None:
        documents = 0
        for event in events:
            if isinstance(event, yaml.ScalarEvent):
                self._add(self._scalar(event), event.anchor)
            elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
                self._refuse_tag(event)
                kind = Sequence if isinstance(event, yaml.SequenceStartEvent) else Mapping
                self.open.append((kind(self._where(event)), event.anchor))
                self.keys.append(None)
                self._refuse_depth(len(self.open), self.open[-1][0])  # now: the parser's time grows with the square of the depth
            elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
                self._close()
            elif isinstance(event, yaml.AliasEvent):
                self._add(self._anchored(event), None)
            elif isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _refused("a second document begins here", self._where(event), "Put each workflow into its own file.")
        return self.root

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        quoted = not event.implicit[0]
        if event.tag not in (None, "!"):
            self._refuse_tag(event)
            quoted = True  # !!str
        return Scalar(self._where(event), event.value, quoted)

    def _close(self) -> None:
        part, anchor = self.open.pop()
        self.keys.pop()
        inside = part.parts()
        part.size += sum(p.size for p in inside)
        part.height = 1 + max((p.height for p in inside), default=0)
        self._refuse_depth(part.height, part)  # aliases add to it
        self._refuse_size(part.size, part)
        self._add(part, anchor)

    def _add(self, part: Part, anchor: str | None) -> None:
        self.count += 1
        self._refuse_size(self.count, part)  # before all of them fill the memory
        if anchor:
            self.anchors[anchor] = part
        if not self.open:
            self.root = part
            return
        owner, _ = self.open[-1]
        key = self.keys[-1]
        if isinstance(owner, Sequence):
            owner.items.append(part)
        elif key is None:
            self.keys[-1] = part
        else:
            owner.pairs.append((key, part))
            self.keys[-1] = None

    def _anchored(self, event: yaml.AliasEvent) -> Part:
        if any(anchor == event.anchor for _, anchor in self.open):
            raise _refused(f"'*{event.anchor}' is inside the value that it repeats", self._where(event))
        if event.anchor not in self.anchors:
            raise _refused(
                f"'*{event.anchor}' repeats a value '&{event.anchor}', which does not exist", self._where(event), _QUOTING
            )
        return self.anchors[event.anchor]

    def _refuse_size(self, size: int, part: Part) -> None:
        if size > MOST_PARTS:
            raise _refused(
                f"with its aliases this holds more than {MOST_PARTS:,} values", part.where, "Use fewer values or aliases."
            )

    def _refuse_depth(self, depth: int, part: Part) -> None:
        if depth > DEEPEST:
            raise _refused(f"this is nested more than {DEEPEST} levels deep", part.where, "Flatten it.")

    def _refuse_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        tag = event.tag
        if tag not in (None, "!") and not (isinstance(event, yaml.ScalarEvent) and tag == "tag:yaml.org,2002:str"):
            written = tag.replace("tag:yaml.org,2002:", "!!")
            raise _refused(f"the tag '{written}' is not supported in a workflow", self._where(event), f"Remove it. {_QUOTING}")

    def _where(self, event: yaml.Event) -> Location:
        mark = event.start_mark
        assert mark is not None  # the parser was given text, not a stream
        return Location(self.file, mark.line + 1, mark.column + 1)


def _location(text: str, index: int, file: str) -> Location:
    return Location(file, text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index))


def _refused(message: str, where: Location, hint: str = "") -> WorkflowError:
    return WorkflowError([Problem("E100", message, where, hint)])


def _malformed(error: yaml.MarkedYAMLError, text: str, file: str) -> WorkflowError:
    """The parser's message in plainer words, with the line on which the value begins that it could not finish."""
    mark = error.problem_mark or error.context_mark
    where = Location(file, mark.line + 1, mark.column + 1) if mark else Location(file, 1, 1)
    message = _PLAINER.get(error.problem or "", error.problem or "")
    opened = error.context_mark
    if error.context and error.context != "while scanning for the next token":
        from_line = f" from line {opened.line + 1}" if opened and opened.line + 1 < where.line else ""
        message = f"{error.context}{from_line}: {message}"
    lines = text.splitlines()
    line = lines[where.line - 1] if where.line <= len(lines) else ""
    hint = "Indent with spaces, not with tabs." if "\t" in line[: where.column] else _QUOTING
    return _refused(f"this is not well-formed YAML: {message}", where, hint)
