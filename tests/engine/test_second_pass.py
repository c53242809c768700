"""A run that plans again, because a cached value was gone, delivers the values of its last pass only."""

from __future__ import annotations

import textwrap
from pathlib import Path

from nodegraph import Engine, Workflow

PLUGIN = """
from pathlib import Path
from nodegraph import hookimpl, node

TICKS = []

@node("Tick", pure=False)
def tick() -> int:
    return TICKS.pop(0)

@node("Same")
def same(number: int) -> int:
    return number

@node("Text")
def text() -> str:
    return "a text that is in one file of the cache"

@node("Lose", pure=False)
def lose(blobs: str, after: list[int]) -> int:
    for path in Path(blobs).rglob("*"):
        if path.is_file() and b"a text" in path.read_bytes():
            path.unlink()
    return 0

@node("Use")
def use(text: str, after: int) -> str:
    return text

@hookimpl
def register_nodes(register):
    for function in (tick, same, text, lose, use):
        register(function)
"""


def test_nodes_below_one_that_ran_twice_have_its_last_value(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "ticking.py").write_text(textwrap.dedent(PLUGIN))
    engine = Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])
    module = engine.plugins.manager.get_plugin("ticking")
    module.TICKS[:] = [2, 1, 2]
    workflow = Workflow("w")
    tick = workflow.add("Tick", name="tick")
    same = workflow.add("Same", name="same", number=tick)
    text = workflow.add("Text", name="text")
    workflow.output("tick", tick)
    workflow.output("same", same)
    workflow.output("text", text)
    engine.run(workflow)
    lost = workflow.add("Lose", name="lost", blobs=str(tmp_path / "cache" / "blobs"), after=[same])
    workflow.output("used", workflow.add("Use", name="used", text=text, after=lost))
    result = engine.run(workflow)
    assert (result["tick"], result["same"]) == (2, 2)
    assert result.cached == ("same",)
    assert module.TICKS == []
