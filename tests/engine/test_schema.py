"""The JSON schema for editors accepts what nodegraph accepts and refuses what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from nodegraph.node_types.spec import Choice, Port
from nodegraph.plugins.manager import Plugins, load_plugins
from nodegraph.workflow.editors.json_schema import _literals, workflow_schema

WORKFLOWS = sorted((Path(__file__).parents[2] / "workflows").glob("*.yaml"))


@pytest.fixture(scope="module")
def validator(plugins: Plugins) -> jsonschema.Draft7Validator:
    schema = workflow_schema(plugins)
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def workflow(**node: Any) -> dict[str, Any]:
    return {"nodegraph": 1, "nodes": {"node": node}}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_shipped_workflows_are_valid(validator: jsonschema.Draft7Validator, path: Path) -> None:
    assert list(validator.iter_errors(yaml.safe_load(path.read_text()))) == []


@pytest.mark.parametrize(
    "node",
    [
        {"use": "Plus", "a": 1},
        {"use": "Plus", "a": "$other.size", "b": 2.5},
        {"use": "Draw", "seed": "random"},
        {"use": "Total", "values": [1, "$other"]},
        {"use": "Filtered", "text": "$params.text", "filter": "upper"},
        {"use": "Contents", "path": "a.txt", "others": None},
        {"use": "Anything", "value": {"a": [1]}},
        {"use": "Weights", "model": "$load.model"},
    ],
)
def test_correct_workflows_are_valid(validator: jsonschema.Draft7Validator, node: dict[str, Any]) -> None:
    assert list(validator.iter_errors(workflow(**node))) == []


@pytest.mark.parametrize(
    "node",
    [
        {"use": "Pluss", "a": 1},
        {"a": 1},
        {"use": "Plus"},
        {"use": "Plus", "a": "one"},
        {"use": "Plus", "a": 1, "c": 2},
        {"use": "Draw", "seed": -1},
        {"use": "Filtered", "text": "x", "filter": "louder"},
        {"use": "Weights", "model": "w"},
    ],
)
def test_wrong_workflows_are_invalid(validator: jsonschema.Draft7Validator, node: dict[str, Any]) -> None:
    assert list(validator.iter_errors(workflow(**node))) != []


def test_outputs_and_params_are_described(validator: jsonschema.Draft7Validator) -> None:
    good = workflow(use="Number") | {
        "params": {"a": 1, "b": {"default": 2, "min": 0}},
        "outputs": {"x": "$node", "y": {"from": "$node", "save": "{workflow}.json"}},
    }
    assert list(validator.iter_errors(good)) == []
    assert list(validator.iter_errors(good | {"outputs": {"x": {"save": "y"}}})) != []
    assert list(validator.iter_errors(good | {"output": {}})) != []


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"use": "Filtered", "text": "x", "filter": "uper"}, "'uper' is not one of ['broken', 'lower', 'upper']"),
        ({"use": "Format", "mode": "lnog"}, "'lnog' is not one of ['short', 'long']"),
        ({"use": "Plus", "a": "one"}, "'one' is not of type 'number'"),
        ({"use": "Draw", "seed": -1}, "-1 is less than the minimum of 0"),
        ({"use": "Draw", "seed": "Random"}, "'Random' is not one of ['random']"),
        ({"use": "Format", "scale": 11}, "11 is greater than the maximum of 10"),
        ({"use": "Total", "values": [1, "x"]}, "'x' is not of type 'number'"),
        ({"use": "Pluss", "a": 1}, "'Pluss' is not one of ["),
        ({"use": "Plus", "a": 1, "c": 2}, "Additional properties are not allowed ('c' was unexpected)"),
    ],
)
def test_validators_say_what_is_wrong(validator: jsonschema.Draft7Validator, node: dict[str, Any], message: str) -> None:
    (error,) = validator.iter_errors(workflow(**node))
    assert error.message.startswith(message)
    assert error.context == []


def test_validators_name_the_samplers() -> None:
    validator = jsonschema.Draft7Validator(workflow_schema(Plugins()))
    node = {"use": "Sampler", "denoiser": "$d", "latent": "$l", "noise": "$n"}
    (error,) = validator.iter_errors(workflow(**node, sampler="ddpm_2m"))
    assert error.message.startswith("'ddpm_2m' is not one of ['ddim', 'ddpm', ")
    (error,) = validator.iter_errors(workflow(**node, sampler="ddim", options={"etta": 1}))
    assert error.message == "Additional properties are not allowed ('etta' was unexpected)"
    assert list(validator.iter_errors(workflow(**node, sampler="$params.sampler", options={"eta": 1}))) == []
    (error,) = validator.iter_errors(workflow(**node) | {"outputs": {"a": "sampled"}})
    assert error.message.startswith("'sampled' does not match ")


@pytest.fixture(scope="module")
def shipped() -> Plugins:
    return load_plugins()


@pytest.fixture(scope="module")
def shipped_validator(shipped: Plugins) -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(workflow_schema(shipped))


def sampler_node(name: str) -> dict[str, Any]:
    return workflow(use="Sampler", denoiser="$d", latent="$l", noise="$n", sampler=name)


@pytest.mark.parametrize(
    "name",
    ["Euler A", "euler a", "Euler-a", "EULER_A", "DPM++ 2M", "dpm++  2m", "DPM++_2M", " Heun ", "DDIMScheduler"],
)
def test_spellings_that_a_check_accepts_are_valid(
    shipped: Plugins, shipped_validator: jsonschema.Draft7Validator, name: str
) -> None:
    assert name in shipped.registries["samplers"]
    assert list(shipped_validator.iter_errors(sampler_node(name))) == []


@pytest.mark.parametrize("name", ["Euler B", "EulerA", "dpmpp 2m", "DPM++ 2M Karras", "DPMpp 2M", "", "x Euler A"])
def test_spellings_that_a_check_refuses_get_one_short_message(
    shipped: Plugins, shipped_validator: jsonschema.Draft7Validator, name: str
) -> None:
    names = shipped.registries["samplers"].names()
    assert name not in shipped.registries["samplers"]
    (error,) = shipped_validator.iter_errors(sampler_node(name))
    assert error.message == f"{name!r} is not one of {names!r}"  # without the aliases, of which there are more than names
    assert error.context == []


def test_every_alias_is_valid_in_every_spelling(shipped: Plugins, shipped_validator: jsonschema.Draft7Validator) -> None:
    for registry in (shipped.registries["samplers"], shipped.registries["schedules"]):
        (choice,) = _literals(Port("x", str, choice=Choice(registry.kind)), shipped)
        accepts = jsonschema.Draft7Validator(choice).is_valid
        for name in (*registry.names(), *registry.aliases()):
            for spelling in (name, name.upper(), name.swapcase(), name.replace(" ", "-"), name.replace("_", "  "), f"{name}_"):
                assert accepts(spelling) == (spelling in registry), spelling


def test_options_belong_to_a_sampler_in_any_spelling(shipped_validator: jsonschema.Draft7Validator) -> None:
    node = sampler_node("DPM++ 2m SDE")
    node["nodes"]["node"]["options"] = {"etta": 1}
    (error,) = shipped_validator.iter_errors(node)
    assert error.message == "Additional properties are not allowed ('etta' was unexpected)"
    node["nodes"]["node"]["options"] = {"eta": 1}
    assert list(shipped_validator.iter_errors(node)) == []
