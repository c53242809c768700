"""Whether pictures that are computed together have the same bits as one by one, and what time it saves.

Each operation of a UNet computes a batch of random pictures at once, and then one by one. The bits are compared. Of the functions
of one number, every number of bfloat16 is tried, inside a tensor and at its end. Then the embedded model paints pictures in both
ways. `batches.md` explains what `nodegraph sweep --batch` makes of the results.

    python -m benchmarks.batches [--device cuda] [--dtype float32] [--batch 4]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nodegraph import Engine, Workflow

ROUNDS = 5
STEPS = 6


@dataclass(frozen=True, kw_only=True)
class Case:
    """An operation, and what makes a batch of inputs for it."""

    name: str
    inputs: Callable[[], Tensor]
    operation: Callable[[Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--batch", type=int, default=4)
    arguments = parser.parse_args()
    dtype = getattr(torch, arguments.dtype)
    torch.manual_seed(0)
    capability = torch.backends.cpu.get_cpu_capability() if arguments.device == "cpu" else torch.cuda.get_device_name()
    print(f"torch {torch.__version__}, {capability}, {torch.get_num_threads()} threads, {arguments.dtype}\n")
    print("| operation | other bits in the batch | together | one by one |\n| --- | --- | --- | --- |")
    with torch.no_grad():
        for case in cases(arguments.batch, arguments.device, dtype):
            print(row(case, arguments.batch), flush=True)
        for name, function in {"SiLU": F.silu, "GELU": F.gelu, "sigmoid": torch.sigmoid, "exp": torch.exp}.items():
            found, count = depends_on_the_place(function, arguments.device)
            print(f"| {name} of every number of bfloat16, inside a tensor and alone | {found:,} of {count:,} | | |", flush=True)
    print(painted(arguments.batch, arguments.device, arguments.dtype), flush=True)


def cases(batch: int, device: str, dtype: torch.dtype) -> Iterator[Case]:
    """The operations of a UNet, in sizes of the embedded model and of Stable Diffusion."""

    def draw(*shape: int) -> Callable[[], Tensor]:
        return lambda: torch.randn(batch, *shape, device=device).to(dtype)

    def weight(*shape: int) -> Tensor:
        width = torch.Size(shape[1:]).numel()
        return (torch.randn(*shape, device=device) / width**0.5).to(dtype)

    for fan_in, fan_out in ((128, 128), (320, 1280)):
        w = weight(fan_out, fan_in)
        yield Case(
            name=f"linear layer {fan_in} to {fan_out}, one row", inputs=draw(fan_in), operation=lambda x, w=w: F.linear(x, w)
        )
    w = weight(320, 320)
    yield Case(name="linear layer 320 to 320, 256 rows", inputs=draw(256, 320), operation=lambda x: F.linear(x, w))
    for channels, side in ((64, 16), (128, 8), (320, 16)):
        k = weight(channels, channels, 3, 3)
        name = f"convolution 3x3, {channels} channels, {side}x{side}"
        yield Case(name=name, inputs=draw(channels, side, side), operation=lambda x, k=k: F.conv2d(x, k, padding=1))
    yield Case(
        name="attention, 4 heads of 32, 256 places",
        inputs=draw(4, 256, 32),
        operation=lambda x: F.scaled_dot_product_attention(x, x, x),
    )
    yield Case(name="group norm, 64 channels, 15x15", inputs=draw(64, 15, 15), operation=lambda x: F.group_norm(x, 8))
    yield Case(name="SiLU, 1,021 numbers", inputs=draw(1_021), operation=F.silu)


def row(case: Case, batch: int) -> str:
    """A row of the table: how many numbers differ, and both times."""
    differing = numbers = 0
    together, one_by_one = [], []
    for _ in range(ROUNDS):
        x = case.inputs()
        began = time.perf_counter()
        whole = case.operation(x).cpu()
        middle = time.perf_counter()
        parts = torch.cat([case.operation(x[i : i + 1]).cpu() for i in range(batch)])
        one_by_one.append(time.perf_counter() - middle)
        together.append(middle - began)
        differing += int((whole != parts).sum())
        numbers += whole.numel()
    return f"| {case.name} | {differing:,} of {numbers:,} | {min(together) * 1e3:.2f} ms | {min(one_by_one) * 1e3:.2f} ms |"


def depends_on_the_place(function: Callable[[Tensor], Tensor], device: str) -> tuple[int, int]:
    """How many numbers of bfloat16 have another result inside a tensor than alone, and how many numbers there are."""
    numbers = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    numbers = numbers[torch.isfinite(numbers.float())].to(device)
    inside = function(numbers.repeat_interleave(64)).view(-1, 64)[:, 0]
    by_itself = torch.cat([function(numbers[i : i + 1]) for i in range(len(numbers))])
    return int((inside.view(torch.int16) != by_itself.view(torch.int16)).sum()), len(numbers)


def painted(batch: int, device: str, dtype: str) -> str:
    """A row of the table for the latents of the embedded model."""
    together, one_by_one = [], []
    for _ in range(2):
        began = time.perf_counter()
        whole = latents(batch, 1, device, dtype)
        middle = time.perf_counter()
        parts = torch.cat([latents(1, 1 + i, device, dtype) for i in range(batch)])
        one_by_one.append(time.perf_counter() - middle)
        together.append(middle - began)
    differing = int((whole != parts).sum())
    times = f"{min(together):.2f} s | {min(one_by_one):.2f} s"
    return f"| the embedded model, {STEPS} steps | {differing:,} of {whole.numel():,} | {times} |"


def latents(batch: int, seed: int, device: str, dtype: str) -> Tensor:
    """Sampled latents; the picture with seed 2 is the same noise as the second one of a batch with seed 1."""
    w = Workflow("batch")
    model = w.add("LoadModel", model="builtin:tiny")
    prompt = w.add("TextEncode", text_encoder=model.text_encoder, text="a lighthouse on a cliff at night")
    empty = w.add("EmptyLatent", vae=model.vae, batch=batch)
    denoiser = w.add("UNetDenoise", unet=model.unet, positive=prompt, negative=prompt, cfg=3)
    sampled = w.add("Sampler", denoiser=denoiser, latent=empty, noise=w.add("Noise", like=empty, seed=seed), steps=STEPS)
    w.output("latent", sampled)
    samples: Tensor = Engine(None, device=device, dtype=dtype).run(w)["latent"].samples
    return samples


if __name__ == "__main__":
    main()
