"""Files as `torch.save` writes them, and a malicious one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

LEGACY = {"_use_new_zipfile_serialization": False}
FORMS = [{}, LEGACY]


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.command = f"touch {marker}"

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)
