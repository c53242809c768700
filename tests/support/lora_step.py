"""Trains a LoRA for a step on a picture of 512x512 pixels, and prints its loss and the peak memory of the process, in bytes.

    python -m tests.support.lora_step MODEL FOLDER

All parts are loaded from the model's file as in a real run: its text encoder encodes the caption, its autoencoder the picture.
FOLDER receives the LoRA.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

from nodegraph_diffusion.checkpoint import describe, load_text_encoder, load_unet, load_vae
from nodegraph_diffusion.text.encode import Reader
from nodegraph_diffusion.text.tokenizer import load_tokenizer
from nodegraph_diffusion.training.loop.options import TrainingOptions
from nodegraph_diffusion.training.loop.trainer import Trainer
from nodegraph_diffusion.training.noising.objective import Objective
from nodegraph_diffusion.training.pictures.buckets import Buckets
from nodegraph_diffusion.training.pictures.captions import encode_captions
from nodegraph_diffusion.training.pictures.latents import LatentExamples, encode_pictures
from nodegraph_diffusion.training.pictures.source import PictureTensor
from nodegraph_diffusion.training.pictures.store import EncodingStore
from nodegraph_diffusion.training.tasks.conditions import EncodedCondition
from nodegraph_diffusion.training.tasks.denoiser import DenoiserTask
from nodegraph_diffusion.training.tuning.lora import Lora, save_lora
from tests.support.peak_memory import peak_memory


def main() -> None:
    model, folder = describe(sys.argv[1]).model(), Path(sys.argv[2])
    store = EncodingStore(folder / "encodings")
    picture = PictureTensor(torch.rand(3, 512, 512, generator=torch.Generator().manual_seed(0)) * 2 - 1, "a picture of noise")
    readers = [Reader(load_text_encoder(part, "cpu", torch.float32), load_tokenizer(part.tokenizer)) for part in model.text.parts]
    captions, empty = (encode_captions(readers, [text], store) for text in (picture.caption, ""))
    del readers
    pictures = encode_pictures([picture], Buckets(), load_vae(model.vae, "cpu", torch.float32), store=store)
    encoded = peak_memory()
    unet = load_unet(model.unet, "cpu", torch.float32)
    lora = Lora(unet, rank=8)
    task = DenoiserTask(unet, EncodedCondition(empty.contexts[0]), Objective.of(model.noise_schedule), adapter=lora)
    options = TrainingOptions(steps=1, batch=1, learning_rate=1e-4, recompute=True)
    trainer = Trainer(task, LatentExamples(pictures, captions), options)
    started = time.monotonic()
    trainer.advance()
    seconds = time.monotonic() - started
    metrics = trainer.progress().metrics
    assert metrics is not None
    save_lora(folder / "lora.safetensors", {"unet": (unet, lora)})
    report = {"loss": metrics.figures["loss/denoiser"], "encoding": encoded, "peak": peak_memory(), "seconds": seconds}
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
