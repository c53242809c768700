"""What every worker needs, imported once by the process that workers are forked from."""

from __future__ import annotations

from pathlib import Path

import torch

from nodegraph.plugins.manager import load_plugins

torch.set_num_threads(1)
PLUGINS = load_plugins([Path(__file__).parent / "plugins"])
