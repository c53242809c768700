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
from itertools import pairwise
from typing import Final

_FIRST_WORDS: Final = frozenset({"import", "from"})
_HAS_MORE: Final = re.compile(
    r"""[(\\;#"']|^from *\.|import.*import"""
).search  # than one import that means the same in each module
_FROM: Final = re.compile(r"(?:^|[:;\n])[ \n]*from(?=[ \n.])((?:[ \n.\w]|[^\x00-\x7f])+)\Z")  # what stands before the word import
_DYNAMIC: Final = frozenset(  # modules that import others by name
    {"importlib", "runpy", "pkgutil", "pydoc", "zipimport", "pickle", "_pickle", "shelve"}
)
_BY_PATH: Final = re.compile(
    r"runpy|pkgutil|pydoc|zipimport|machinery|spec_from_|LazyLoader|load_module|find_spec\(.*\.loader"
    r"|importlib(?:\.util|\.metadata)? as |importlib import [^#;]*\b(?:util|metadata|_bootstrap)"
).search
_BY_DATA: Final = ("pickle", "shelve", "dill", "joblib", "entry_points", "importlib_metadata", "pkg_resources", "stevedore")
"""Endings of the names of what imports modules that data name: pickles, and the metadata of distributions."""

_NO_WORD: Final = str.maketrans(dict.fromkeys(".,;:()[]{}=#", " "))
_IN_CLAUSE: Final = re.compile(r"from [\w. ]+ import [\w, (]*").fullmatch  # what stands before a name in `from x import ...`
_AROUND_DOT: Final = re.compile(r" *\. *")


class ImportScan:
    """Collects the modules that sources import, in `names`, except modules of the packages `skipped`.

    `is_dynamic`: a source uses `import_module`, `__import__`, a loader, `runpy`, `pickle`, entry points or similar, so it may
    compute the names of other modules.
    """

    def __init__(self, skipped: Iterable[str]) -> None:
        self.names: list[str] = []
        self.is_dynamic = False
        self._skipped = frozenset(skipped)
        self._passed_over = self._skipped - _DYNAMIC
        self._known: set[str] = set()  # lines, and beginnings such as "from os ", that need not be taken apart again

    def add(self, source: bytes, *, package: str | None) -> None:
        """Note what `source` imports. `package` is the package of its module; None: relative imports stay inside the plugin.

        Most imports are of the plugin itself, the engine, or the standard library, or were seen in another module: they are passed
        over without taking them apart.
        """
        text = "\n" + _plain(source)
        has_backslashes, has_semicolons = "\\" in text, ";" in text
        known, position = self._known, -len("import")
        for before, after in pairwise(text.split("import")):
            position += len(before) + len("import")
            above, newline, head = before.rpartition("\n")
            if newline and not (has_backslashes and above[-1:] == "\\"):
                if head in known and not has_semicolons:
                    continue
                tail = after.partition("\n")[0]
                if f"{head}import{tail}" in known or (self._is_passed_over(head, tail) and ";" not in tail):
                    continue
            self._add_line(text, position, package)

    def _is_passed_over(self, head: str, tail: str) -> bool:
        """Whether a line is an import of one module that is skipped. It is `head`, the word import, and `tail`."""
        if head in self._known:
            return True
        words = head.split()
        if len(words) == 2 and words[0] == "from" and words[1].partition(".")[0] in self._passed_over:
            self._known.add(head)
            return True
        return not words and tail.strip() in self._passed_over

    def _add_line(self, text: str, position: int, package: str | None) -> None:
        """Note what a line imports that has the word `import` at `position`."""
        start, end = text.rfind("\n", 0, position) + 1, text.find("\n", position)
        whole_line = text[start : end if end >= 0 else len(text)]
        line = whole_line.strip()
        word, _, rest = line.partition(" ")
        if text[start - 2 : start] == "\\\n":
            self._add_statement(text, position, package)
        else:
            of = rest.partition(" ")[0].partition(".")[0] if word == "from" else rest.partition(".")[0]
            is_one = word == "from" or (word == "import" and not ("," in rest or "\\" in rest))
            if is_one and of in self._passed_over and ";" not in rest:
                return
            if line.startswith(("import", "from")) or ":" in line or ";" in line:
                self._add_statement(text, position, package)
                if word in _FIRST_WORDS and not _HAS_MORE(line):
                    self._known.add(whole_line)
        self.is_dynamic = self.is_dynamic or _is_dynamic(text, position, line, package)

    def _add_statement(self, text: str, position: int, package: str | None) -> None:
        """Note what the statement imports whose word `import` is at `position`, unless it is not a statement."""
        before = _line_before(text, position)
        code = before.rstrip(" ")
        if not code or code[-1] in ":;\n":
            self.names += _names(text, position + 6)
        clause = _FROM.search(before) if before[-1:] in " \n." else None
        if clause is None:
            return
        origin = unicodedata.normalize("NFKC", clause[1])
        base = _absolute("".join(origin.split()), package)
        if base is not None and base.partition(".")[0] not in self._skipped and _is_name(base):
            names = _names(text, position + 6)
            if not names and text[position + 6 :].lstrip(" (\\\n").startswith("*"):
                names = ["*"]
            self.names += [base, *(f"{base}.{name}" for name in names)]


def _plain(source: bytes) -> str:
    """The text of a source, without a mark at its beginning, with spaces for tabs and form feeds and with usual ends of lines.

    The scan works on text and not on bytes, for which `in` takes ten times as long.
    """
    text = source.decode("utf-8", "replace")
    first, _, rest = text.partition("\n")
    if "coding" in first or "coding" in rest.partition("\n")[0]:
        with contextlib.suppress(SyntaxError, ValueError, LookupError):
            text = importlib.util.decode_source(source)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\t" in text or "\f" in text:
        text = text.replace("\t", " ").replace("\f", " ")
    return text.removeprefix("\ufeff")


def _is_dynamic(text: str, position: int, line: str, package: str | None) -> bool:
    """Whether the line, which has the word `import` at `position`, may import a module by a computed name.

    A name below the module's own, as in `import_module(f"{__name__}.part")`, is a module of the plugin, of which all are known.
    """
    if text.startswith("import_module", position):
        is_own = package is None and text.startswith('import_module(f"{__name__}', position)
        before = text[text.rfind("\n", 0, position) + 1 : position].rpartition(";")[2].lstrip(" ")
        return not is_own and (" as " in line or not _IN_CLAUSE(before))
    return text.startswith("import__", position) or _BY_PATH(line) is not None or _is_by_data(line)


def _is_by_data(line: str) -> bool:
    """Whether a word of the line ends like one of `_BY_DATA`, as "cloudpickle" does."""
    return any(part in line for part in _BY_DATA) and any(word.endswith(_BY_DATA) for word in line.translate(_NO_WORD).split())


def _line_before(text: str, position: int) -> str:
    """What is before `position` in its line and in lines that a backslash joins to it, without spaces at its beginning."""
    start = text.rfind("\n", 0, position) + 1
    if text[start - 2 : start] != "\\\n":
        return text[start:position].lstrip(" ")
    while text[start - 2 : start] == "\\\n":
        start = text.rfind("\n", 0, start - 1) + 1
    return text[start:position].replace("\\\n", "\n").lstrip(" ")


def _names(text: str, start: int) -> list[str]:
    """The names behind the word import, which ends at `start`."""
    end = _line_end(text, start)
    names = text[start:end].replace("\\\n", " ").lstrip(" ")
    has_brackets = names[:1] == "("
    names = _in_brackets(text, text.find("(", start) + 1) if has_brackets else names.partition(";")[0].partition("#")[0]
    if not names.isascii():
        names = unicodedata.normalize("NFKC", names)
    if "." in names:
        names = _AROUND_DOT.sub(".", names)
    words = (part.split() for part in names.split(","))
    return [part[0] for part in words if part and _is_name(part[0])]


def _line_end(text: str, start: int) -> int:
    """Where the line ends that begins at `start`, with the lines that a backslash joins to it."""
    end = text.find("\n", start)
    while end > 0 and text[end - 1] == "\\":
        end = text.find("\n", end + 1)
    return end if end >= 0 else len(text)


def _in_brackets(text: str, start: int) -> str:
    """The text between `start` and the next closing bracket, without comments, in one line."""
    lines = []
    while start < len(text):
        end = text.find("\n", start)
        end = end if end >= 0 else len(text)
        line = text[start:end].partition("#")[0].rstrip(" \\")
        code, bracket, _ = line.partition(")")
        lines.append(code)
        if bracket:
            break
        start = end + 1
    return " ".join(lines)


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
