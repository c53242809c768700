"""How other work on the processor slows down sampling, with our default for threads and with OpenMP's, beside diffusers.

    python -m benchmarks.main_job --busy [--sd15] [--rounds 5]

Every process samples once and then waits. Then each condition is set up, and the processes take turns. `idle`: nothing else runs;
`one busy`, `two busy`: beside that many endless loops; `two at once`: two processes of the same kind sample at the same time, and
the slower one counts. Ratios are to the idle time with OpenMP's default, in the same run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

OPENMP: Final = {"GOMP_SPINCOUNT": "300000", "OMP_NUM_THREADS": str(os.cpu_count())}  # the defaults of GNU OpenMP
PROGRAMS: Final[Mapping[str, Mapping[str, str]]] = {"ours": {}, "ours, OpenMP's default": OPENMP, "diffusers": {}}
CONDITIONS: Final = ("idle", "one busy", "two busy", "two at once")
REFERENCE: Final = ("idle", "ours, OpenMP's default")
WORK: Final = {"tiny": "25 steps of the embedded model", "sd15": "a guided step of Stable Diffusion 1.5, float32, 512x512"}
STEPS: Final = 25


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """A process that samples whenever it is asked."""

    process: subprocess.Popen[str]

    def begin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def seconds(self) -> float:
        """Wait for the end. Raises SystemExit if the process has failed."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a process that samples has ended; its error is above")
        return float(line)


@contextmanager
def sampling(program: str, work: str) -> Iterator[Sampling]:
    """Yields a process that has sampled once."""
    environment = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-m", "benchmarks.waiting", program.partition(",")[0], work]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**environment, **PROGRAMS[program]}
    ) as process:
        try:
            started = Sampling(process=process)
            started.seconds()
            yield started
        finally:
            process.kill()


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Endless loops in `count` other processes."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def measure(work: str, rounds: int) -> dict[tuple[str, str], list[float]]:
    """Seconds by (condition, program). Two processes of a program are alive at the same time only while both sample."""
    seconds: dict[tuple[str, str], list[float]] = {}
    for program in PROGRAMS:
        print(f"{program} ...", file=sys.stderr)
        with sampling(program, work) as first:
            for condition, count in zip(CONDITIONS, (0, 1, 2), strict=False):
                with busy(count):
                    for _ in range(rounds):
                        first.begin()
                        seconds.setdefault((condition, program), []).append(first.seconds())
            with sampling(program, work) as second:
                for _ in range(rounds):
                    first.begin()
                    second.begin()
                    seconds.setdefault((CONDITIONS[-1], program), []).append(max(first.seconds(), second.seconds()))
    return seconds


def table(work: str, seconds: Mapping[tuple[str, str], list[float]]) -> str:
    """A Markdown table: medians, and in brackets their ratio to the reference."""
    reference = median(seconds[REFERENCE])
    lines = [f"| {WORK[work]}, s | {' | '.join(PROGRAMS)} |", f"| --- |{' ---: |' * len(PROGRAMS)}"]
    for condition in CONDITIONS:
        cells = [f"{median(took):.2f} ({median(took) / reference:.2f})" for took in (seconds[condition, name] for name in PROGRAMS)]
        lines.append(f"| {condition} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Sample once, and again for each line of standard input; write the seconds that it took."""
    program, work = sys.argv[1:]
    sample = _SAMPLERS[program, work]()
    for _ in _after_the_first(sys.stdin):
        began = time.perf_counter()
        sample()
        print(time.perf_counter() - began, flush=True)


def _after_the_first(lines: Iterator[str] | Any) -> Iterator[str]:
    yield ""
    yield from lines


def _ours_tiny() -> Any:
    from itertools import count

    from nodegraph import Engine

    engine, seeds = Engine(cache_dir=None), count()
    overrides = {"seed": 0}

    def sample() -> None:
        overrides["seed"] = next(seeds)
        engine.run("workflows/txt2img.yaml", params=overrides, targets=["sampled"])

    return sample


def _diffusers_tiny() -> Any:
    import torch
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    from nodegraph_diffusion.tiny import FOLDER

    pipe: Any = StableDiffusionPipeline.from_pretrained(str(FOLDER), torch_dtype=torch.float32)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return lambda: pipe("a yellow boat left of a pink cat", num_inference_steps=STEPS, guidance_scale=3.0, output_type="latent")


def _inputs() -> tuple[Any, Any, Any]:
    import torch

    return torch.randn(2, 4, 64, 64), torch.tensor([500.0, 500.0]), torch.randn(2, 77, 768)


def _ours_sd15() -> Any:
    from nodegraph_nodes.waiting import wait_briefly

    wait_briefly()
    import torch

    from nodegraph_diffusion.denoising.threads import more_threads
    from nodegraph_diffusion.networks.config import UNetConfig
    from nodegraph_diffusion.networks.unet import UNet

    unet = UNet(UNetConfig()).eval()
    latent, timesteps, prompts = _inputs()

    def step() -> None:
        with torch.inference_mode(), more_threads(unet):
            unet(latent, timesteps, prompts)

    return step


def _diffusers_sd15() -> Any:
    import torch
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8).eval()
    latent, timesteps, prompts = _inputs()

    def step() -> None:
        with torch.inference_mode():
            unet(latent, timesteps, prompts)

    return step


_SAMPLERS: Final = {
    ("ours", "tiny"): _ours_tiny,
    ("ours", "sd15"): _ours_sd15,
    ("diffusers", "tiny"): _diffusers_tiny,
    ("diffusers", "sd15"): _diffusers_sd15,
}

if __name__ == "__main__":
    main()
