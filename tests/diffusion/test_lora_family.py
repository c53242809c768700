"""The families that an adapter may be for are found by the names of its modules and the shapes of its factors."""

from __future__ import annotations

import pytest

from nodegraph_diffusion.adapters.lora.family import families
from nodegraph_diffusion.checkpoint import describe
from tests.support import synthetic_checkpoints as synthetic

ATTENTION = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"  # (640, context)
CONTEXTS = {"sd1": 768, "sd2": 1024, "sdxl": 2048, "sdxl-refiner": 1280}
ROWS = {"sdxl-refiner": 768}
KINDS = {  # the tensors of each kind for a weight of (rows, columns)
    "LoRA": lambda rows, columns: {"lora_up.weight": [rows, 4], "lora_down.weight": [4, columns], "alpha": []},
    "DoRA": lambda rows, columns: {"lora_up.weight": [rows, 4], "lora_down.weight": [4, columns], "dora_scale": [1, columns]},
    "LoHa": lambda rows, columns: {
        f"hada_w{i}_{side}": [rows, 4] if side == "a" else [4, columns] for i in (1, 2) for side in "ab"
    },
    "LoKr": lambda rows, columns: {"lokr_w1": [8, 8], "lokr_w2_a": [rows // 8, 4], "lokr_w2_b": [4, columns // 8]},
    "GLoRA": lambda rows, columns: {
        "a1.weight": [columns, 4],
        "a2.weight": [4, columns],
        "b1.weight": [rows, 4],
        "b2.weight": [4, columns],
    },
    "difference": lambda rows, columns: {"diff": [rows, columns], "diff_b": [rows]},
    "whole weight": lambda rows, columns: {"set_weight": [rows, columns]},
}


def found(tmp_path, layout):
    return families(describe(synthetic.sparse(layout, tmp_path / "adapter.safetensors")).lora())


@pytest.mark.parametrize("family", CONTEXTS)
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_with_the_width_of_prompts_show_their_family(tmp_path, kind, family):
    tensors = KINDS[kind](ROWS.get(family, 640), CONTEXTS[family])
    assert found(tmp_path, {f"{ATTENTION}.{name}": shape for name, shape in tensors.items()}) == (family,)


def test_the_published_layout_of_a_lora(tmp_path):
    assert found(tmp_path, synthetic.read_layout("lora-kohya-sd15")) == ("sd1",)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ({f"{ATTENTION.replace('attn2', 'attn1')}.oft_blocks": [4, 160, 160]}, ("sd1", "sd2", "sdxl")),
        ({"oft_unet_input_blocks_1_1_proj_in.oft_blocks": [4, 80, 80]}, ("sd1", "sd2")),
        ({"lora_unet_down_blocks_2_attentions_1_transformer_blocks_9_attn1_to_q.oft_blocks": [4, 320, 320]}, ("sdxl",)),
        ({"base_model.model.mid_block.attentions.0.transformer_blocks.0.attn2.to_v.ia3_l": [1536, 1]}, ("sdxl-refiner",)),
        ({"base_model.model.mid_block.attentions.0.transformer_blocks.9.attn2.to_v.oft_R.weight": [64, 496]}, ("sdxl",)),
        ({"lora_te_text_model_encoder_layers_0_mlp_fc1.diff": [3072, 768]}, ("sd1", "sdxl")),
        ({"lora_te_text_model_encoder_layers_23_mlp_fc1.diff": [4096, 1024]}, ("sd2",)),
        ({"lora_te2_text_model_encoder_layers_31_mlp_fc1.diff": [5120, 1280]}, ("sdxl", "sdxl-refiner")),
        ({"lora_unet_conv_in.diff_b": [320]}, ("sd1", "sd2", "sdxl", "sdxl-refiner")),
        ({f"{ATTENTION}.diff": [64, 128]}, ()),
        ({"lora_unet_down_blocks_9_attentions_0_proj_in.diff": [64, 64]}, ()),
    ],
)
def test_other_modules_fit_one_family_or_several_or_none(tmp_path, layout, expected):
    assert found(tmp_path, layout) == expected


def test_a_module_that_fits_no_family_outweighs_no_others(tmp_path):
    layout = {f"{ATTENTION}.diff": [640, 768], "lora_unet_nothing.diff": [2, 2]}
    assert found(tmp_path, layout) == ()
    assert found(tmp_path, layout | {f"{ATTENTION.replace('to_k', 'to_v')}.diff": [640, 768]}) == ("sd1",)
