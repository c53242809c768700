"""The model card: `card.md` with data, recipe, hours, limits, and every figure with how it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from nodegraph_diffusion.recipes.embedded import autoencoder, decoder, denoiser, layout, painting, text
from nodegraph_diffusion.recipes.embedded.figures import DECIBELS, JUDGE_RIGHT, TARGETS, score_text
from nodegraph_diffusion.recipes.pictureworld import COLOURS, KINDS, PLACES, TIMES
from nodegraph_diffusion.recipes.pictureworld.judges import training as judge_training

_KINDS = {
    "1 held-out": "one thing, every attribute right",
    "2 held-out": "two things, every attribute right",
    "3 held-out": "three things, every attribute right",
    "open": "captions that leave most things open: all that they demand",
    "counts": 'captions that count, such as "two trees": all that they demand',
    "holes": "a hole painted anew from a prompt that names only the new thing: place and time stay",
}
_BATCHES = {
    "narrow": autoencoder.BATCH * autoencoder.CROPS,
    "autoencoder": autoencoder.BATCH * autoencoder.CROPS,
    "text": text.BATCH,
    "judge": judge_training.BATCH,
    "denoiser": denoiser.BATCH,
    "settling": denoiser.BATCH,
    "decoder": decoder.BATCH,
}
"""How many examples a step of each stage has."""


def card(figures: Mapping[str, Any], run: Mapping[str, Any], notes: str) -> str:
    """The text of README.md. `run` is what `stages.about_run` says; `notes` is what a person saw in the pictures."""
    sizes = run["sizes"]
    return Template(Path(__file__).with_name("card.md").read_text(encoding="utf-8")).substitute(
        channels=sizes["latent"][0],
        cells=sizes["latent"][1],
        parameters="\n".join(f"| `{name}` | {count:,} |" for name, count in sizes["parameters"].items()),
        megabytes=f"{sizes['megabytes']:.1f}",
        places=", ".join(PLACES),
        times=", ".join(TIMES),
        kinds=", ".join(KINDS),
        colours=", ".join(COLOURS),
        scenes=f"{run['scenes']:,}",
        seed=painting.SEED,
        guidance=f"{painting.GUIDANCE:g}",
        sampling_steps=painting.STEPS,
        figures=_table(figures),
        decibels=f"{figures['decibels']:.2f}",
        target_decibels=f"{DECIBELS:g}",
        measured=figures["measured"],
        preview=", ".join(f"{share:.0%}" for share in figures["preview"]),
        notes=notes.strip() or "Nobody has looked at these pictures yet.",
        autoencoder_rate=f"{autoencoder.LEARNING_RATE:g}",
        denoiser_rate=f"{denoiser.LEARNING_RATE:g}",
        squares=f"{autoencoder.WEIGHTS.squares:g}",
        divergence=f"{autoencoder.WEIGHTS.bottleneck:g}",
        crop=autoencoder.CROP,
        around=f"{autoencoder.CROPS_OF_THINGS:.0%}",
        cap=f"{denoiser.SNR_CAP:g}",
        thing_weight=f"{layout.THING_WEIGHT:g}",
        dropout=f"{denoiser.CAPTION_DROPOUT:.0%}",
        noise=f"{decoder.NOISE:g}",
        **{name: f"{stage['steps']:,} of {_BATCHES[name]} | {stage['hours']:.1f}" for name, stage in run["stages"].items()},
        machine=run["machine"],
        below=_below(figures["painted"]),
        tokens=text.MAX_LENGTH,
    )


def _table(figures: Mapping[str, Any]) -> str:
    """The figures of painted pictures, and of the judges themselves."""
    judges = [*figures["judges"]]
    rows = [["what", *judges, "judges disagree about", "target, for the lower"], ["---"] * (len(judges) + 3)]
    for kind, result in figures["painted"].items():
        apart = "-" if result["disagreements"] is None else str(result["disagreements"])
        target = f"{TARGETS[kind]:.0%}" if kind in TARGETS else "-"
        rows.append([_KINDS[kind], *(score_text(result["scores"][judge]) for judge in judges), apart, target])
    for test in figures["judges"][judges[0]]:
        target = f"{JUDGE_RIGHT:.0%}" if test == "as drawn" else "-"
        rows.append([f"the judge itself, {test}", *(figures["judges"][judge][test] for judge in judges), "-", target])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _below(painted: Mapping[str, Any]) -> str:
    """What missed its target, as an item of the list of limits."""
    shares = {kind: min(each["right"] / each["total"] for each in painted[kind]["scores"].values()) for kind in TARGETS}
    missed = [f"{_KINDS[kind]} ({shares[kind]:.0%})" for kind, target in TARGETS.items() if shares[kind] < target]
    return f"- Below the target: {'; '.join(missed)}.\n" if missed else ""
