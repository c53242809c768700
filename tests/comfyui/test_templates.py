"""Published graphs are imported, or refused with every reason."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from nodegraph.errors import WorkflowError
from nodegraph.plugin_api import ImportRequest
from nodegraph_comfyui.importer import import_comfyui

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
def test_each_file_is_imported_or_refused(package):
    graphs = 0
    for path in sorted(folder(package).glob("*.json")):
        found, codes = imported_or_codes(path)
        graphs += found is not None or bool(codes)
        assert codes <= {"E122"}
        if codes:
            import_comfyui(request(path, partial=True))
    assert graphs > 100


def imported_or_codes(path):
    """What is made of a file, and the codes of the reasons if it is refused."""
    try:
        return import_comfyui(request(path)), set()
    except WorkflowError as error:
        return None, {problem.code for problem in error.problems}
