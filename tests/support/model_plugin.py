"""A plugin whose nodes compute with a model, which is a value without a codec."""

from __future__ import annotations

import time
from pathlib import Path

PLUGIN = '''
import os
import time
from pathlib import Path

from nodegraph import File, Run, hookimpl, node


class Model:
    """A value without a codec."""

    def __init__(self, name: str) -> None:
        self.name = name


@node("OpenModel")
def OpenModel(kind: str = "m") -> Model:
    return Model(kind)


@node("OpenFile")
def OpenFile(path: File) -> Model:
    return Model(path.read_text())


@node("Compute", numeric=True)
def Compute(model: Model, x: int, run: Run, seconds: float = 0.0, steps: int = 1) -> str:
    for step in range(steps):
        time.sleep(seconds / steps)
        run.step(step + 1, steps, lambda: f"preview {step + 1}")
    run.notice(f"computed {x}")
    return f"{model.name} {x * x}"


@node("Where", numeric=True)
def Where(model: Model, x: int) -> int:
    return os.getpid()


@node("Fragile", numeric=True)
def Fragile(model: Model, x: int, marks: str, times: int) -> int:
    """Ends its process the first `times` times."""
    done = len(list(Path(marks).glob(f"{x}-*")))
    if done < times:
        Path(marks, f"{x}-{done}").touch()
        os.kill(os.getpid(), 9)
    return x


@node("Fails", numeric=True)
def Fails(model: Model, x: int) -> int:
    raise ValueError(f"no {x}")


@node("Joined")
def Joined(texts: list[str]) -> str:
    return " ".join(texts)


@node("Touch")
def Touch(mark: str) -> str:
    """Leaves a file, in whichever process it runs."""
    Path(mark).touch()
    return mark


@hookimpl
def register_nodes(register):
    for function in (OpenModel, OpenFile, Compute, Where, Fragile, Fails, Joined, Touch):
        register(function)
'''


def write_plugin(folder: Path) -> Path:
    """Write the plugin into a new folder, and return the folder."""
    folder.mkdir()
    (folder / "stubs.py").write_text(PLUGIN)
    time.sleep(0.02)  # until then its code counts as changing
    return folder
