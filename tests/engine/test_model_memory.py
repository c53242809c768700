"""Objects that nodes keep between runs stay within a budget; the least recently used leaves first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from nodegraph import Engine
from nodegraph.errors import NodegraphError
from nodegraph.plugin_api import Blocks, CpuBackend
from nodegraph.run.model_memory import MAIN, ModelMemory, half_of_memory
from nodegraph.settings import load_model_memory


@dataclass(frozen=True)
class Thing:
    """A stand-in for a model: blocks of memory by address, in one place."""

    name: str
    blocks: tuple[tuple[int, int], ...]
    place: str = MAIN


class Memory(CpuBackend):
    """A backend that knows `Thing`; its accelerator has room for 100 bytes."""

    def memory_of(self, value: Any) -> Blocks:
        return {(value.place, address): size for address, size in value.blocks} if isinstance(value, Thing) else {}

    def memory_budget(self, device: str) -> int | None:
        return 100 if device == "gpu" else None

    def move(self, value: Any, device: str) -> Any:
        return Thing(value.name, tuple((address + 1000, size) for address, size in value.blocks), device)


@pytest.fixture
def residents() -> ModelMemory:
    return ModelMemory(Memory(), budget=100)


def is_kept(residents: ModelMemory, name: str) -> bool:
    made = []
    residents.get("scope", name, lambda: made.append(name))
    return not made


def test_resident_is_made_once_while_it_fits(residents):
    made = []
    for _ in range(2):
        for name in ("a", "b"):
            residents.get("scope", name, lambda name=name: made.append(name) or Thing(name, ((ord(name), 50),)))
    assert made == ["a", "b"]
    assert residents.sizes() == {MAIN: 100}


@pytest.mark.parametrize(("size", "is_own"), [(50, False), (51, True)])
def test_taken_value_may_be_changed_if_there_is_no_room_for_two(residents, size, is_own):
    def make() -> Thing:
        return Thing("a", ((1, size),))

    on_demand = residents.on_demand("scope", "a", make)
    before = on_demand.get()
    taken, may_change = on_demand.take()
    assert may_change is is_own
    assert (taken is before) is not is_own  # who else has the value keeps it as it was
    assert residents.sizes() == ({} if is_own else {MAIN: size})
    assert on_demand.get() is not taken or not is_own


def test_least_recently_used_leaves_first(residents):
    for address, name in enumerate(("a", "b", "a", "c")):
        residents.get("scope", name, lambda name=name, address=address: Thing(name, ((address, 40),)))
    assert residents.sizes() == {MAIN: 80}
    assert is_kept(residents, "c")
    assert is_kept(residents, "a")
    assert not is_kept(residents, "b")


def test_oversized_resident_stays_while_it_is_last(residents):
    residents.get("scope", "small", lambda: Thing("small", ((1, 10),)))
    residents.get("scope", "large", lambda: Thing("large", ((2, 1000),)))
    assert residents.sizes() == {MAIN: 1000}
    residents.get("scope", "next", lambda: Thing("next", ((3, 10),)))
    assert residents.sizes() == {MAIN: 10}


@pytest.mark.parametrize("get", [ModelMemory.get, lambda residents, *rest: residents.on_demand(*rest).get()])
@pytest.mark.parametrize(("size", "before"), [(20, {MAIN: 80}), (50, {MAIN: 40}), (70, {}), (1000, {})])
def test_room_for_a_value_of_known_size_is_made_before_it_is_made(residents, get, size, before):
    for address, name in enumerate("ab"):
        residents.get("scope", name, lambda name=name, address=address: Thing(name, ((address, 40),)))
    seen = []
    get(residents, "scope", "c", lambda: seen.append(residents.sizes()) or Thing("c", ((9, size),)), {MAIN: size})
    assert seen == [before]


def test_room_on_an_accelerator_is_made_by_moving_values(residents):
    residents.get("scope", "a", lambda: Thing("a", ((1, 80),), "gpu"))
    seen = []
    residents.get("scope", "b", lambda: seen.append(residents.sizes()) or Thing("b", ((2, 80),), "gpu"), {"gpu": 80})
    assert seen == [{MAIN: 80}]


def test_a_value_to_copy_makes_room_for_its_copy(residents):
    residents.get("scope", "old", lambda: Thing("old", ((1, 40),)))
    residents.on_demand("scope", "a", lambda: Thing("a", ((2, 40),))).take()
    assert residents.sizes() == {MAIN: 40}
    assert is_kept(residents, "a")


def test_shared_memory_counts_once(residents):
    residents.get("scope", "base", lambda: Thing("base", ((1, 60), (2, 20))))
    residents.get("scope", "patched", lambda: Thing("patched", ((1, 60), (3, 20))))
    assert residents.sizes() == {MAIN: 100}
    assert is_kept(residents, "base")


def test_residents_move_between_gpu_and_main_memory(residents):
    first = residents.get("scope", "a", lambda: Thing("a", ((1, 80),), "gpu"))
    residents.get("scope", "b", lambda: Thing("b", ((2, 80),), "gpu"))
    assert residents.sizes() == {"gpu": 80, MAIN: 80}
    back = residents.get("scope", "a", lambda: pytest.fail("it was kept in main memory"))
    assert (back.name, back.place) == (first.name, "gpu")
    assert residents.sizes() == {"gpu": 80, MAIN: 80}  # now it is b that waits in main memory


def test_residents_beyond_main_memory_are_dropped():
    residents = ModelMemory(Memory(), budget=50)
    for address, name in enumerate("abc"):
        residents.get("scope", name, lambda name=name, address=address: Thing(name, ((address, 80),), "gpu"))
    assert residents.sizes() == {"gpu": 80, MAIN: 80}  # the last one in a place stays there
    assert not is_kept(residents, "a")


def test_residents_without_a_size_are_limited_by_number(residents):
    for number in range(300):
        residents.get("scope", number, object)
    assert not is_kept(residents, 0)
    assert residents.sizes() == {}


def test_scopes_are_separate(residents):
    residents.get("one", "key", lambda: 1)
    assert residents.get("other", "key", lambda: 2) == 2


def test_budget_comes_from_argument_environment_or_machine(monkeypatch):
    monkeypatch.delenv("NODEGRAPH_MODEL_MEMORY", raising=False)
    assert load_model_memory() is None
    assert 2**28 < half_of_memory() < 2**46
    monkeypatch.setenv("NODEGRAPH_MODEL_MEMORY", "2 GiB")
    assert load_model_memory() == 2 * 2**30
    assert load_model_memory("1 kB") == 1000
    assert load_model_memory("unlimited") > 2**62


def test_wrong_budget_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("NODEGRAPH_MODEL_MEMORY", "plenty")
    with pytest.raises(NodegraphError, match=r"NODEGRAPH_MODEL_MEMORY cannot be used: expected a number of bytes"):
        Engine(cache_dir=None)
