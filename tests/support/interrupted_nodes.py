"""Every training node at a tiny size, for a test that kills them all in the middle of their training."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from nodegraph import Run
from nodegraph_training.nodes.adapters import train_control_net, train_lora, train_textual_inversion
from nodegraph_training.nodes.autoencoders import train_autoencoder, train_decoder
from nodegraph_training.nodes.classifiers import train_classifier
from nodegraph_training.nodes.data import picture_world
from nodegraph_training.nodes.denoisers import train_denoiser, train_denoiser_and_text
from nodegraph_training.nodes.options import training_options
from nodegraph_training.nodes.text_encoders import train_clip, train_text_encoder
from nodegraph_training.training import denoising, loop
from tests.support.small_training import SMALL

STEPS, SAVED, KILLED = 4, 2, 3
"""All steps; those in the state that a kill leaves; the last step before the kill."""


class InFolder(Run):
    """A run with a work folder of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def work_folder(self) -> contextlib.AbstractContextManager[Path]:
        self._folder.mkdir(parents=True, exist_ok=True)
        return contextlib.nullcontext(self._folder)


class Waiting(InFolder):
    """A run that reports its last step before the kill, and then goes on for ever."""

    def __init__(self, folder: Path, reached: Callable[[], object]) -> None:
        super().__init__(folder)
        self._reached = reached

    def step(self, i: int, n: int, preview: Any = None, *, status: str = "") -> None:
        if i == KILLED:
            self._reached()
            threading.Event().wait()


def trainings() -> dict[str, Callable[[Run], Any]]:
    """A training of each node type, by the name of the type."""
    data = picture_world(classes="place", **SMALL)
    vae = train_autoencoder(data, steps=1, channels=8, levels=[1, 2], batch=2)
    clip = train_clip(data, steps=1, width=16, layers=1, batch=2, patch=8)
    sizes: dict[str, Any] = {"channels": 16, "levels": [1]}
    unet = train_denoiser(data, vae, clip.text_encoder, steps=1, batch=2, depth=[1], **sizes)
    some: dict[str, Any] = {"steps": STEPS, "batch": 2}
    muon, split = training_options(optimiser="muon"), training_options(accumulation=2, precision="float16")
    return {
        "TrainAutoencoder": lambda run: train_autoencoder(
            data, channels=8, levels=[1, 2], crop=8, augment=True, options=muon, run=run, **some
        ),
        "TrainDecoder": lambda run: train_decoder(vae, data, run=run, **some),
        "TrainCLIP": lambda run: train_clip(data, width=16, layers=1, patch=8, run=run, **some),
        "TrainTextEncoder": lambda run: train_text_encoder(data, run=run, **some),
        "TrainDenoiser": lambda run: train_denoiser(data, vae, clip.text_encoder, depth=[1], run=run, **sizes, **some),
        "TrainDenoiser, further": lambda run: train_denoiser(data, vae, clip.text_encoder, unet=unet, run=run, **some),
        "TrainDenoiserAndText": lambda run: train_denoiser_and_text(
            data, vae, width=16, layers=1, depth=[1], run=run, **sizes, **some
        ),
        "TrainClassifier": lambda run: train_classifier(data, vae, run=run, **sizes, **some),
        "TrainLora": lambda run: train_lora(unet, vae, clip.text_encoder, data, rank=2, options=split, run=run, **some),
        "TrainTextualInversion": lambda run: train_textual_inversion(
            unet, vae, clip.text_encoder, data, start="cat", run=run, **some
        ),
        "TrainControlNet": lambda run: train_control_net(unet, vae, clip.text_encoder, data, run=run, **some),
    }


@contextlib.contextmanager
def often_saved() -> Iterator[None]:
    """Inside, unfinished training is saved after `SAVED` steps."""
    before = loop.SAVE_EVERY, denoising.PREVIEW_STEPS
    loop.SAVE_EVERY, denoising.PREVIEW_STEPS = SAVED, 1  # type: ignore[misc]
    try:
        yield
    finally:
        loop.SAVE_EVERY, denoising.PREVIEW_STEPS = before  # type: ignore[misc]


def train_until_killed(folder: Path) -> None:
    """Begin each training in a thread of its own, one after the other, and wait to be killed."""
    torch.set_num_threads(1)
    with often_saved():
        for name, train in trainings().items():
            reached = threading.Event()
            threading.Thread(target=train, args=(Waiting(folder / name, reached.set),), daemon=True).start()
            assert reached.wait(300), name
        print("in the middle of all", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    train_until_killed(Path(sys.argv[1]))
