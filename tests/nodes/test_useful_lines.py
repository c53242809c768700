"""`repr` of everything that can be reached from the public objects is one useful line."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import nodegraph
from nodegraph import Engine, Workflow, plugin_api
from nodegraph.run.events import Event

WORKFLOW = Path(__file__).parents[2] / "workflows" / "txt2img.yaml"
MOST_ITEMS = 40  # of a container
LEVELS = 6
LONGEST = 300


def is_ours(thing: object) -> bool:
    return type(thing).__module__.startswith("nodegraph")


def parts(thing: object) -> Iterator[tuple[str, object]]:
    """The public attributes and the items of a thing, each with the way to it."""
    if isinstance(thing, Mapping):
        yield from ((f"[{key!r}]", value) for key, value in islice(thing.items(), MOST_ITEMS))
    elif isinstance(thing, list | tuple | set | frozenset):
        yield from (("[]", item) for item in islice(thing, MOST_ITEMS))
    elif is_ours(thing) and not isinstance(thing, type):
        for name in dir(thing):
            if not name.startswith("_") and not isinstance(part := getattr(thing, name, None), types.MethodType):
                yield f".{name}", part


def reached(things: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """The things and what can be reached from them in some steps, each once."""
    seen: dict[int, object] = {}
    pending = list(things.items())
    for _ in range(LEVELS):
        found = [(way, thing) for way, thing in pending if id(thing) not in seen]
        seen.update((id(thing), thing) for _, thing in found)
        yield from found
        pending = [(f"{way}{more}", part) for way, thing in found for more, part in parts(thing)]


def test_every_object_has_a_useful_line(tmp_path: Path) -> None:
    events: list[Event] = []
    engine = Engine(tmp_path, on_event=events.append)
    painted = Workflow.load(WORKFLOW)
    written = Workflow("written")
    text = written.add("TextTemplate", text="a {boat|cat}")
    written.output("text", text.text)
    handle = engine.start(written)
    result = handle.result()
    things = {
        "engine": engine,
        "workflow": painted,
        "node": text,
        "port": text.text,
        "graph": engine.check(painted),
        "plan": engine.plan(painted),
        "cached": engine.plan(written),
        "explained": engine.explain(written),
        "handle": handle,
        "result": result,
        "events": events,
    }
    lines = {way: repr(thing) for way, thing in reached(things) if is_ours(thing) and not isinstance(thing, type)}
    assert {way: line for way, line in lines.items() if " object at 0x" in line or "\n" in line} == {}
    of_engine = {way: line for way, line in lines.items() if "[" not in way}
    assert {way: line for way, line in of_engine.items() if len(line) > LONGEST} == {}
    assert len(lines) > 100


def test_every_public_class_has_its_own_line() -> None:
    public = {name: getattr(module, name) for module in (nodegraph, plugin_api) for name in module.__all__}
    classes = {
        name: thing for name, thing in public.items() if isinstance(thing, type) and not getattr(thing, "_is_protocol", False)
    }
    assert [name for name, cls in classes.items() if cls.__repr__ is object.__repr__] == []
