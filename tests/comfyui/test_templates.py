"""Published graphs are imported, or refused with every reason."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from nodegraph.errors import WorkflowError
from nodegraph.plugin_api import ImportRequest
from nodegraph_comfyui.classes.table import TABLE
from nodegraph_comfyui.importer import import_comfyui, read_graph
from nodegraph_comfyui.reading.graph import Wire

IMPORTED = """
    2_pass_pose_worship area_composition area_composition_square_area_for_subject controlnet_example default depth_controlnet
    depth_t2i_adapter embedding_example esrgan_example gligen_textbox_example hiresfix_esrgan_workflow
    hiresfix_latent_workflow image2image inpaint_example inpaint_model_outpainting latent_upscale_different_prompt_model lora
    lora_multiple mixing_controlnets sdxl_refiner_prompt_example sdxl_revision_text_prompts sdxl_revision_zero_positive
    sdxl_simple_example sdxlturbo_example
"""


def folder(package):
    """The graphs of a package that is only installed for tests, and never imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed: pip install --no-deps -r tests/references.txt")
    return Path(spec.origin).parent / "templates"


def request(path, *, partial=False):
    return ImportRequest(
        data=path.read_bytes(), file=path.name, name=path.stem, folder=path.parent, base=path.parent, partial=partial
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", IMPORTED.split())
def test_template_is_imported_and_lacks_only_files(engine, name):
    found = import_comfyui(request(folder("comfyui_workflow_templates") / f"{name}.json"))
    assert found.left_out == ()
    assert any(output.save for output in found.workflow.outputs.values())
    with pytest.raises(WorkflowError) as caught:
        engine.check(found.workflow)
    assert {problem.code for problem in caught.value.problems} == {"E113"}  # a file that is not here


@pytest.mark.slow
@pytest.mark.parametrize("package", ["comfyui_workflow_templates", "comfyui_workflow_templates_json"])
def test_each_file_is_imported_or_refused_with_all_unknown_nodes(package):
    graphs = 0
    for path in sorted(folder(package).glob("*.json")):
        graph = read_graph(request(path))
        if graph is None:
            assert import_comfyui(request(path)) is None
            continue
        graphs += 1
        found, problems = imported_or_problems(path)
        assert {problem.code for problem in problems} <= {"E122"}
        text = "\n".join(problem.message for problem in problems)
        assert (found is None) == bool(problems)
        for node in unknown_nodes(graph.nodes):
            assert str(node) in text, path
        if problems:
            import_comfyui(request(path, partial=True))
    assert graphs > 100


def unknown_nodes(nodes):
    """The nodes without a counterpart that run in ComfyUI: they save or show something, or feed nodes that do."""
    feeds = {id: [value.node for value in node.inputs.values() if isinstance(value, Wire)] for id, node in nodes.items()}
    used = {source for sources in feeds.values() for source in sources}
    running = {id for id, node in nodes.items() if (TABLE[node.kind].is_end if node.kind in TABLE else id not in used)}
    pending = [*running]
    while pending:
        more = {source for source in feeds.get(pending.pop(), ()) if source in nodes} - running
        running |= more
        pending += more
    return [nodes[id] for id in running if nodes[id].kind not in TABLE]


def imported_or_problems(path):
    """What is made of a file, and the reasons if it is refused."""
    try:
        return import_comfyui(request(path)), ()
    except WorkflowError as error:
        return None, error.problems
