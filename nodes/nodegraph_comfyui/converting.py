"""Makes steps of a graph: every node that the outputs need, each after those that feed it."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping

from nodegraph.plugin_api import Problem, WorkflowError, dataclass
from nodegraph_comfyui.building.call import Call, Converted, RefusedError, UnavailableError
from nodegraph_comfyui.building.steps import Ref, Steps
from nodegraph_comfyui.building.values import Model, Value
from nodegraph_comfyui.classes.node_class import NodeClass
from nodegraph_comfyui.classes.table import TABLE
from nodegraph_comfyui.families import family_of, family_of_files
from nodegraph_comfyui.reading.graph import ComfyGraph, ComfyNode, Wire, problem, shortened


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What was made of a graph, and what was not: a text for each node without a counterpart, and for each one that was refused."""

    converted: Converted
    unknown: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def left_out(self) -> tuple[str, ...]:
        """What was not imported."""
        return (*self.unknown, *self.refused)


def convert(graph: ComfyGraph, file: str, *, partial: bool = False) -> Conversion:
    """Steps for what the outputs of a graph need, or with `partial` for all that can be imported.

    Raises WorkflowError for circles and for a graph without outputs, and unless `partial`, with every node that cannot be imported.
    """
    nodes = {id: node for id, node in graph.nodes.items() if node.kind not in _IGNORED}
    needed = {*nodes} if partial else _needed(nodes)
    order = _order(nodes, needed, file)
    converted = Converted(Steps(subgraphs=graph.subgraphs))
    unknown = tuple(str(nodes[id]) for id in order if nodes[id].kind not in TABLE)
    refused = []
    for id in order:
        node = nodes[id]
        if node.kind not in TABLE:
            continue
        found = TABLE[node.kind]
        _find_vae(node, found, nodes, converted)
        try:
            _convert_node(node, found, converted)
        except RefusedError as error:
            refused.append(f"{node}: {error}")
        except UnavailableError:
            if found.is_end and not (unknown or refused):
                converted.notes.append(f"{node} is left out: it needs a node that is turned off")
    conversion = Conversion(converted=converted, unknown=unknown, refused=tuple(refused))
    if not partial:
        _require_whole(conversion, nodes, file)
    if not conversion.left_out and (family := family_of_files(nodes.values())):
        converted.notes.append(f"the names of its files say that it is for {family}, which nodegraph does not have")
    return conversion


_IGNORED = ("Note", "MarkdownNote", "PrimitiveNode", "Reroute")


def _require_whole(conversion: Conversion, nodes: Mapping[str, ComfyNode], file: str) -> None:
    problems: list[Problem] = []
    if conversion.left_out and (family := family_of(nodes.values())):
        message = f"{file} is a graph for {family}, which nodegraph does not have. It has Stable Diffusion 1, 2 and XL"
        problems.append(problem(message, "'nodegraph import --partial' imports what can be imported."))
    for kind, found in _by_kind(conversion.unknown, nodes).items():
        problems.append(problem(f"{file}: there is no counterpart of {kind}: {'; '.join(found)}"))
    problems += [problem(f"{file}: {text}") for text in conversion.refused]
    if not problems and not conversion.converted.steps.outputs:
        message = f"{file} has no output that can be made" if conversion.converted.notes else f"{file} has no output"
        problems.append(problem(message, "Add a SaveImage node in ComfyUI, or turn one on."))
    if problems:
        raise WorkflowError(problems)


def _by_kind(unknown: Collection[str], nodes: Mapping[str, ComfyNode]) -> dict[str, list[str]]:
    """The texts of unknown nodes by their class."""
    kinds: dict[str, list[str]] = {}
    for node in nodes.values():
        if node.kind not in TABLE and str(node) in unknown:
            kinds.setdefault(shortened(node.kind), []).append(str(node))
    return kinds


def _needed(nodes: Mapping[str, ComfyNode]) -> set[str]:
    """The nodes that run in ComfyUI: the outputs, ends of classes that are not known, and what feeds them."""
    used = {source.node for node in nodes.values() for source in _wires(node)}
    ends = [id for id, node in nodes.items() if (TABLE[node.kind].is_end if node.kind in TABLE else id not in used)]
    found, pending = set[str](), list(ends)
    while pending:
        id = pending.pop()
        if id not in found and id in nodes:
            found.add(id)
            pending += [source.node for source in _wires(nodes[id])]
    return found


def _order(nodes: Mapping[str, ComfyNode], needed: set[str], file: str) -> list[str]:
    """The needed nodes, each after those that feed it, loaders of models first. Raises WorkflowError for a circle."""
    waiting = {id: {source.node for source in _wires(nodes[id]) if source.node in needed} for id in nodes if id in needed}
    users: dict[str, list[str]] = {id: [] for id in waiting}
    for id, sources in waiting.items():
        for source in sources:
            users[source].append(id)
    free = sorted((id for id, sources in waiting.items() if not sources), key=lambda id: not _is_loader(nodes[id]))
    ready, order = deque(free), list[str]()
    while ready:
        id = ready.popleft()
        order.append(id)
        for user in users[id]:
            waiting[user].discard(id)
            if not waiting[user]:
                (ready.appendleft if _is_loader(nodes[user]) else ready.append)(user)
    if len(order) < len(waiting):
        stuck = [str(nodes[id]) for id, sources in waiting.items() if sources]
        message = f"{file}: nodes feed each other in a circle: {', '.join(stuck[:5])}{', ...' if len(stuck) > 5 else ''}"
        raise WorkflowError([problem(message, "Remove one of the links in ComfyUI.")])
    return order


def _is_loader(node: ComfyNode) -> bool:
    return node.kind in TABLE and TABLE[node.kind].is_loader


def _wires(node: ComfyNode) -> Iterator[Wire]:
    return (value for value in node.inputs.values() if isinstance(value, Wire))


def _convert_node(node: ComfyNode, found: NodeClass, converted: Converted) -> None:
    title = "" if node.title in ("", node.kind, found.title) else node.title
    call = Call(node, found.known, title, converted)
    result = found.convert(call)
    values = result if isinstance(result, tuple) else (result,)
    for slot, value in enumerate(values):
        if value is not None:
            converted.values[(node.id, slot)] = value


def _find_vae(node: ComfyNode, found: NodeClass, nodes: Mapping[str, ComfyNode], converted: Converted) -> None:
    """Note the VAE for a node that makes an empty latent: that of the checkpoint that samples it, or else any of the graph."""
    if found.inputs and "LATENT" in found.outputs and not any(known.kind == "LATENT" for known in found.known.values()):
        ref = _vae_below(node.id, nodes, converted) or next(_vaes(converted), None)
        if ref is not None:
            converted.vaes[node.id] = ref


def _vaes(converted: Converted) -> Iterator[Ref]:
    return (value.link for value in converted.values.values() if isinstance(value, Value) and value.kind == "VAE")


def _vae_below(id: str, nodes: Mapping[str, ComfyNode], converted: Converted) -> Ref | None:
    """The VAE of the checkpoint whose model samples what a node makes."""
    pending, seen = deque([id]), {id}
    users = _users(nodes.values())
    while pending:
        for user in users.get(pending.popleft(), ()):
            if user in seen:
                continue
            seen.add(user)
            source = nodes[user].inputs.get("model")
            if isinstance(source, Wire) and (ref := _vae_above(source, nodes, converted)) is not None:
                return ref
            pending.append(user)
    return None


def _vae_above(source: Wire, nodes: Mapping[str, ComfyNode], converted: Converted) -> Ref | None:
    """The VAE of the checkpoint that a model comes from."""
    seen = set()
    while source.node not in seen:
        seen.add(source.node)
        value = converted.values.get((source.node, source.slot))
        if isinstance(value, Model) and value.vae is not None:
            return value.vae
        above = nodes[source.node].inputs.get("model") if source.node in nodes else None
        if not isinstance(above, Wire):
            return None
        source = above
    return None


def _users(nodes: Iterable[ComfyNode]) -> dict[str, list[str]]:
    users: dict[str, list[str]] = {}
    for node in nodes:
        for source in _wires(node):
            users.setdefault(source.node, []).append(node.id)
    return users
