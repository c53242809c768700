"""A diagram as a Mermaid flowchart, which GitHub and many editors draw."""

from __future__ import annotations

from collections.abc import Iterator

from nodegraph.workflow.diagram.diagram import Diagram


def as_mermaid(diagram: Diagram) -> Iterator[str]:
    """The lines of a flowchart: a box for each node, an arrow for each link labelled with the input that it feeds."""
    outputs = {box.id: box for box in diagram.boxes if box.is_output}
    yield "flowchart TD"
    for box in diagram.boxes:
        if not box.is_output:
            yield f'    {box.id}["{_escaped(box.title)}<br/><i>{_escaped(box.subtitle)}</i>"]'
    for arrow in diagram.arrows:
        if arrow.target in outputs:
            yield f'    {arrow.source} --> {arrow.target}(["{_escaped(outputs[arrow.target].title)}"])'
        else:
            yield f'    {arrow.source} -- "{_escaped(arrow.input)}" --> {arrow.target}'


def _escaped(text: str) -> str:
    return text.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
