"""What every worker needs, imported once by the process that workers are forked from."""

from __future__ import annotations

import gc
from pathlib import Path

import torch

import nodegraph.cache.store.index
import nodegraph.cache.store.maintenance.clear
import nodegraph.cache.store.maintenance.collect
import nodegraph.cache.store.maintenance.upkeep
import nodegraph.run.node.stored_result
import nodegraph.run.verification
import nodegraph.workflow.document  # noqa: F401 (what is imported while nodes run is noted with their results)
from nodegraph.plugins.manager import load_plugins
from tests.fuzz import worker  # noqa: F401

torch.set_num_threads(1)
PLUGINS = load_plugins([Path(__file__).parent / "plugins"])

gc.collect()
gc.freeze()  # so that workers, which are forked, do not search through all of torch, and go on sharing its memory
