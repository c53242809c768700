"""Runs models one after another in one process and prints its peak memory after each, in bytes.

    python -m tests.support.peak_memory BUDGET DTYPE MODEL[,LORA]...

Each model's UNet, with the LoRA on it, denoises a small latent under the prompts of the first model.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from nodegraph import Engine, Workflow


def workflow(first: str, model: str, lora: str) -> Workflow:
    w = Workflow("w")
    opened = w.add("LoadModel", model=first)
    latent = w.add("EmptyLatent", vae=opened.vae, width=64, height=64)
    prompt = w.add("TextEncode", text_encoder=opened.text_encoder, text="a boat")
    unet = w.add("LoadUNet", unet=model)
    if lora:
        unet = w.add("LoadLora", unet=unet, text_encoder=opened.text_encoder, file=lora).unet
    denoiser = w.add("UNetDenoise", unet=unet, positive=prompt, negative=prompt, cfg=1)
    drawn = w.add("Noise", like=latent, seed=1)
    w.output("latent", w.add("Sampler", denoiser=denoiser, latent=latent, noise=drawn, steps=1, sampler="euler"))
    return w


def peak_memory() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # elsewhere, a new process may begin with the peak of the one that started it
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM:")) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    budget, dtype, *models = sys.argv[1:]
    with Engine(None, device="cpu", dtype=dtype, on_event=lambda event: None, model_memory=budget) as engine:
        for model in models:
            name, _, lora = model.partition(",")
            engine.run(workflow(models[0].partition(",")[0], name, lora))
            print(peak_memory(), flush=True)


if __name__ == "__main__":
    main()
