"""Adapter nodes return new parts of a model, refuse files of other families, and leave their inputs unchanged."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from nodegraph import Engine, Workflow
from nodegraph.errors import WorkflowError
from nodegraph_diffusion.checkpoint import describe
from nodegraph_diffusion.networks.controlnet import ControlNet
from nodegraph_nodes.models.control_nets import load_control
from nodegraph_nodes.models.errors import file_errors
from nodegraph_nodes.models.parts import load_unet_network
from nodegraph_nodes.models.text_encoders import load_text_network
from nodegraph_nodes.nodes.adapters import apply_control_net, load_control_net, load_embedding, load_lora
from nodegraph_nodes.nodes.text import text_encode
from nodegraph_nodes.types import Image
from tests.support import synthetic_checkpoints as synthetic

MODULE = "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"  # (16, 32)
TEXT = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"  # (32, 32)


def lora(folder, rows=16, module=MODULE):
    tensors = {
        f"lora_unet_{module}.lora_up.weight": torch.ones(rows, 2),
        f"lora_unet_{module}.lora_down.weight": torch.ones(2, 32),
        f"{TEXT}.lora_up.weight": torch.ones(32, 2),
        f"{TEXT}.lora_down.weight": torch.ones(2, 32),
    }
    save_file(tensors, folder / "some.safetensors")
    return folder / "some.safetensors"


@pytest.fixture
def control(tmp_path, model):
    with torch.device("cpu"):
        network = ControlNet(model.unet.part.config)
    synthetic.fill(network)
    folder = tmp_path / "control"
    folder.mkdir()
    from nodegraph_diffusion.checkpoint.layouts.configs import write_unet
    from nodegraph_diffusion.checkpoint.layouts.controlnet import controlnet_modules
    from nodegraph_diffusion.checkpoint.layouts.modules import rename

    table = controlnet_modules(network.config)
    state = {rename(key, table): value.contiguous() for key, value in network.state_dict().items()}
    save_file(state, folder / "diffusion_pytorch_model.safetensors")
    (folder / "config.json").write_text(json.dumps(write_unet(network.config, 8)))
    return folder


def test_lora_strengths_scale_and_zero_changes_nothing(tmp_path, model, run):
    key, text = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", "encoder.layers.0.self_attn.q_proj.weight"
    before = load_unet_network(model.unet, run).state_dict()[key]
    text_before = load_text_network(model.text_encoder, run).state_dict()[text]
    original = before.clone()
    adapted = load_lora(model.unet, model.text_encoder, describe(lora(tmp_path)).lora(), 0.5, strength_text=0.25, run=run)
    torch.testing.assert_close(load_unet_network(adapted.unet, run).state_dict()[key], before + 1.0)
    torch.testing.assert_close(
        load_text_network(adapted.text_encoder, run).state_dict()[text], text_before + 0.5, rtol=1e-3, atol=1e-3
    )
    assert torch.equal(load_unet_network(model.unet, run).state_dict()[key], original)
    assert load_unet_network(adapted.unet, run) is load_unet_network(adapted.unet, run)  # made once
    off = load_lora(model.unet, model.text_encoder, describe(lora(tmp_path)).lora(), 0.0, strength_text=0.0, run=run)
    assert (off.unet, off.text_encoder) == (model.unet, model.text_encoder)
    assert run.notices == []


def test_lora_of_another_family_is_refused_before_loading(tmp_path, model, run):
    for file, message in (
        (lora(tmp_path, rows=24), "expected a change of 16x32"),
        (lora(tmp_path, module="down_blocks_9_attentions_0_proj_in"), "It was made for another family of models"),
    ):
        with pytest.raises(ValueError, match=message):
            load_lora(
                model.unet, model.text_encoder, describe(lora(tmp_path, rows=24) if "16x32" in message else file).lora(), run=run
            )
    assert not run.residents


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (f"lora_unet_{MODULE.replace('to_k', 'to_v')}.alpha", "1 of 5 tensors are not used: they are alphas and scales without a"),
        (f"{TEXT.replace('lora_te_', 'lora_te2_')}.diff", "they are for text_encoder_2, which this model does not have (lora_te2"),
        ("lora_unet_down_blocks_9_attentions_0_proj_in.diff", "their modules of unet do not exist in this model (lora_unet_down"),
        ("flower.lora_up.weight", "their names are unknown (flower.lora_up.weight)"),
    ],
)
def test_tensors_that_are_not_used_are_named(tmp_path, model, run, extra, message):
    file = lora(tmp_path)
    save_file({**load_file(file), extra: torch.ones(1)}, file)
    load_lora(model.unet, model.text_encoder, describe(file).lora(), run=run)
    (notice,) = run.notices
    assert notice.startswith("some.safetensors: 1 of 5 tensors are not used: ")
    assert message in notice


def test_an_embedding_in_a_lora_is_a_word_of_prompts(tmp_path, model, run):
    file, vectors = lora(tmp_path), synthetic.draw("v", [2, 32])
    save_file({**load_file(file), "bundle_emb.mything.string_to_param.*": vectors}, file)
    adapted = load_lora(model.unet, model.text_encoder, describe(file).lora(), strength_text=0.0, run=run)
    save_file({"emb_params": vectors}, tmp_path / "word.safetensors")
    other = load_embedding(model.text_encoder, described(tmp_path / "word.safetensors"), "mything")
    found, expected = (text_encode(encoder, "a embedding:mything", run=run) for encoder in (adapted.text_encoder, other))
    assert torch.equal(found.prompts[0].embedding, expected.prompts[0].embedding)
    assert run.notices == []
    save_file({**load_file(file), "bundle_emb.mything.clip_g": torch.ones(1, 40)}, file)
    with pytest.raises(ValueError, match=r"expected vectors of 32 numbers.* in 'bundle_emb.mything.clip_g', found 40"):
        load_lora(model.unet, model.text_encoder, describe(file).lora(), run=run)


def test_lora_changed_during_the_run_is_an_error(tmp_path, model, run):
    file = lora(tmp_path)
    adapted = load_lora(model.unet, model.text_encoder, describe(file).lora(), run=run)
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(ValueError, match="was changed during the run"):
        load_unet_network(adapted.unet, run)


def test_lora_changed_after_its_description_is_an_error(tmp_path, model, run):
    file = lora(tmp_path)
    found = describe(file).lora()
    save_file({f"lora_unet_{MODULE}.diff": torch.ones(16, 32)}, file)
    adapted = load_lora(model.unet, model.text_encoder, found, run=run)
    with pytest.raises(ValueError, match=r"some\.safetensors: expected the tensors .* changed in the meantime\. Run again"):
        load_unet_network(adapted.unet, run)


def described(file):
    """The embedding in a file, with the messages of a node."""
    with file_errors():
        return describe(file).embedding()


@pytest.mark.parametrize(
    "tensors",
    [
        {"emb_params": torch.ones(2, 32)},
        {"<style>": torch.ones(32)},
        {"clip_l": torch.ones(2, 32)},
        {"emb_params": torch.ones(2, 32).to(torch.float8_e4m3fn)},
    ],
)
def test_embedding_word_becomes_its_vectors(tmp_path, model, run, tensors):
    save_file(tensors, tmp_path / "style.safetensors")
    encoder = load_embedding(model.text_encoder, described(tmp_path / "style.safetensors"), "style")
    count = len(next(iter(tensors.values())).reshape(-1, 32))
    with_it = text_encode(encoder, "a embedding:style house", run=run).prompts[0].embedding
    table = load_text_network(model.text_encoder, run).embeddings.token_embedding.weight
    assert with_it.shape == (1, 16, table.shape[1])
    assert not torch.equal(with_it, text_encode(encoder, "a house", run=run).prompts[0].embedding)
    (vectors,) = encoder.embeddings["style"]
    assert torch.equal(vectors, torch.ones(count, 32))
    assert model.text_encoder.embeddings == {}
    with pytest.raises(ValueError, match="expected the name of an embedding"):
        text_encode(model.text_encoder, "a embedding:style house", run=run)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"emb_params": torch.ones(2, 48)}, "expected vectors of 32 numbers.*found 48. It was made for another family"),
        ({"clip_l": torch.ones(2, 32), "clip_g": torch.ones(2, 48)}, "found 48"),
        ({"a.weight": torch.ones(2, 32), "b.weight": torch.ones(2, 32)}, "a file of other tensors"),
        ({"emb_params": torch.ones(2, 3, 32)}, "found a broken one"),
        ({"emb_params": torch.ones(2, 32).int()}, "'emb_params' in F16, .*, found I32"),
        ({}, "no tensor"),
    ],
)
def test_embeddings_of_other_models_are_refused(tmp_path, model, tensors, message):
    save_file(tensors, tmp_path / "style.safetensors")
    with pytest.raises(ValueError, match=message):
        load_embedding(model.text_encoder, described(tmp_path / "style.safetensors"), "style")


def test_embedding_changed_during_the_run_is_an_error(tmp_path, model):
    save_file({"emb_params": torch.ones(2, 32)}, tmp_path / "style.safetensors")
    style = described(tmp_path / "style.safetensors")
    save_file({"emb_params": torch.ones(3, 32)}, tmp_path / "style.safetensors")
    with pytest.raises(ValueError, match=r"style\.safetensors: expected the vectors .* changed in the meantime\. Run again"):
        load_embedding(model.text_encoder, style, "style")


def test_embedding_name_is_one_word(tmp_path, model):
    save_file({"emb_params": torch.ones(2, 32)}, tmp_path / "style.safetensors")
    with pytest.raises(ValueError, match="word: expected a word without spaces"):
        load_embedding(model.text_encoder, described(tmp_path / "style.safetensors"), "two words")


def test_controlnet_guides_and_strength_0_does_nothing(model, run, control):
    opened = load_control_net(describe(control).controlnet())
    image = Image(torch.rand(1, 32, 32, 3))
    guided = apply_control_net(model.unet, opened, image, 0.5)
    assert len(apply_control_net(guided, opened, image).controls) == 2
    assert apply_control_net(model.unet, opened, image, 0.0) is model.unet
    assert apply_control_net(model.unet, opened, image, start=0.5, end=0.5) is model.unet
    x = torch.randn(1, 4, 8, 8)
    skips, middle = load_control(guided.controls[0], run)(x, torch.tensor([500.0]), torch.randn(1, 16, 32), None)
    assert len(skips) == len(load_unet_network(model.unet, run).input_blocks)
    assert middle.abs().sum() > 0


def test_controlnet_of_another_family_is_refused(model, control):
    from dataclasses import replace

    found = describe(control).controlnet()
    other = load_control_net(replace(found, config=replace(found.config, context_dim=64)))
    with pytest.raises(ValueError, match="Give one made for this family of models"):
        apply_control_net(model.unet, other, Image(torch.rand(1, 32, 32, 3)))
    with pytest.raises(ValueError, match="Give the UNet that it was made for"):
        load_control_net(replace(found, difference=True))


@pytest.mark.slow
def test_workflow_with_lora_and_controlnet_is_cached(tmp_path, model_folder, control):
    def workflow(strength):
        w = Workflow("adapted")
        model = w.add("LoadModel", model=str(model_folder))
        adapted = w.add("LoadLora", unet=model.unet, text_encoder=model.text_encoder, file=lora(tmp_path), strength_unet=strength)
        prompt = w.add("TextEncode", name="prompt", text_encoder=adapted.text_encoder, text="a red house")
        latent = w.add("EmptyLatent", vae=model.vae)
        image = w.add("VAEDecode", name="hint", vae=model.vae, latent=latent)
        net = w.add("LoadControlNet", file=str(control))
        unet = w.add("ApplyControlNet", unet=adapted.unet, control_net=net, image=image, strength=0.5)
        noise = w.add("Noise", like=latent, seed=1)
        denoiser = w.add("UNetDenoise", unet=unet, positive=prompt, negative=prompt)
        sampled = w.add("Sampler", name="sampled", denoiser=denoiser, latent=latent, noise=noise, steps=2)
        w.output("sampled", sampled)
        return w

    cache = tmp_path / "cache"
    first = Engine(cache_dir=cache, dtype="float32").run(workflow(1.0))
    assert Engine(cache_dir=cache, dtype="float32").run(workflow(1.0)).ran == ()
    other = Engine(cache_dir=cache, dtype="float32").run(workflow(0.5))
    assert "sampled" in other.ran
    assert not torch.equal(first["sampled"].samples, other["sampled"].samples)


@pytest.mark.parametrize(
    ("node", "message"), [("LoadControlNet", "found a LoRA, which LoadLora takes"), ("LoadControlNet", "found nothing")]
)
def test_check_refuses_other_kinds_of_files(tmp_path, node, message):
    file = lora(tmp_path) if "LoRA" in message else tmp_path / "nowhere.safetensors"
    w = Workflow("wrong")
    w.output("net", w.add(node, file=str(file)))
    with pytest.raises(WorkflowError, match=message):
        Engine(cache_dir=None).check(w)


def test_peft_folder_is_a_lora_with_its_config(tmp_path, model_folder):
    folder = tmp_path / "adapter"
    folder.mkdir()
    name = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    factors = {f"{name}.lora_A.weight": synthetic.draw("a", [2, 32]), f"{name}.lora_B.weight": synthetic.draw("b", [32, 2])}
    save_file(factors, folder / "adapter_model.safetensors")
    engine = Engine(cache_dir=tmp_path / "cache", dtype="float32")

    def encoded(alpha, file):
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": alpha}))
        w = Workflow("adapted")
        model = w.add("LoadModel", model=str(model_folder))
        adapted = w.add("LoadLora", unet=model.unet, text_encoder=model.text_encoder, file=str(file))
        w.output("prompt", w.add("TextEncode", text_encoder=adapted.text_encoder, text="a red house"))
        return engine.run(w)["prompt"].prompts[0].embedding

    once, twice = encoded(2, folder), encoded(4, folder)
    assert not torch.allclose(once, twice, atol=1e-3)
    assert torch.equal(encoded(4, folder / "adapter_model.safetensors"), twice)
    assert torch.equal(encoded(2, folder), once)


def test_check_refuses_what_is_not_a_lora(tmp_path, model_folder):
    save_file({"some.weight": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    w = Workflow("wrong")
    model = w.add("LoadModel", model=str(model_folder))
    adapted = w.add("LoadLora", unet=model.unet, text_encoder=model.text_encoder, file=str(tmp_path / "other.safetensors"))
    w.output("unet", adapted.unet)
    with pytest.raises(WorkflowError, match="expected a LoRA, LoHa, LoKr or DoRA, found a file of other tensors"):
        Engine(cache_dir=None).check(w)
