"""The simulation of many workers against what can be calculated, and what holds for every sweep."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scaling.loads import LOAD, ROOMS, WORK, models_at_random
from benchmarks.simulation.calibration import TOLERANCE, predictions, read_figures
from benchmarks.simulation.events import Clock, Server
from benchmarks.simulation.policies import AFFINITY, POLICIES, ROUND_ROBIN
from benchmarks.simulation.scenarios import scaling
from benchmarks.simulation.sweep import Cluster, Costs, Outcome, Store, Work, simulate

COSTS = Costs(begin=0.002, end=0.001, finish=0.003, latency=0.0005, overhead=0.01)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("workers", [1, 3, 16])
def test_without_costs_it_is_linear(workers, policy):
    found = simulate(Cluster(workers=workers, policy=policy), [Work(2.0)] * (10 * workers))
    assert found.seconds == pytest.approx(20.0)
    assert found.computed == pytest.approx(20.0 * workers)


def test_one_worker_takes_the_sum():
    """Messages and the driver hide behind its work: but for the first and the last unit, two are always there."""
    works = [Work(seconds, model) for seconds, model in zip((0.5, 1.0, 0.25, 2.0), "abab", strict=True)]
    store = Store(latency=0.03, requests=5, size=1000.0, bandwidth=1e5)
    found = simulate(Cluster(workers=1, costs=COSTS, store=store, load=3.0), works)
    worker = 3.75 + 2 * 3.0 + 4 * (0.01 + 5 * 0.03 + 1000 / 1e5)
    outside = 0.002 + 2 * 0.0005 + 0.001 + 0.003  # the first begins, the last ends
    assert found.seconds == pytest.approx(worker + outside)


@pytest.mark.parametrize("workers", [16, 64])
def test_a_busy_driver_sets_the_pace(workers):
    found = simulate(Cluster(workers=workers, costs=COSTS), [Work(0.02)] * 600)
    assert found.throughput == pytest.approx(1 / COSTS.driver, rel=0.02)
    assert found.driver_busy == pytest.approx(600 * COSTS.driver)


def test_a_queue_is_as_long_as_pollaczek_and_khinchine_say():
    """M/D/1: with random arrivals and a fixed service time, the mean wait is rho / (2 (1 - rho)) of it."""
    chosen, clock = random.Random(1), Clock()
    server, count, load = Server(clock), 20_000, 0.6
    time = 0.0
    for _ in range(count):
        time += chosen.expovariate(load)
        clock.after(time, lambda: server.serve(1.0, lambda: None))
    clock.run()
    assert server.waited / count == pytest.approx(load / (2 * (1 - load)), rel=0.06)


def test_a_slow_line_of_the_store_sets_the_pace():
    found = simulate(Cluster(workers=20, store=Store(size=10.0, bandwidth=100.0)), [Work(0.1)] * 400)
    assert found.seconds == pytest.approx(0.1 + 400 * 0.1)
    assert found.stored == 4000


def test_runs_at_once_limit_what_workers_get():
    found = simulate(Cluster(workers=64, at_once=32), [Work(2.0)] * 640)
    assert found.seconds == pytest.approx(640 * 2.0 / 32)


def test_affinity_loads_a_model_once_where_turns_load_it_again():
    chosen = random.Random(0)
    works = [Work(0.2, f"m{chosen.randrange(8)}") for _ in range(400)]
    affinity, in_turns = (
        simulate(Cluster(workers=4, policy=policy, room=2, load=1.0, ahead=400), works) for policy in (AFFINITY, ROUND_ROBIN)
    )
    assert set(affinity.loads.values()) == {1}
    assert affinity.loads.total() <= 16
    assert in_turns.loads.total() > 200
    assert affinity.seconds < in_turns.seconds / 3


def test_the_workload_of_the_benchmark_tells_affinity_from_turns():
    """Six models, two workers with room for three: together they have room for all, if each keeps its own."""
    works = [Work(WORK, model) for model in models_at_random()]
    affinity, in_turns = (
        simulate(Cluster(workers=2, policy=policy, room=ROOMS[1], load=LOAD), works) for policy in (AFFINITY, ROUND_ROBIN)
    )
    assert 2 * affinity.loads.total() <= in_turns.loads.total()
    assert 1.5 * affinity.seconds <= in_turns.seconds


# --- the figures that benchmarks/scale.py has measured


def test_it_predicts_what_was_measured():
    found = predictions(read_figures())
    assert {(run.workers, run.seconds) for run in found} == {(workers, length) for workers in (1, 2) for length in (0, 1, 2, 4)}
    assert [run for run in found if abs(run.error) > TOLERANCE] == []


def test_64_workers_are_almost_as_fast_as_64_times_one():
    (found,) = scaling(read_figures(), workers=[64], durations=[2.0])
    assert found.linear >= 0.95


# --- what holds for every sweep

seconds = st.floats(0.0, 5.0)
small = st.floats(0.0, 0.2)


@st.composite
def sweeps(draw) -> tuple[Cluster, list[Work]]:
    cluster = Cluster(
        workers=draw(st.integers(1, 6)),
        costs=Costs(**{name: draw(small) for name in ("begin", "end", "finish", "latency", "overhead")}),
        store=Store(
            latency=draw(small), requests=draw(st.integers(0, 7)), size=draw(seconds), model_size=draw(seconds), bandwidth=9.0
        ),
        policy=draw(st.sampled_from([*POLICIES])),
        room=draw(st.integers(1, 4)),
        load=draw(seconds),
        ahead=draw(st.none() | st.integers(0, 9)),
        at_once=draw(st.none() | st.integers(1, 9)),
        one_processor=draw(st.booleans()),
    )
    model = st.none() | st.sampled_from("abcd")
    return cluster, draw(st.lists(st.builds(Work, seconds, model), min_size=1, max_size=25))


@given(sweeps())
@settings(max_examples=40, deadline=None)
def test_nothing_is_lost_and_nothing_is_faster_than_it_can_be(sweep):
    cluster, works = sweep
    found = simulate(cluster, works)
    count, costs, store = len(works), cluster.costs, cluster.store
    total = sum(work.seconds for work in works)
    assert [point for point, _ in found.finished] == [*range(count)]  # every point, once, in order
    assert found.computed == pytest.approx(total)
    assert found.driver_busy == pytest.approx(count * (costs.driver + costs.overhead * cluster.one_processor))
    assert found.stored == pytest.approx(count * store.size + found.loads.total() * store.model_size)
    assert found.most_in_flight <= 2
    assert len(found.waits) == count
    assert min(found.waits.values()) >= 0
    models = {work.model for work in works if work.model is not None}
    assert found.loads.total() >= len(models)
    least = (
        total + count * (costs.overhead + store.latency * store.requests) + found.loads.total() * cluster.load
    ) / cluster.workers
    rest = 1e-9 + found.seconds * (1 + 1e-9)
    assert least <= rest
    assert max(found.driver_busy, found.store_busy, max(work.seconds for work in works)) <= rest
    if cluster.room >= len(models):
        assert set(found.loads.values()) <= {1}  # at most once for each worker and model


@given(sweeps())
@settings(max_examples=10, deadline=None)
def test_the_same_sweep_takes_the_same_time(sweep):
    first, second = simulate(*sweep), simulate(*sweep)
    assert isinstance(first, Outcome)
    assert first == second
