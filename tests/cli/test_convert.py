"""`nodegraph convert` leaves out what is unused, repairs known damage, and says what it did."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.support import small_networks as small
from tests.support.whole_checkpoint import whole

POSITIONS = "cond_stage_model.transformer.text_model.embeddings.position_ids"
USED = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")
UNUSED = {name for name in whole() if not name.startswith(USED) or "loss" in name or "position_ids" in name}


def save(path, tensors, **more):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, **more)
    return path


def test_what_is_unused_is_left_out(cli):
    extras = {"denoiser.sigmas": torch.ones(10), "v_pred": torch.zeros(0)}
    old = save(cli.folder / "old.safetensors", whole() | extras, metadata={"title": "mine"})
    ran = cli("convert", old, cli.folder / "new.safetensors")
    assert ran.exit_code == 0, ran.stderr
    before, after = load_file(old), load_file(cli.folder / "new.safetensors")
    assert before.keys() - after.keys() == UNUSED | {"denoiser.sigmas"}
    assert after.keys() < before.keys()
    assert all(torch.equal(after[name], before[name]) for name in after)
    assert "v_pred" in after  # says what the model predicts
    with safe_open(cli.folder / "new.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "title": "mine"}
    first, second = ran.stdout.splitlines()
    assert first.startswith(f"{cli.folder / 'new.safetensors'}: {len(after)} tensors, ")
    assert second.startswith(f"  left out: {len(UNUSED) + 1} tensors that nothing uses (")
    assert cli("models", cli.folder / "new.safetensors").stdout.count("v prediction") == 1


def test_everything_is_kept_on_request_and_in_files_of_other_kinds(cli):
    old = save(cli.folder / "old.safetensors", whole())
    ran = cli("convert", "--keep-all", old, cli.folder / "new.safetensors")
    assert load_file(cli.folder / "new.safetensors").keys() == whole().keys()
    assert "left out" not in ran.stdout
    other = save(cli.folder / "other.safetensors", {"betas": torch.ones(2), "global_step": torch.ones(1)})
    assert "left out" not in cli("convert", other, cli.folder / "copy.safetensors").stdout
    assert load_file(cli.folder / "copy.safetensors").keys() == {"betas", "global_step"}


def test_names_that_a_compiler_changed_are_repaired(cli):
    old = save(cli.folder / "unet.safetensors", {f"_orig_mod.{key}": value for key, value in small.our_unet().state_dict().items()})
    ran = cli("convert", old, cli.folder / "new.safetensors")
    count = len(small.our_unet().state_dict())
    assert f"  repaired: {count} names that torch.compile had changed (_orig_mod.)" in ran.stdout.splitlines()
    assert load_file(cli.folder / "new.safetensors").keys() == small.our_unet().state_dict().keys()


def test_names_and_position_ids_of_old_text_encoders_are_repaired(cli):
    state = whole() | {POSITIONS: torch.arange(16)[None].half()}
    old = {name.replace(".text_model.", "."): tensor for name, tensor in state.items()}
    ran = cli("convert", save(cli.folder / "old.safetensors", old), cli.folder / "new.safetensors")
    after = load_file(cli.folder / "new.safetensors")
    assert after.keys() == whole().keys() - UNUSED
    assert all(torch.equal(after[name], state[name]) for name in after)
    texts = [name for name in after if name.startswith("cond_stage_model.")]
    assert f"  repaired: {len(texts)} names of the text encoder that old programs had changed (without text_model.)" in ran.stdout
    assert "  repaired: position ids that a merge had rounded, which are not needed" in ran.stdout.splitlines()


@pytest.mark.parametrize("model", ["model", "builtin:tiny"])
def test_a_folder_is_refused(cli, model):
    (cli.folder / "model").mkdir()
    ran = cli("convert", model, cli.folder / "new.safetensors")
    assert ran.exit_code == 2
    assert f"/{model.removeprefix('builtin:')}: expected a file, found a folder. Name one of the files in it." in ran.stderr


@pytest.mark.parametrize("name", ["nothing.safetensors", "nothing"])
def test_a_file_that_is_not_there_is_named(cli, name):
    ran = cli("convert", cli.folder / name, cli.folder / "new.safetensors")
    assert ran.exit_code == 2
    assert f"{name}: expected a readable file, found nothing" in ran.stderr
    assert not list(cli.folder.glob("*new*"))
