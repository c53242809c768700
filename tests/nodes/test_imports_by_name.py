"""Plugins that import our packs from a checkout depend on the modules that these import, not on all that the process has loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodegraph.plugins.code.plugin_code import read_code


@pytest.mark.parametrize(
    "line",
    [
        "from nodegraph_nodes.types import Image",
        "from nodegraph_diffusion.checkpoint import load_unet, save_single_file",
        "from nodegraph_diffusion.guidance import ClassifierFreeGuidance",
        "from nodegraph_diffusion.sampling import run",
    ],
)
def test_modules_for_plugins_import_nothing_by_computed_names(line: str, tmp_path: Path) -> None:
    path = tmp_path / "small_plugin.py"
    path.write_text(f"{line}\n")
    code = read_code({path: "small_plugin"})
    assert len(code.files) > 1
    assert not code.is_dynamic


def test_names_that_are_imported_on_first_use_are_all_there() -> None:
    from nodegraph_diffusion import checkpoint, guidance

    for package in (checkpoint, guidance):
        assert [name for name in package.__all__ if not hasattr(package, name)] == []
        with pytest.raises(AttributeError, match="no_such_name"):
            package.no_such_name  # noqa: B018
