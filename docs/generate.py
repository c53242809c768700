"""Writes the pages that are made from the program itself: `python docs/generate.py`. A test holds that they are up to date."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click
from click.testing import CliRunner

from docs.package_diagram import diagram
from nodegraph.cli import main
from nodegraph_diffusion.sampling import SAMPLERS, SamplerSpec

DOCS = Path(__file__).parent
_DIAGRAM, _DIAGRAM_END = "<!-- diagram -->\n", "<!-- end of the diagram -->\n"
_TABLE, _TABLE_END = "<!-- table -->\n", "<!-- end of the table -->\n"
NOTE = "<!-- Made by docs/generate.py; change the docstrings instead. -->"

_ORDERS = (
    "# How fast samplers converge",
    NOTE,
    """A sampler of order p comes 2^p times nearer to the exact solution with twice the steps. That solution is known where the
data is normally distributed: there the kit `nodegraph_diffusion.testing` measures the order of every sampler that draws no noise,
from noise level 10 to 0.1, as what 48 steps do against 96. A declared order is one that a test holds; more may be measured on a
problem as smooth as this one. Of a picture, the first ten to thirty steps decide, where the constant matters as much as the
order.""",
    "![The error of each sampler by the calls of the network that it makes](images/orders.svg)",
    """`nodegraph samplers NAME` tells the same. After a change, `python -m nodegraph_diffusion.testing --write` measures anew, and
`python docs/plot_orders.py` draws. [Write a sampler in ten minutes](samplers-tutorial.md) makes one of order 2 out of one of
order 1.""",
)


def pages() -> dict[str, str]:
    """Each generated page by its name."""
    return {
        "architecture.md": _architecture(),
        "cli.md": _command_line(),
        "nodes.md": _nodes(),
        "orders.md": _orders(),
        "samplers.md": _samplers(),
    }


def said(*args: str) -> str:
    """What the command line prints, on a terminal of 80 columns and without anybody's plugin folder."""
    result = CliRunner().invoke(
        main, args, prog_name="nodegraph", env={"COLUMNS": "80", "NODEGRAPH_PLUGIN_DIR": None}, catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def commands() -> list[tuple[str, ...]]:
    """Every command there is, as the words that call it."""
    return list(_below(main, ()))


def _below(group: click.Group, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    with click.Context(group, info_name="nodegraph") as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if isinstance(command, click.Group):
                yield from _below(command, (*words, name))
            else:
                yield (*words, name)


def _command_line() -> str:
    parts = ["# The command line", NOTE, _block("nodegraph --help", said("--help"))]
    for words in commands():
        parts += [f"## nodegraph {' '.join(words)}", _block(f"nodegraph {' '.join(words)} --help", said(*words, "--help"))]
    return "\n\n".join(parts) + "\n"


def _nodes() -> str:
    parts = ["# Nodes, samplers, schedules, guidance", NOTE]
    for kind in ("nodes", "samplers", "schedules", "guidance"):
        parts.append(f"## {kind.capitalize()}")
        for line in said(kind).splitlines():
            name = line.split()[0]
            text = said(kind, name)
            parts += [f"### {name}", _block(None, text[: text.rindex("\nfrom: ")].strip())]
    return "\n\n".join(parts) + "\n"


def _architecture() -> str:
    """The page as it is, with its diagram made again."""
    before, rest = (DOCS / "architecture.md").read_text(encoding="utf-8").split(_DIAGRAM)
    return before + _DIAGRAM + diagram() + "\n" + _DIAGRAM_END + rest.partition(_DIAGRAM_END)[2]


def _orders() -> str:
    return "\n\n".join([*_ORDERS, "\n".join(_order_table())]) + "\n"


def _samplers() -> str:
    """The page as it is, with its table made anew."""
    before, rest = (DOCS / "samplers.md").read_text(encoding="utf-8").split(_TABLE)
    after = rest.partition(_TABLE_END)[2]
    return before + _TABLE + "".join(f"{row}\n" for row in _sampler_table()) + _TABLE_END + after


def _sampler_table() -> Iterator[str]:
    yield "| sampler | calls | noise | also known as |"
    yield "| --- | --- | --- | --- |"
    for name, spec in sorted(SAMPLERS.items()):
        noise = {"independent": "independent", "brownian": "one path"}[spec.noise] if spec.stochastic else ""
        names = ", ".join(alias if " " in alias else f"`{alias}`" for alias in spec.aliases)
        yield f"| [`{name}`](nodes.md#{name}) | {_calls(spec)} | {noise} | {names} |"


def _calls(spec: SamplerSpec) -> int | str:
    return "varying" if spec.evaluations_per_step is None else spec.evaluations_per_step


def _order_table() -> Iterator[str]:
    yield "| sampler | order | measured | calls of the network a step | described in |"
    yield "| --- | --- | --- | --- | --- |"
    for name, spec in sorted(SAMPLERS.items()):
        if not spec.stochastic:
            measured = "" if spec.measured is None else f"{spec.measured:.2f}"
            yield f"| `{name}` | {spec.order or ''} | {measured} | {_calls(spec)} | {spec.paper} |"


def _block(command: str | None, text: str) -> str:
    return f"```{'console' if command else 'text'}\n" + (f"$ {command}\n" if command else "") + f"{text}\n```"


if __name__ == "__main__":
    os.environ.pop("NODEGRAPH_PLUGIN_DIR", None)
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
        print(f"wrote {DOCS / name}")
