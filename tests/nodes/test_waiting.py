"""How the threads of OpenMP wait: the environment variable that it reads while torch is imported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nodegraph_nodes.waiting import SPINS


def variable(environment: dict[str, str], first: str = "") -> str:
    """The variable's value once the plugins are loaded, after the statement `first`."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code = f"{first}\nimport os\nfrom nodegraph import Engine\nEngine(cache_dir=None)\nprint(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**inherited, **environment}
    )
    return done.stdout.strip()


def test_threads_wait_briefly():
    assert variable({}) == SPINS


@pytest.mark.parametrize(
    ("environment", "value"), [({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")], ids=["count", "policy"]
)
def test_what_the_user_set_stays(environment, value):
    assert variable(environment) == value


@pytest.mark.slow
def test_nothing_is_set_once_torch_is_imported():
    """It has read the variable by then; child processes should not wait differently from this one."""
    assert variable({}, "import torch") == "None"
