"""The engine's backend: torch's devices, memory, loaded networks and previews, behind one object."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nodegraph.plugin_api import Blocks, Numerics, Renderer, SettingsError, SheetLabels, Terminal
from nodegraph_nodes import process_state
from nodegraph_nodes.imported_torch import imported_torch
from nodegraph_nodes.models import device, residency

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

DECODER_VARIABLE: Final = "NODEGRAPH_PREVIEW_DECODER"


class TorchBackend:
    """Implements `nodegraph.plugin_api.Backend`. Torch is imported by `resolve` alone."""

    def __repr__(self) -> str:
        return "<TorchBackend>"

    def fingerprint(self) -> str:
        return device.fingerprint()

    def resolve(self, device_name: str, dtype: str) -> Numerics:
        return device.resolve(device_name, dtype)

    def check_names(self, device_name: str, dtype: str) -> None:
        device.check_names(device_name, dtype)

    def is_out_of_memory(self, error: BaseException) -> bool:
        if isinstance(error, MemoryError):
            return True
        message = str(error)  # torch has no class for this error on the CPU and on Apple's GPUs
        return isinstance(error, RuntimeError) and ("out of memory" in message or "can't allocate memory" in message)

    def free_memory(self) -> None:
        torch = imported_torch()  # a process that has not imported torch holds none of its memory
        if torch is None:
            return
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if torch.backends.mps.is_available():
            torch.mps.empty_cache()

    def memory_of(self, value: Any) -> Blocks:
        return residency.memory_of(value)

    def memory_budget(self, device_name: str) -> int | None:
        return residency.memory_budget(device_name)

    def watched_libraries(self) -> Collection[str]:
        return process_state.WATCHED

    def known_state(self) -> AbstractContextManager[None]:
        return process_state.KnownSwitches()

    def chosen_state(self) -> str:
        return " ".join([*device.disabled_attentions(), *device.numeric_variables()])

    generator_states = staticmethod(process_state.generator_states)  # each node needs it twice: a method of its own takes longer

    def version(self, value: Any) -> Any:
        return residency.version_of(value)

    def move(self, value: Any, device_name: str) -> Any:
        return residency.move(value, device_name)

    def can_compare(self, data: bytes) -> bool:
        from nodegraph_nodes.pictures.difference import can_compare

        return can_compare(data)

    def difference(self, first: Path, second: Path, path: Path | None) -> Mapping[str, Any] | None:
        from nodegraph_nodes.pictures.difference import difference

        return difference(first, second, path)

    def inline(self, path: Path, terminal: Terminal) -> str | None:
        from nodegraph_nodes.pictures.inline.show import show

        return show(path, terminal)

    def preview_renderer(self) -> Renderer | None:
        """The decoder in the file that NODEGRAPH_PREVIEW_DECODER names."""
        file = os.environ.get(DECODER_VARIABLE)
        if not file:
            return None
        from nodegraph_nodes.models import previews
        from nodegraph_nodes.models.find import file_path

        try:
            return previews.load_preview_decoder(file_path(file, Path.cwd(), None))
        except ValueError as error:
            raise SettingsError(f"[E401] the preview decoder cannot be used: {error}") from error

    def sheet(self, values: Iterable[Any], labels: SheetLabels) -> Any:
        from nodegraph_nodes.pictures.labelled_sheet import labelled_sheet
        from nodegraph_nodes.types import Image

        return Image(labelled_sheet(map(_pictures, values), labels)[None])


def _pictures(value: Any) -> list[Picture]:
    """The pictures of a value on a sheet, those of a batch beside each other; none if the value is missing."""
    from nodegraph_nodes.pictures.labelled_sheet import read_picture
    from nodegraph_nodes.types import Image, Mask

    if value is None:
        return []
    if isinstance(value, Image | Mask):
        return [value.to_pil(i) for i in range(len(value.numpy()))]
    if isinstance(value, Path):
        return [read_picture(value)]
    if isinstance(value, list):
        return [picture for item in value for picture in _pictures(item)]
    raise ValueError(f"{type(value).__name__} cannot be shown on a sheet. Expected pictures")
