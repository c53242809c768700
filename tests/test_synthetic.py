"""Synthetic checkpoints have the same values as those that other programs draw for the same layout."""

from __future__ import annotations

import pytest
import torch

from tests.support.synthetic_checkpoints import draw, read_layout


@pytest.mark.parametrize(
    ("key", "first"),
    [
        ("model.diffusion_model.time_embed.0.weight", [-0.04022032395005226, -0.029045777395367622]),
        ("model.diffusion_model.out.0.weight", [0.9978211522102356, 1.0109502077102661]),
        ("first_stage_model.quant_conv.bias", [-0.023395642638206482, -0.0064922356978058815]),
        (
            "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight",
            [-0.011990382336080074, -0.015400296077132225],
        ),
        ("cond_stage_model.transformer.text_model.embeddings.position_ids", [0, 1]),
    ],
)
def test_values_depend_only_on_the_key(key, first):
    shape = read_layout("sd15-ldm")[key]
    values = draw(key, shape)
    assert list(values.shape) == shape
    assert values.dtype == (torch.int64 if key.endswith("position_ids") else torch.float32)
    assert values.flatten()[:2].tolist() == pytest.approx(first, rel=1e-4)  # torch's draws are good to 2e-6 across instruction sets
