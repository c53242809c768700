"""Writes a workflow as YAML for people: with comments, empty lines between its parts, and long texts on several lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from nodegraph.workflow.definitions import Document, ParamDef
from nodegraph.workflow.dump import dump

_PARTS: Final = ("params:", "nodes:", "outputs:", "workflows:")
_NOT_PLAIN: Final = re.compile("[^\n\x20-\x7e\xa1-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|[\u2028\u2029]")
_WIDTH: Final = 116


def readable(workflow: Document, comments: Mapping[str, str]) -> str:
    """The workflow as YAML; reading it gives the same. `comments` are texts by node, or by "" for the top.

    Raises WorkflowError with every value that YAML cannot hold.
    """
    first, *lines = dump(workflow).splitlines()
    return "\n".join([first, *_comment(comments.get("", ""), ""), *_body(lines, workflow, comments)]) + "\n"


def _body(lines: list[str], workflow: Document, comments: Mapping[str, str]) -> Iterator[str]:
    blocks = {f"  {param.name}:": block for param in workflow.params.values() if (block := _block(param))}
    part = ""
    for line in lines:
        if not line.startswith(" "):
            part = line.partition(" ")[0]
            if part in _PARTS:
                yield ""
        name = re.match(r"  [\w-]+:", line)
        if part == "params:" and name is not None and name[0] in blocks:
            yield from blocks[name[0]]
            continue
        if part == "nodes:" and name is not None:
            yield from _comment(comments.get(name[0].strip()[:-1], ""), "  ")
        yield line


def _block(param: ParamDef) -> list[str]:
    """The lines of a param whose default is a text of several lines; none for another one."""
    text = param.default
    if not isinstance(text, str) or "\n" not in text.strip("\n") or any((param.type, param.help, param.min, param.max)):
        return []
    body = text.removesuffix("\n")
    if _NOT_PLAIN.search(text) or body != body.rstrip() or body[0] in " \n" or body.startswith("#"):
        return []
    mark = "|" if text.endswith("\n") else "|-"
    return [f"  {param.name}: {mark}", *(f"    {line}" if line else "" for line in body.split("\n"))]


def _comment(text: str, indent: str) -> Iterator[str]:
    """A text as comment lines of about the usual width, without characters that YAML does not allow."""
    for line in text.splitlines():
        clean = re.sub(r"[^\x20-\x7e\xa1-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]", " ", line).rstrip()
        while len(clean) > _WIDTH and " " in clean[1:_WIDTH]:
            cut = clean.rindex(" ", 1, _WIDTH)
            yield f"{indent}# {clean[:cut]}".rstrip()
            clean = clean[cut + 1 :]
        yield f"{indent}# {clean}".rstrip()
