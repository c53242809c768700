"""What every worker needs, imported once by the process that workers are forked from."""

from __future__ import annotations

from pathlib import Path

import torch

import nodegraph.cache.store.index
import nodegraph.workflow.document  # noqa: F401 (what is imported while nodes run is noted with their results)
from nodegraph.plugins.manager import load_plugins
from tests.fuzz import worker  # noqa: F401

torch.set_num_threads(1)
PLUGINS = load_plugins([Path(__file__).parent / "plugins"])
