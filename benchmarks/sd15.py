"""Stable Diffusion 1.5 at 512x512: our networks compared with those of diffusers, on one machine in one run.

    python -m benchmarks.sd15 [--file sd15.safetensors] [--rounds 3] [--dtype bfloat16] [--part text] [--quick] [--busy]

Each measurement is made in a new process, which loads the whole model. The two programs take turns, so that other work of the
machine affects both. Seconds are medians over all rounds. The weights are random: the first run writes a file of the published
layout in float16, 2.1 GB. `load` includes the imports; the SHA-256 of the file, which a first run of ours also computes, has its
own row.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

from safetensors.torch import load_file
from torch import Tensor

from benchmarks.sd15_worker import PROGRAMS, SIDE
from nodegraph.cache.file_digests import hash_file
from nodegraph_diffusion.checkpoint import describe
from nodegraph_diffusion.checkpoint.layouts import configs
from nodegraph_diffusion.text.tokenizer import load_tokenizer

DTYPES = ("float32", "bfloat16")
PARTS = {"step": "guided step", "decode": "VAE decode", "text": "text encode"}  # what a process measures, and the name of its row


@dataclass
class Measurements:
    """Measurements of one program in one dtype: for each row, one number for each repetition in each process."""

    rows: dict[str, list[float]] = field(default_factory=dict)
    values: dict[str, Tensor] = field(default_factory=dict)

    def add(self, part: str, result: dict[str, list[float]], value: Tensor) -> None:
        """Add the result of one process."""
        rows = {
            f"{PARTS[part]}, s": result["seconds"],
            "load, s": result["load"],
            "peak memory: load, GiB": result["peak of load"],
            f"peak memory: load and {PARTS[part]}, GiB": result["peak"],
        }
        for row, numbers in rows.items():
            self.rows.setdefault(row, []).extend(numbers)
        self.values[part] = value


def write_checkpoint(file: Path) -> None:
    """Write the synthetic file in another process, so that its memory is freed, and rename it when it is complete."""
    print(f"writing {file} (2.1 GB) ...", file=sys.stderr)
    unfinished = file.with_suffix(".unfinished")
    subprocess.run([sys.executable, "-m", "tests.support.synthetic_checkpoints", "sd15-ldm", str(unfinished)], check=True)
    unfinished.replace(file)


def write_configs(folder: Path, file: Path) -> None:
    """Write the configs and the tokenizer that diffusers needs for a single file and would otherwise download."""
    checkpoint, tokenizer = describe(file).model(), load_tokenizer()
    tokens = tokenizer.special_ids
    special = {role: tokenizer.backend.id_to_token(tokens[f"{role}_id"]) for role in ("bos_token", "eos_token", "pad_token")}
    classes = {
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        **{part: [None, None] for part in ("feature_extractor", "image_encoder", "safety_checker")},
    }
    files = {
        "model_index.json": {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": False, **classes},
        "scheduler/scheduler_config.json": configs.write_scheduler(checkpoint.noise_schedule),
        "text_encoder/config.json": configs.write_text(checkpoint.text.parts[0].config, tokens),
        "tokenizer/tokenizer_config.json": {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **special},
        "unet/config.json": configs.write_unet(checkpoint.unet.config, SIDE // checkpoint.vae.config.factor),
        "vae/config.json": configs.write_vae(checkpoint.vae.config, SIDE),
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    tokenizer.backend.model.save(str(folder / "tokenizer"))


def measure(
    file: Path, dtypes: Sequence[str], parts: Sequence[str], *, rounds: int, clock: str
) -> dict[tuple[str, str], Measurements]:
    """Measure `parts` with both programs in each dtype, taking turns. The result is by (program, dtype)."""
    measured = {(program, dtype): Measurements() for dtype in dtypes for program in PROGRAMS}
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = Path(temporary) / "configs", Path(temporary) / "result"
        write_configs(folder, file)
        options = ["--file", str(file), "--configs", str(folder), "--clock", clock]
        _read_into_page_cache(file)
        for i in range(rounds):
            for dtype in dtypes:
                for part in parts:
                    for program in list(PROGRAMS)[:: -1 if i % 2 else 1]:  # the programs take turns in going first
                        print(f"round {i + 1} of {rounds}: {dtype} {part} by {program}", file=sys.stderr)
                        _run_worker([program, part, *options, "--dtype", dtype, "--out", str(out)], clock)
                        result = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
                        measured[program, dtype].add(part, result, load_file(out.with_suffix(".safetensors"))["value"])
    return measured


def table(measured: dict[tuple[str, str], Measurements], dtypes: Sequence[str], seconds: float) -> str:
    """A Markdown table of the medians and of ours divided by diffusers'. `seconds` is how long hashing the file took."""
    header = [cell for dtype in dtypes for cell in (f"{dtype}: ours", "diffusers", "ratio")]
    lines = [["", *header], ["---", *["---:"] * len(header)]]
    for row in sorted(measured["ours", dtypes[0]].rows, key=lambda row: ("peak" in row, row)):
        cells = [row]
        for dtype in dtypes:
            ours, theirs = (median(measured[program, dtype].rows[row]) for program in ("ours", "diffusers"))
            cells += [f"{ours:.3g}", f"{theirs:.3g}", f"{ours / theirs:.2f}"]
        lines.append(cells)
    lines.append(["first SHA-256, s", *[f"{seconds:.3g}", "", ""] * len(dtypes)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def agreement(measured: dict[tuple[str, str], Measurements], dtypes: Sequence[str]) -> str:
    """The largest difference between the results, in standard deviations of the reference.

    The reference is diffusers in float32 if that was measured. The difference of diffusers in bfloat16 from it shows how much
    accuracy this dtype costs.
    """
    names = {"step": "latent after 4 steps", "decode": "decoded picture", "text": "encoded prompts"}
    reference = measured["diffusers", dtypes[0]].values
    lines = [f"Largest difference from diffusers in {dtypes[0]}, in standard deviations:"]
    for key, measurements in measured.items():
        if key != ("diffusers", dtypes[0]):
            distances = {part: _distance(value, reference[part]) for part, value in measurements.values.items()}
            lines.append(f"- {' in '.join(key)}: " + ", ".join(f"{names[part]} {d:.2g}" for part, d in distances.items()))
    return "\n".join(lines)


def _distance(value: Tensor, reference: Tensor) -> float:
    return float((value - reference).abs().max() / reference.std())


def _run_worker(arguments: list[str], clock: str) -> None:
    command = [sys.executable, "-m", "benchmarks.sd15_worker", *arguments]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **({"OMP_NUM_THREADS": "1"} if clock == "cpu" else {})}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")


def _read_into_page_cache(file: Path) -> None:
    with file.open("rb", buffering=0) as stream:
        while stream.read(1 << 26):
            pass


def main() -> None:
    """Measure both programs and print a table."""
    default = Path(tempfile.gettempdir()) / "synthetic-sd15.safetensors"
    parser = argparse.ArgumentParser(description="Measure Stable Diffusion 1.5 at 512x512 with our networks and with diffusers.")
    parser.add_argument("--file", type=Path, default=default, help=f"written if it does not exist (default: {default})")
    parser.add_argument("--rounds", type=int, default=3, help="how often each part is measured (default: 3)")
    parser.add_argument("--dtype", choices=DTYPES, action="append", help="may be given twice (default: both)")
    parser.add_argument("--part", choices=list(PARTS), action="append", help="may be repeated (default: all); text is fastest")
    parser.add_argument("--quick", action="store_true", help="measure one round only")
    parser.add_argument(
        "--busy", action="store_true", help="use one thread and measure processor time, on a machine that also does other work"
    )
    arguments = parser.parse_args()
    dtypes = arguments.dtype or DTYPES
    if not arguments.file.exists():
        write_checkpoint(arguments.file)
    clock = "cpu" if arguments.busy else "wall"
    rounds = 1 if arguments.quick else arguments.rounds
    measured = measure(arguments.file, dtypes, arguments.part or list(PARTS), rounds=rounds, clock=clock)
    began = perf_counter()
    hash_file(arguments.file)
    shown = table(measured, dtypes, perf_counter() - began)
    found = "with" if importlib.util.find_spec("accelerate") else "without"
    print(f"{shown}\n\ndiffusers {found} accelerate.\n{agreement(measured, dtypes)}")


if __name__ == "__main__":
    main()
