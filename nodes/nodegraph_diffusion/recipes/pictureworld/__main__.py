"""The commands of the picture world: `python -m nodegraph_diffusion.recipes.pictureworld --help`."""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from nodegraph_diffusion.recipes.pictureworld.captions import caption
from nodegraph_diffusion.recipes.pictureworld.judges.accuracy import Judge, accuracy, compared, judged_scenes, rejections
from nodegraph_diffusion.recipes.pictureworld.judges.distortions import DISTORTIONS, distorted
from nodegraph_diffusion.recipes.pictureworld.judges.matched_filter import judge_by_templates
from nodegraph_diffusion.recipes.pictureworld.judges.network import LearnedJudge
from nodegraph_diffusion.recipes.pictureworld.judges.training import SCENES, STEPS, options, train_judge
from nodegraph_diffusion.recipes.pictureworld.sampling import scene
from nodegraph_diffusion.recipes.pictureworld.sheet import contact_sheet, drawn
from nodegraph_diffusion.training.loop.metrics import Progress


def write_sheet(file: Path, *, seed: int, rows: int, columns: int) -> None:
    """Write a contact sheet of training scenes, and print a caption of each."""
    scenes = [scene(seed, index) for index in range(rows * columns)]
    Image.fromarray(contact_sheet(scenes, columns)).save(file)
    for each in scenes:
        print(caption(each))


def report_accuracy(judge: Judge, count: int) -> None:
    """Print how a judge reads drawn pictures of held-out combinations, and which wrong captions it rejects."""
    scenes = judged_scenes(count)
    for name in DISTORTIONS:
        readings = judge(distorted(drawn(scenes), name))
        print(f"{name}: {compared(readings, scenes)}; {rejections(readings, scenes)}", flush=True)


def train(folder: Path, *, steps: int, scenes: int) -> None:
    """Train the learned judge in a folder, or continue there, and write its weights to `judge.safetensors`."""

    def report(progress: Progress) -> None:
        if progress.metrics and progress.step == progress.metrics.step:
            print(f"step {progress.step} of {steps}: loss {progress.metrics.figures['loss/judge']:.3f}", flush=True)

    judge = train_judge(folder, options(steps), scenes=scenes, on_progress=report)
    judge.save(folder / "judge.safetensors")
    print(accuracy(judge, judged_scenes(200)))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m nodegraph_diffusion.recipes.pictureworld", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    sheet = commands.add_parser("sheet", help="draw a contact sheet and print captions")
    sheet.add_argument("file", type=Path)
    sheet.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    sheet.add_argument("--rows", type=int, default=4, help="(default: %(default)s)")
    sheet.add_argument("--columns", type=int, default=8, help="(default: %(default)s)")
    training = commands.add_parser("train-judge", help="train the learned judge")
    training.add_argument("folder", type=Path, help="for its state and weights")
    training.add_argument("--steps", type=int, default=STEPS, help="(default: %(default)s)")
    training.add_argument("--scenes", type=int, default=SCENES, help="different pictures (default: %(default)s)")
    judged = commands.add_parser("accuracy", help="measure a judge on drawn pictures")
    judged.add_argument("weights", type=Path, nargs="?", help="those of the learned judge (default: the matched filter)")
    judged.add_argument("--count", type=int, default=200, help="pictures (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.command == "sheet":
        write_sheet(arguments.file, seed=arguments.seed, rows=arguments.rows, columns=arguments.columns)
    elif arguments.command == "train-judge":
        train(arguments.folder, steps=arguments.steps, scenes=arguments.scenes)
    else:
        report_accuracy(LearnedJudge.load(arguments.weights) if arguments.weights else judge_by_templates, arguments.count)


if __name__ == "__main__":
    main()
