"""Networks without values have the shapes of those with values, at no cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nodegraph_diffusion.checkpoint.load.blank_network import blank
from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.networks.unet import UNet
from nodegraph_diffusion.networks.vae import AutoencoderKL
from tests.support import small_networks as small

LOADS_EVERYTHING = """
import sys, torch
from nodegraph_diffusion.checkpoint import describe, load_text_encoder, load_unet, load_vae
from nodegraph_diffusion.tiny import FOLDER
found = describe(FOLDER).model()
load_unet(found.unet, "cpu", torch.float32), load_vae(found.vae, "cpu", torch.float32)
load_text_encoder(found.text.parts[0], "cpu", torch.float32)
print(sorted({"torch._dynamo", "sympy"} & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    ("build", "drawn"), [(UNet, small.our_unet), (AutoencoderKL, small.our_vae), (CLIPTextModel, small.our_text_encoder)]
)
def test_blank_network_has_the_real_shapes(build, drawn):
    network = drawn()
    state = blank(build, network.config).state_dict()
    assert all(tensor.is_meta for tensor in state.values())
    assert {key: tensor.shape for key, tensor in state.items()} == {key: t.shape for key, t in network.state_dict().items()}


@pytest.mark.slow
def test_loading_imports_no_compiler():
    ran = subprocess.run([sys.executable, "-c", LOADS_EVERYTHING], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
