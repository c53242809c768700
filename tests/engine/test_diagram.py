"""Diagrams: arrows lead down, boxes do not overlap, few arrows cross, and the SVG is well-formed whatever the names are."""

from __future__ import annotations

from itertools import combinations
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph import Workflow
from nodegraph.workflow.diagram.diagram import Arrow, Box, Diagram, diagram_of
from nodegraph.workflow.diagram.layout import GAP, layout_of
from nodegraph.workflow.diagram.mermaid import as_mermaid
from nodegraph.workflow.diagram.svg import as_svg

SVG = "{http://www.w3.org/2000/svg}"


def diagram(count: int, arrows: list[tuple[int, int]]) -> Diagram:
    boxes = tuple(Box(id=f"n{k}", title=f"box {k}") for k in range(count))
    return Diagram(boxes=boxes, arrows=tuple(Arrow(source=f"n{a}", target=f"n{b}", input=f"in{a}") for a, b in arrows))


@st.composite
def graphs(draw: st.DrawFn) -> Diagram:
    count = draw(st.integers(1, 9))
    pairs = list(combinations(range(count), 2))
    return diagram(count, draw(st.lists(st.sampled_from(pairs), max_size=20)) if pairs else [])


@given(graphs(), st.floats(10, 200))
def test_arrows_lead_down_and_boxes_do_not_overlap(drawn, width):
    layout = layout_of(drawn, dict.fromkeys((box.id for box in drawn.boxes), width))
    assert all(layout.layers[arrow.source] < layout.layers[arrow.target] for arrow in drawn.arrows)
    for a, b in combinations(drawn.boxes, 2):
        if layout.layers[a.id] == layout.layers[b.id]:
            assert abs(layout.middles[a.id] - layout.middles[b.id]) >= width + GAP - 1e-6
    assert all(width / 2 - 1e-6 <= layout.middles[box.id] <= layout.width - width / 2 + 1e-6 for box in drawn.boxes)


def test_arrows_of_a_tree_do_not_cross():
    """The leaves are given in an order in which nearly all arrows cross."""
    drawn = diagram(9, [(0, 1), (0, 2), (1, 4), (1, 6), (1, 8), (2, 3), (2, 5), (2, 7)])
    layout = layout_of(drawn, dict.fromkeys((box.id for box in drawn.boxes), 50.0))
    place = layout.middles
    for (a, b), (c, d) in combinations([(arrow.source, arrow.target) for arrow in drawn.arrows], 2):
        if layout.layers[a] == layout.layers[c]:
            assert (place[a] - place[c]) * (place[b] - place[d]) >= 0


def test_node_without_inputs_stands_near_what_it_feeds():
    layout = layout_of(diagram(4, [(0, 1), (1, 2), (3, 2)]), dict.fromkeys(("n0", "n1", "n2", "n3"), 50.0))
    assert layout.layers["n3"] == layout.layers["n1"]


def test_long_arrow_passes_each_layer_between():
    layout = layout_of(diagram(3, [(0, 1), (1, 2), (0, 2)]), dict.fromkeys(("n0", "n1", "n2"), 50.0))
    assert [layer for layer, _ in layout.stops[2]] == [1]
    assert abs(layout.stops[2][0][1] - layout.middles["n1"]) >= 25 + GAP - 1e-6  # around the box


@settings(max_examples=30)
@given(st.text(), st.text())
def test_svg_is_well_formed_whatever_the_names_are(title, subtitle):
    drawn = Diagram(boxes=(Box(id="n0", title=title, subtitle=subtitle),), arrows=())
    root = ElementTree.fromstring(as_svg(drawn, title))
    assert root.tag == f"{SVG}svg"
    assert len(root.findall(f".//{SVG}rect")) == 1


def test_workflow_shows_itself_as_svg():
    w = Workflow("greet & more")
    word = w.add("Text", value="hey")
    w.output("said", w.add("Join", left=word, right=[word, word]), save="x.txt")
    root = ElementTree.fromstring(w._repr_svg_())
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert sorted(texts) == sorted(["left", "right", "text", "Text", "join", "Join", "said"])
    assert len(root.findall(f"{SVG}path")) == 4  # an arrow for each link, and one for the output
    assert root.find(f"{SVG}title").text == "greet & more"


def test_links_in_mappings_are_arrows():
    w = Workflow()
    word = w.add("Text", value="hey")
    w.add("Switch", name="chosen", on="a", cases={"a": word, "b": "no"})
    assert [arrow.input for arrow in diagram_of(w.nodes, []).arrows] == ["cases"]
    assert [*as_mermaid(diagram_of(w.nodes, []))][-1] == '    n0 -- "cases" --> n1'


def test_wide_and_deep_graph_is_drawn():
    count = 300
    w = Workflow()
    first = node = w.add("Text", value="hey")
    for _ in range(count):
        node = w.add("Join", left=node, right=first)
    assert w._repr_svg_().count("<rect") == count + 1
