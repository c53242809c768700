"""Which modules a source imports, read from its text.

The source is not parsed, which would take long: text that looks like an import statement is read as one, which can only add a
module that is not needed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

_FIRST_WORDS: Final = frozenset({b"import", b"from"})
_HAS_MORE: Final = re.compile(
    rb"""[(\\;#"']|^from *\.|import.*import"""
).search  # than one import that means the same in each module
_FROM: Final = re.compile(rb"(?:^|[:;\n])[ \n]*from(?=[ \n.])([ \n.\w\x80-\xff]+)\Z")  # what stands before the word import
_DYNAMIC: Final = frozenset({"importlib", "runpy", "pkgutil"})  # modules that import others by name
_AROUND_DOT: Final = re.compile(r" *\. *")


class ImportScan:
    """Collects the modules that sources import, in `names`, except modules of the packages `skipped`.

    `is_dynamic`: a source uses `import_module`, `__import__`, `runpy` or `pkgutil`, so it may compute the names of other modules.
    """

    def __init__(self, skipped: Iterable[str]) -> None:
        self.names: list[str] = []
        self.is_dynamic = False
        self._skipped = frozenset(skipped)
        self._skipped_bytes = frozenset(name.encode() for name in self._skipped - _DYNAMIC)
        self._known_lines: set[bytes] = set()  # statements that mean the same in each module

    def add(self, source: bytes, *, package: str | None) -> None:
        """Note what `source` imports. `package` is the package of its module; None: relative imports stay inside the plugin.

        Most imports are of the plugin itself, the engine, or the standard library, or were seen in another module: they are passed
        over without taking them apart.
        """
        source = _plain(source)
        skipped, known = self._skipped_bytes, self._known_lines
        has_continued = b"\\\n" in source
        position = source.find(b"import")
        while position >= 0:
            start, end = source.rfind(b"\n", 0, position) + 1, source.find(b"\n", position)
            line = source[start : end if end >= 0 else len(source)].strip()
            word, _, rest = line.partition(b" ")
            of = rest.partition(b" ")[0].partition(b".")[0] if word == b"from" else rest.partition(b".")[0]
            if has_continued and source[start - 2 : start] == b"\\\n":
                self._add_statement(source, position, package)
                self.is_dynamic = self.is_dynamic or _is_dynamic(source, position, line)
            elif line in known or (
                of in skipped
                and b";" not in rest
                and (word == b"from" or (word == b"import" and not (b"," in rest or b"\\" in rest)))
            ):
                pass
            elif line.startswith((b"import", b"from")) or b":" in line or b";" in line:
                self._add_statement(source, position, package)
                if not self.is_dynamic:
                    self.is_dynamic = _is_dynamic(source, position, line)
                if word in _FIRST_WORDS and not _HAS_MORE(line):
                    known.add(line)
            elif not self.is_dynamic:
                self.is_dynamic = _is_dynamic(source, position, line)
            position = source.find(b"import", position + 6)

    def _add_statement(self, source: bytes, position: int, package: str | None) -> None:
        """Note what the statement imports whose word `import` is at `position`, unless it is not a statement."""
        before = _line_before(source, position)
        code = before.rstrip(b" ")
        if not code or code[-1:] in b":;\n":
            self.names += _names(source, position + 6)
        clause = _FROM.search(before) if before[-1:] in b" \n." else None
        if clause is None:
            return
        origin = unicodedata.normalize("NFKC", clause[1].decode("utf-8", "replace"))
        base = _absolute("".join(origin.split()), package)
        if base is not None and base.partition(".")[0] not in self._skipped and _is_name(base):
            self.names += [base, *(f"{base}.{name}" for name in _names(source, position + 6))]


def _plain(source: bytes) -> bytes:
    """The source in UTF-8 without a mark at its beginning, with spaces for tabs and form feeds and with usual ends of lines."""
    head = source[: source.find(b"\n", source.find(b"\n") + 1)]
    if b"coding" in head:
        with contextlib.suppress(SyntaxError, ValueError, LookupError):
            source = importlib.util.decode_source(source).encode()
    if b"\r" in source:
        source = source.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\t" in source or b"\f" in source:
        source = source.replace(b"\t", b" ").replace(b"\f", b" ")
    return source.removeprefix(b"\xef\xbb\xbf")


def _is_dynamic(source: bytes, position: int, line: bytes) -> bool:
    """Whether the line, which has the word `import` at `position`, may import a module by a computed name.

    A name below the module's own, as in `import_module(f"{__name__}.part")`, is no other module.
    """
    if source.startswith(b"import_module", position):
        is_own = source.startswith(b'import_module(f"{__name__}', position)
        return not is_own and (b" as " in line or not line.startswith(b"from"))
    return source.startswith(b"import__", position) or b"runpy" in line or b"pkgutil" in line


def _line_before(source: bytes, position: int) -> bytes:
    """What is before `position` in its line and in lines that a backslash joins to it, without spaces at its beginning."""
    start = source.rfind(b"\n", 0, position) + 1
    if source[start - 2 : start] != b"\\\n":
        return source[start:position].lstrip(b" ")
    while source[start - 2 : start] == b"\\\n":
        start = source.rfind(b"\n", 0, start - 1) + 1
    return source[start:position].replace(b"\\\n", b"\n").lstrip(b" ")


def _names(source: bytes, start: int) -> list[str]:
    """The names behind the word import, which ends at `start`."""
    end = _line_end(source, start)
    text = source[start:end].replace(b"\\\n", b" ").lstrip(b" ")
    has_brackets = text[:1] == b"("
    text = _in_brackets(source, source.find(b"(", start) + 1) if has_brackets else text.partition(b";")[0].partition(b"#")[0]
    decoded = text.decode() if text.isascii() else unicodedata.normalize("NFKC", text.decode("utf-8", "replace"))
    if "." in decoded:
        decoded = _AROUND_DOT.sub(".", decoded)
    words = (part.split() for part in decoded.split(","))
    return [part[0] for part in words if part and _is_name(part[0])]


def _line_end(source: bytes, start: int) -> int:
    """Where the line ends that begins at `start`, with the lines that a backslash joins to it."""
    end = source.find(b"\n", start)
    while end > 0 and source[end - 1 : end] == b"\\":
        end = source.find(b"\n", end + 1)
    return end if end >= 0 else len(source)


def _in_brackets(source: bytes, start: int) -> bytes:
    """The text between `start` and the next closing bracket, without comments, in one line."""
    lines = []
    while start < len(source):
        end = source.find(b"\n", start)
        end = end if end >= 0 else len(source)
        line = source[start:end].partition(b"#")[0].rstrip(b" \\")
        code, bracket, _ = line.partition(b")")
        lines.append(code)
        if bracket:
            break
        start = end + 1
    return b" ".join(lines)


def _is_name(text: str) -> bool:
    return all(map(str.isidentifier, text.split(".")))


def _absolute(origin: str, package: str | None) -> str | None:
    """The absolute name of the module in `from origin import ...`; None for a relative import of the plugin's own."""
    relative = len(origin) - len(origin.lstrip("."))
    if not relative:
        return origin
    if package is None:
        return None
    parts = package.split(".")
    above = parts[: len(parts) - relative + 1]
    return ".".join([*above, *filter(None, [origin.lstrip(".")])]) if above else None
