"""A node that makes texts with choices, wildcards and styles."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from nodegraph import Help, Reads, Resource, Seed, node
from nodegraph.plugin_api import did_you_mean
from nodegraph_nodes.models.find import AnyFile, folder_path


class WildcardFolder:
    """A folder with files of lines: `colours.txt` for `__colours__`, `light/night.txt` for `__light/night__`.

    `files` are named without the extension.
    """

    def __init__(self, path: Path, files: tuple[tuple[str, Path], ...]) -> None:
        self.path, self.files = path, files

    def lines(self) -> dict[str, list[str]]:
        """The lines of each file, without empty ones and comments (`#`)."""
        return {name: _lines(path) for name, path in self.files}


class Texts(NamedTuple):
    """A prompt and a negative prompt."""

    text: str
    negative: str


def find_wildcards(text: str, base: Path) -> Resource:
    """The folder that `text` names, with its `.txt` files. Raises FileNotFoundError if there is none."""
    folder = folder_path(text, base)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    found = sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*.txt") if path.is_file())
    named = tuple((name.removesuffix(".txt"), path) for name, path in found)
    return Resource(WildcardFolder(folder, named), dict(found))


def _check_template(**literals: Any) -> Iterable[str]:
    if literals.get("style") and "styles" in literals and literals["styles"] is None:
        yield "style: expected a file of styles with it; give its path as styles, or leave style out"


@node("TextTemplate", check=_check_template)
def text_template(
    text: Annotated[str, Help("{a|b} takes one, {2::a|b} a twice as often, __name__ a line of name.txt; they may be nested")],
    negative: Annotated[str, Help("the negative prompt, with the same rules")] = "",
    seed: Annotated[Seed, Help("the same seed makes the same choices")] = 0,
    wildcards: Annotated[
        WildcardFolder | None, Reads(find_wildcards, by_content=True), Help("a folder with a .txt file for each __name__")
    ] = None,
    styles: Annotated[
        AnyFile | None, Help("a CSV file with the columns name, prompt and negative_prompt, as A1111 writes it")
    ] = None,
    style: Annotated[str, Help("names of styles, separated by commas, applied in this order")] = "",
) -> Texts:
    """Make a prompt from a template: choices, wildcards and styles.

    A style replaces its `{prompt}` with the text, or else adds its own text after a comma. Then choices are made from left to
    right; the negative text has its own draws. A backslash before `{`, `|`, `}` or `_` keeps that character. Weights of prompts
    such as `(word:1.2)` stay as they are.
    """
    from nodegraph_diffusion.text.template import expand, from_mapping, read_styles, with_style

    known = {}
    if styles is not None:
        try:
            known = read_styles(styles.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, ValueError) as error:
            raise ValueError(f"styles: {styles}: {error}. Correct the file") from error
    for name in filter(None, (part.strip() for part in style.split(","))):
        if name not in known:
            hint = did_you_mean(name, known) or f"It has {', '.join(known) or 'none'}."
            raise ValueError(f"style: expected the name of a style in {styles or 'a file of styles'}, found '{name}'. {hint}")
        text, negative = with_style(text, known[name].prompt), with_style(negative, known[name].negative)
    where = "in a folder of wildcards" if wildcards is None else f"in {wildcards.path}"
    lines = from_mapping({} if wildcards is None else wildcards.lines(), where)
    return Texts(expand(text, seed, lines), expand(negative, seed ^ _OTHER, lines))


_OTHER = 1 << 63  # the negative text has other draws, so that it does not depend on how many choices the text has


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error.reason} at byte {error.start}). Save it again") from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
