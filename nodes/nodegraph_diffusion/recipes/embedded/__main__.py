"""Train the 128x128 model from nothing: `python -m nodegraph_diffusion.recipes.embedded --work FOLDER`.

A run that was stopped (Ctrl-C, SIGTERM) or killed continues with the same command.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

from nodegraph_diffusion.recipes.embedded import stages
from nodegraph_diffusion.recipes.embedded.stages import Recipe

STAGES: dict[str, tuple[Callable[[Recipe], None], str | None]] = {
    "narrow": (stages.train_narrow_autoencoder, "narrow_autoencoder.safetensors"),
    "autoencoder": (stages.train_autoencoder, "autoencoder.safetensors"),
    "text": (stages.train_text_encoder, "text_encoder.safetensors"),
    "judge": (stages.train_judge, "judge.safetensors"),
    "latents": (stages.encode, None),
    "denoiser": (stages.train_denoiser, "denoiser.safetensors"),
    "settling": (stages.settle_denoiser, "settled.safetensors"),
    "decoder": (stages.train_decoder, "decoder.safetensors"),
    "export": (stages.export, None),
    "evaluation": (stages.evaluate, "figures.json"),
    "card": (stages.write_card, None),
}
"""Each stage in order, with the file that shows that it is done (None: it finds out itself, or is quick)."""


def run(recipe: Recipe, only: Sequence[str] = ()) -> None:
    """Do the stages (those in `only`, default: all) that are not done yet."""
    recipe.work.mkdir(parents=True, exist_ok=True)
    for name, (stage, result) in STAGES.items():
        if (not only or name in only) and (result is None or not (recipe.work / result).exists()):
            stage(recipe)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m nodegraph_diffusion.recipes.embedded", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for states and results; 2 GB")
    parser.add_argument("--stage", choices=[*STAGES], action="append", default=[], help="only this stage; can be repeated")
    numbers = [each for each in fields(Recipe) if each.name not in ("work", "stop")]
    for each in numbers:
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=int, default=each.default, help="(default: %(default)s)")
    arguments = parser.parse_args()
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: stopping.append(received))
    chosen = {each.name: getattr(arguments, each.name) for each in numbers}
    try:
        run(Recipe(work=arguments.work, stop=lambda: bool(stopping), **chosen), arguments.stage)
    except stages.Stopped:
        stages.report("stopped; the same command continues")


if __name__ == "__main__":
    main()
