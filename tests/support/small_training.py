"""Training that takes a moment: a tiny picture world, and a workflow that trains an autoencoder on it."""

from __future__ import annotations

from nodegraph import Workflow

SMALL = {"side": 16, "count": 4}


def autoencoder_workflow(steps: int, seed: int = 0) -> Workflow:
    """Train an autoencoder for some steps."""
    workflow = Workflow()
    data = workflow.add("PictureWorld", name="data", seed=seed, **SMALL)
    trained = workflow.add(
        "TrainAutoencoder", name="vae", data=data, steps=steps, channels=8, levels=[1, 2], batch=2, learning_rate=3e-3
    )
    workflow.output("vae", trained)
    return workflow
