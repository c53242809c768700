"""Random graphs of badly behaved nodes, in processes that are killed at random, deliver only what their nodes mean."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fuzz.driver import CI_EPOCH_GROUPS, CI_GRAPHS, Driver, State, find_mutant, groups_of
from tests.fuzz.mutants import MUTANTS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")


def run(graphs: int, folder: Path, epoch_groups: int) -> State:
    state = State()
    Driver(state, folder, epoch_groups=epoch_groups).run(groups_of(graphs))
    print(state.summary())
    return state


def test_graphs_deliver_what_their_nodes_mean(tmp_path: Path) -> None:
    state = run(240, tmp_path, epoch_groups=30)
    assert state.differences == []
    assert state.counts["graphs"] == 240
    assert state.counts["compared hits"] > 240
    assert state.counts["hits of others"] > 60


@pytest.mark.slow
@pytest.mark.large
def test_two_thousand_graphs_deliver_what_their_nodes_mean(tmp_path: Path) -> None:
    state = run(CI_GRAPHS, tmp_path, CI_EPOCH_GROUPS)
    assert state.differences == []
    assert state.counts["graphs"] == CI_GRAPHS
    assert state.counts["kills"] > 5


@pytest.mark.slow
@pytest.mark.large
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_fault_in_the_engine_is_found(mutant: str, tmp_path: Path) -> None:
    """When a worker is killed is a matter of chance, so there are three attempts."""
    assert any(find_mutant(mutant, tmp_path / str(attempt)).differences for attempt in range(3))
