"""One measurement of `benchmarks.sd15`: one part, in one dtype, with our networks or with diffusers.

    python -m benchmarks.sd15_worker ours step --file sd15.safetensors --configs configs --dtype float32 --out result

Loads the whole model, then runs the part once to warm up and three times to measure. Writes the computed value to
`out.safetensors` and the measurements to `out.json`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Clock = Callable[[], float]

CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}

PROMPT = "a red house under a night sky, oil on canvas"
GUIDANCE = 7.5
SIDE = 512
SCALE = 0.18215
REPEATS = 3
STEPS = 1 + REPEATS  # timesteps 999, 666, 333 and 0 are whole numbers, so both programs sample at the same noise levels


@dataclass(frozen=True)
class Measured:
    """The seconds of each repetition, and the computed value."""

    seconds: list[float]
    value: Tensor


def repeat(action: Callable[[], Tensor], clock: Clock) -> Measured:
    """Run `action` once to warm up, then measure it `REPEATS` times."""
    times = []
    for _ in range(1 + REPEATS):
        value = action()
        times.append(clock())
    return Measured(differences(times), value)


def start_noise() -> Tensor:
    """Gaussian noise for the latent of one picture, (1, 4, 64, 64)."""
    import torch

    return torch.randn(1, 4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(0))


class Ours:
    """Our networks, prompts and sampler, combined as in the node pack."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def load(self, file: Path, configs: Path, dtype: str) -> None:
        import torch

        from nodegraph_diffusion.checkpoint import describe, load_text_encoder, load_unet, load_vae
        from nodegraph_diffusion.text.tokenizer import load_tokenizer

        self.dtype = getattr(torch, dtype)
        checkpoint = describe(file).model()
        self.noise_schedule = checkpoint.noise_schedule
        text = checkpoint.text.parts[0]
        self.tokenizer = load_tokenizer(text.tokenizer)
        self.text_encoder = load_text_encoder(text, "cpu", self.dtype)
        self.unet = load_unet(checkpoint.unet, "cpu", self.dtype)
        self.vae = load_vae(checkpoint.vae, "cpu", self.dtype)

    def text(self) -> Measured:
        return repeat(self._encode, self.clock)

    def step(self) -> Measured:
        import torch

        from nodegraph_diffusion.denoising.unet_denoiser import UNetDenoiser
        from nodegraph_diffusion.guidance import ClassifierFreeGuidance
        from nodegraph_diffusion.sampling.methods.euler import sample_euler
        from nodegraph_diffusion.schedules.timesteps import schedule_normal

        positive, negative = (UNetDenoiser(self.unet, self.noise_schedule, prompt[None]) for prompt in self._encode())
        denoiser = ClassifierFreeGuidance(positive, negative, GUIDANCE)
        sigmas = schedule_normal(self.noise_schedule, STEPS)
        times: list[float] = []
        with torch.no_grad():
            latent = sample_euler(
                denoiser,
                start_noise() * sigmas[0],
                sigmas,
                noise=lambda sigma_from, sigma_to: start_noise(),
                on_step=lambda i, x, denoised: times.append(self.clock()),
            )
        return Measured(differences(times), latent)

    def decode(self) -> Measured:
        import torch

        latent = (start_noise() / SCALE).to(self.dtype)
        with torch.no_grad():
            return repeat(lambda: self.vae.decode(latent), self.clock)

    def _encode(self) -> Tensor:
        import torch

        from nodegraph_diffusion.text.encode import encode_prompt

        return torch.cat([encode_prompt(self.text_encoder, self.tokenizer, text) for text in (PROMPT, "")])  # (2, 77, 768)


class Diffusers:
    """The pipeline of diffusers for this file. `pipe` is untyped, because diffusers is."""

    pipe: Any

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def load(self, file: Path, configs: Path, dtype: str) -> None:
        import diffusers
        import torch

        diffusers.utils.logging.disable_progress_bar()
        self.pipe = diffusers.StableDiffusionPipeline.from_single_file(
            str(file), config=str(configs), local_files_only=True, torch_dtype=getattr(torch, dtype)
        )
        self.pipe.set_progress_bar_config(disable=True)

    def text(self) -> Measured:
        return repeat(self._encode, self.clock)

    def step(self) -> Measured:
        positive, negative = self._encode().chunk(2)
        times: list[float] = []

        def on_step_end(pipe: Any, i: int, timestep: Tensor, values: dict[str, Any]) -> dict[str, Any]:
            times.append(self.clock())
            return values

        latent = self.pipe(
            prompt_embeds=positive,
            negative_prompt_embeds=negative,
            guidance_scale=GUIDANCE,
            latents=start_noise().to(positive.dtype),
            num_inference_steps=STEPS,
            output_type="latent",
            callback_on_step_end=on_step_end,
        ).images
        return Measured(differences(times), latent)

    def decode(self) -> Measured:
        import torch

        latent = (start_noise() / SCALE).to(self.pipe.vae.dtype)
        with torch.no_grad():
            return repeat(lambda: self.pipe.vae.decode(latent).sample, self.clock)

    def _encode(self) -> Tensor:
        import torch

        with torch.no_grad():
            prompts = {"num_images_per_prompt": 1, "do_classifier_free_guidance": True, "negative_prompt": ""}
            return torch.cat(self.pipe.encode_prompt(PROMPT, "cpu", **prompts))  # (2, 77, 768)


PROGRAMS: dict[str, type[Ours] | type[Diffusers]] = {"ours": Ours, "diffusers": Diffusers}


def differences(times: list[float]) -> list[float]:
    """The seconds between successive times."""
    return [later - earlier for earlier, later in pairwise(times)]


def peak_memory() -> float:
    """The peak resident memory of this process, in GiB, including mapped pages of files."""
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def main() -> None:
    """Measure one part, as the arguments say."""
    parser = argparse.ArgumentParser(description="Make one measurement of benchmarks.sd15.")
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("part", choices=["text", "step", "decode"])
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--configs", type=Path, required=True)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], required=True)
    parser.add_argument("--clock", choices=CLOCKS, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    clock = CLOCKS[arguments.clock]
    program = PROGRAMS[arguments.program](clock)
    began = clock()
    program.load(arguments.file, arguments.configs, arguments.dtype)
    result = {"load": [clock() - began], "peak of load": [peak_memory()]}
    measured: Measured = getattr(program, arguments.part)()
    result |= {"seconds": measured.seconds, "peak": [peak_memory()]}

    from safetensors.torch import save_file

    save_file({"value": measured.value.detach().float().contiguous()}, arguments.out.with_suffix(".safetensors"))
    arguments.out.with_suffix(".json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
