"""Code, docs and messages use plain English: no banned idioms."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
SUFFIXES = {".py", ".md", ".yaml", ".txt", ".toml"}

IDIOMS = {  # what to write instead
    r"(is|are|was|were|be|been|being) told( (of|apart|again|once))?": "receives, shows, warns, distinguishes",
    r"(is|are|was|were) to be told": "must be shown",
    r"hangs? (up)?on": "depends on",
    r"(?<!there )(?<!There )(is|are) none\b(?! of)": "is not a ..., there is no ...",
    r"as for run": "the full text",
    r"(let|lets|letting) go( of)?": "release, free",
    r"(is|are|was|were) lacking": "is missing",
    r"what lies|where \w+ lies?|lies? alone|lie (alone|in a file)": "the file at, where ... is",
    r"somebody('s)?|nobody('s)?": "another process, a user, no one; or say who or what",
    r"(its|their) kin\b": "related",
    r"(or|and) the like": "and similar",
    r"in the place of": "instead of",
    r"by way of": "through",
    r"has had its say|had their say": "was applied",
    r"thereof|wherein|whereof|therein|whereby": "of it, in which",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"a stranger's|strangers'?": "a third-party",
    r"tells? (apart|from another)|told apart": "distinguishes",
    r"has (something|nothing) to say": "has a message",
    r"(is|are) spoken of": "is reported",
    r"comes? to nothing": "has no effect",
    r"what (it|they) (is|are) given": "its input",
    r"tells? (of|that)": "describes, shows, reports",
    r"\bis of [A-Z]": "needs, belongs to",
}
PATTERN = re.compile(r"\b(" + "|".join(f"(?:{idiom})" for idiom in IDIOMS) + r")(?!\w)")

IDENTIFIERS = {  # that say nothing about what they hold, and what to write instead
    "said": "message, output, result",
    "told": "message, output, result",
    "wire": "link",
    "kept": "residents, stored, remaining",
    "given": "value, inputs, offered",
    "givens": "overrides",
    "elsewhere": "foreign_names",
    "mine": "the name of what it is",
    "shelf": "store, folder, what it holds",
    "lanes": "threads, queues, what they are",
    "knowledge": "known results, what is known",
    "alone": "single, no_other_node, unguided_error",
}
BANNED = re.compile(rf"(?<![^\W_])({'|'.join(IDENTIFIERS)})(?![^\W_])")


@cache
def files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\n")
    found = [ROOT / name for name in listed] if any(listed) else [path for path in ROOT.rglob("*") if ".venv" not in path.parts]
    return sorted(path for path in found if path.suffix in SUFFIXES and path.is_file() and path != Path(__file__))


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT).as_posix()}:{line}"


def test_no_banned_idiom():
    lines = (
        (path, number, line) for path in files() for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    )
    found = [f"{place(path, number)}: '{match[0]}'" for path, number, line in lines for match in PATTERN.finditer(line)]
    assert found == []


def defined_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The names of variables, parameters, attributes, functions and classes that a module defines, each with its line."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.alias(asname=str(name)) | ast.ExceptHandler(name=str(name)):
                yield node.lineno, name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                yield node.lineno, name


def test_identifiers():
    names = (
        (path, line, name) for path in files() if path.suffix == ".py" for line, name in defined_names(ast.parse(path.read_bytes()))
    )
    assert [f"{place(path, line)}: {name}" for path, line, name in names if name.strip("_") in IDENTIFIERS] == []
