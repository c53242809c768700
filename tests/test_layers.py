"""Imports only go down: every module and package has its place in an order, and imports only what stands before it."""

from __future__ import annotations

import pytest

from docs.package_diagram import children, imports

LAYERS: dict[str, str] = {}
"""The modules and packages inside each package, lowest first."""

INSIDE = children(imports())


@pytest.mark.parametrize("package", sorted(INSIDE))
def test_every_module_has_a_layer(package):
    assert sorted(LAYERS.get(package, "").split()) == sorted(INSIDE[package])


@pytest.mark.parametrize("package", sorted(INSIDE))
def test_imports_go_down(package):
    order = LAYERS[package].split()
    up = {}
    for name, targets in INSIDE[package].items():
        up[name] = sorted(target for target in targets if order.index(target) >= order.index(name))
    assert {name: targets for name, targets in up.items() if targets} == {}


@pytest.mark.parametrize("package", sorted(INSIDE))
def test_a_folder_has_at_most_fourteen_modules(package):
    folders_of_equals = ("methods", "guidance", "schedules", "nodes")
    assert len(INSIDE[package]) <= 14 or package.rpartition(".")[2] in folders_of_equals
