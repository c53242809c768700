"""Makes a workflow of steps: names, params for what people change, and a workflow inside for each subgraph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from nodegraph import Workflow
from nodegraph.plugin_api import MISSING, Document, Link, NodeDef, OutputDef, ParamDef, ParamRef, dataclass
from nodegraph_comfyui.building.call import slug
from nodegraph_comfyui.building.steps import Ref, Setting, Step, Steps, Wanted


@dataclass(frozen=True)
class Arranged:
    """A workflow, and the names of its nodes by the ComfyUI nodes that they are made of: `outer/inner` for those inside others."""

    workflow: Workflow
    names: Mapping[str, Sequence[str]]


def arrange(steps: Steps, name: str, base: Path, *, all: bool = False) -> Arranged:
    """The workflow of the steps that the outputs need, or of `all`. Relative paths in it start from `base`."""
    workflow = Workflow(name, base=base)
    arrangement = _Arrangement(steps, steps.present(all=all), workflow)
    arrangement.write()
    return Arranged(workflow, arrangement.names())


@dataclass(eq=False)
class _Place:
    """A workflow that is written: the top one, or one for a subgraph, which the node `user` of the place around it uses."""

    document: Document
    level: tuple[str, ...]
    user: str = ""
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[tuple[int, str | None], str] = field(default_factory=dict)
    params: dict[Any, str] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)


class _Arrangement:
    def __init__(self, steps: Steps, present: Sequence[int], workflow: Workflow) -> None:
        self._steps = steps
        self._present = {index: steps.steps[index] for index in present}
        self._workflow = workflow
        self._places: dict[tuple[str, ...], _Place] = {(): _Place(workflow, ())}

    def write(self) -> None:
        """Write every step and output into the workflow."""
        for level in dict.fromkeys(step.level for step in self._present.values()):
            self._place(level)
        for index, step in self._present.items():
            place = self._places[step.level]
            place.names[index] = _free(step.name, place.taken)
        self._name_settings()
        for index, step in self._present.items():
            place = self._places[step.level]
            inputs = {name: self._value(value, place.level) for name, value in step.inputs.items()}
            place.document.nodes[place.names[index]] = NodeDef(place.names[index], step.type, inputs)
        top = self._places[()]
        for wanted in self._saved(self._steps.outputs):
            link = self._value(wanted.ref, ())
            assert isinstance(link, Link)
            output = _free(wanted.name, set(top.document.outputs))
            top.document.outputs[output] = OutputDef(output, link, _save_of(wanted, output, self._steps.outputs))
        for place in self._places.values():
            if place.level:
                outer = self._places[place.level[:-1]]
                node = outer.document.nodes[place.user]
                outer.document.nodes[place.user] = NodeDef(place.user, node.type, place.inputs)

    def names(self) -> dict[str, list[str]]:
        """The names of the nodes by the ComfyUI nodes that they are made of."""
        found: dict[str, list[str]] = {}
        for index, step in self._present.items():
            users = (self._places[step.level[: depth + 1]].user for depth in range(len(step.level)))
            found.setdefault(step.origin, []).append("/".join((*users, self._places[step.level].names[index])))
        return found

    def _saved(self, outputs: Iterable[Wanted]) -> list[Wanted]:
        """The outputs; if none would be saved, the first place to look at them is a file, too."""
        found = list(outputs)
        if any(wanted.save is not None for wanted in found):
            return found
        return [Wanted(wanted.name, wanted.ref, "{workflow}-{output}.png") for wanted in found]

    def _place(self, level: tuple[str, ...]) -> _Place:
        """The workflow of a subgraph, with the node that uses it."""
        if level in self._places:
            return self._places[level]
        outer = self._place(level[:-1])
        wanted = slug(self._steps.subgraphs.get(level, "")) or "subgraph"
        name = _free(wanted, set(self._workflow.workflows))
        user = _free(wanted, outer.taken)
        document = Document(name)
        self._workflow.workflows[name] = document
        outer.document.nodes[user] = NodeDef(user, f"#{name}", {})
        place = self._places[level] = _Place(document, level, user)
        return place

    def _name_settings(self) -> None:
        """Give each setting the name of a param: its own, or with the title of its node in front if several want it."""
        top = self._places[()]
        for step in self._present.values():
            for setting in step.inputs.values():
                if not isinstance(setting, Setting) or (setting.owner, setting.name) in top.params:
                    continue
                name = _param_name(setting, step)
                if name in top.document.params and step.title and step.title != name:
                    name = f"{step.title}_{name}"
                own = top.params[(setting.owner, setting.name)] = _free(name, set(top.document.params))
                top.document.params[own] = ParamDef(name=own, default=setting.value)

    def _value(self, value: Any, level: tuple[str, ...]) -> Any:
        """A value of an input as it is written at a level."""
        if isinstance(value, Setting):
            return ParamRef(self._param((value.owner, value.name), level))
        if isinstance(value, list):
            return [self._value(part, level) for part in value]
        if isinstance(value, dict):
            return {name: self._value(part, level) for name, part in value.items()}
        if not isinstance(value, Ref):
            return value
        place, source = self._places[level], self._present[value.step]
        if source.level == level:
            return Link(place.names[value.step], value.port)
        if source.level[: len(level)] == level:
            inner = self._places[source.level[: len(level) + 1]]
            return Link(inner.user, self._output(inner, value))
        if value not in place.params:
            name = place.params[value] = _free(self._port_name(value), set(place.document.params))
            place.document.params[name] = ParamDef(name=name, default=MISSING)
            place.inputs[name] = self._value(value, level[:-1])
        return ParamRef(place.params[value])

    def _param(self, key: tuple[str, str], level: tuple[str, ...]) -> str:
        """The param of a setting at a level; subgraphs receive it from the level around them."""
        place, top = self._places[level], self._places[()]
        if key not in place.params:
            outer = self._param(key, level[:-1])
            name = place.params[key] = _free(outer, set(place.document.params))
            default = top.document.params[top.params[key]].default
            place.document.params[name] = ParamDef(name=name, default=default)
            place.inputs[name] = ParamRef(outer)
        return place.params[key]

    def _output(self, place: _Place, ref: Ref) -> str:
        """The output of a subgraph that leads to `ref`."""
        key = (ref.step, ref.port)
        if key not in place.outputs:
            link = self._value(ref, place.level)
            name = place.outputs[key] = _free(self._port_name(ref), set(place.document.outputs))
            place.document.outputs[name] = OutputDef(name, link)
        return place.outputs[key]

    def _port_name(self, ref: Ref) -> str:
        step = self._present[ref.step]
        return ref.port or self._places[step.level].names[ref.step]


def _param_name(setting: Setting, step: Step) -> str:
    """What a setting should be called: by its title, and the text of a prompt by the prompt."""
    if title := slug(setting.title):
        return title
    if setting.name == "text":
        return "prompt" if step.name in ("positive", "prompt") else "negative_prompt" if step.name == "negative" else step.name
    return slug(setting.name) or "value"


def _save_of(wanted: Wanted, name: str, outputs: Iterable[Wanted]) -> str | None:
    """The template of an output's file, with its name if others have the same template."""
    if wanted.save is None or sum(other.save == wanted.save for other in outputs) < 2 or "{output}" in wanted.save:
        return wanted.save
    stem, _, suffix = wanted.save.rpartition(".")
    return f"{stem}-{name}.{suffix}"


def _free(name: str, taken: set[str]) -> str:
    """`name`, with a number if it is taken. It is taken afterwards."""
    names = (name, *(f"{name}_{k}" for k in range(2, len(taken) + 3)))
    free = next(each for each in names if each not in taken)
    taken.add(free)
    return free
