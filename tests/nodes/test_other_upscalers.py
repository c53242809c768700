"""Upscaling networks that spandrel builds: LoadUpscaler and Upscale use them in the same way as ours."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from nodegraph_nodes.models.find import find_upscaler
from nodegraph_nodes.nodes.upscale import load_upscaler, upscale
from nodegraph_nodes.types import Image
from tests.support import synthetic_checkpoints as synthetic
from tests.support.spandrel_library import import_spandrel

FEATURES, SCALE = 8, 2


def compact():
    """The tensors of a network of the kind Compact (realesr-general-x4v3), which makes pictures twice as large."""
    shapes = {"body.0.weight": [FEATURES, 3, 3, 3], "body.2.weight": [FEATURES, FEATURES, 3, 3]}
    shapes |= {"body.1.weight": [FEATURES], "body.3.weight": [FEATURES], "body.4.weight": [3 * SCALE**2, FEATURES, 3, 3]}
    shapes |= {f"body.{i}.bias": [shapes[f"body.{i}.weight"][0]] for i in (0, 2, 4)}
    return {name: synthetic.draw(name, shape) / 4 for name, shape in shapes.items()}


def enlarged(state, pixels):
    """The network written down with functions, for (B, 3, H, W)."""
    x = pixels
    for i in (0, 2, 4):
        x = F.conv2d(x, state[f"body.{i}.weight"], state[f"body.{i}.bias"], padding=1)
        x = x if i == 4 else F.prelu(x, state[f"body.{i + 1}.weight"])
    return F.pixel_shuffle(x, SCALE) + pixels.repeat_interleave(SCALE, 2).repeat_interleave(SCALE, 3)


def written(folder, state, name="other"):
    save_file(state, folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


@pytest.mark.parametrize("prefix", ["", "params_ema."])
def test_networks_of_spandrel_enlarge_pictures(tmp_path, run, monkeypatch, prefix):
    import_spandrel(monkeypatch)
    state = compact()
    path = written(tmp_path, {prefix + name: value for name, value in state.items()})
    opened = load_upscaler(find_upscaler(str(path), tmp_path).value)
    image = Image(torch.rand(2, 30, 44, 3))
    expected = enlarged(state, image.pixels.movedim(-1, 1)).clamp(0, 1).movedim(1, -1)
    assert float((expected - expected.mean()).std()) > 0.05
    found = upscale(image, opened, run=run)
    torch.testing.assert_close(found.pixels, expected, atol=1e-5, rtol=0)


def test_version_of_spandrel_is_part_of_the_key(tmp_path, monkeypatch):
    spandrel = import_spandrel(monkeypatch)
    resource = find_upscaler(str(written(tmp_path, compact())), tmp_path)
    assert resource.files["spandrel"] == Path(spandrel.__file__)
    assert f'"{spandrel.__version__}"' in resource.files["spandrel"].read_text()


def test_file_that_spandrel_does_not_know_is_refused(tmp_path, run, monkeypatch):
    import_spandrel(monkeypatch)
    path = written(tmp_path, {"something.weight": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match="expected an upscaling network that spandrel knows, found another kind of file"):
        upscale(Image(torch.rand(1, 8, 8, 3)), load_upscaler(find_upscaler(str(path), tmp_path).value), run=run)
    damaged = compact() | {"body.2.weight": torch.zeros(FEATURES, 5, 3, 3)}
    opened = load_upscaler(find_upscaler(str(written(tmp_path, damaged)), tmp_path).value)
    with pytest.raises(ValueError, match="found a damaged one"):
        upscale(Image(torch.rand(1, 8, 8, 3)), opened, run=run)


def test_without_spandrel_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    path, found = written(tmp_path, compact()), importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "spandrel" else found(name, *more))
    with pytest.raises(ValueError, match=r"expected an upscaling network .* pip install 'nodegraph\[upscale\]'"):
        find_upscaler(str(path), tmp_path)


def test_spandrel_that_cannot_be_imported_is_an_error(tmp_path, run, monkeypatch):
    import_spandrel(monkeypatch)
    opened = load_upscaler(find_upscaler(str(written(tmp_path, compact())), tmp_path).value)
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(ValueError, match=r"cannot be imported .* Its torchvision must be made for your torch"):
        upscale(Image(torch.rand(1, 8, 8, 3)), opened, run=run)
