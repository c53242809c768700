"""spandrel without torchvision, which two of its networks use, and whose wheels are made for one build of torch only."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

_USED = ("InterpolationMode", "normalize", "rotate")


def import_spandrel(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """spandrel, imported beside an empty torchvision, which is gone afterwards. Skips the test where it is not installed."""
    if "spandrel" not in sys.modules:
        pytest.importorskip("einops")
        with monkeypatch.context() as during:
            for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
                during.setitem(sys.modules, name, ModuleType(name))
            for name in _USED:
                setattr(sys.modules["torchvision.transforms.functional"], name, object())
            return pytest.importorskip("spandrel")
    return sys.modules["spandrel"]
