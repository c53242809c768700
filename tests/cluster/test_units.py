"""Which actor a unit goes to, and what is sent to it."""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph.graph.graph import Value
from nodegraph.run.tasks.task import NodeTask
from nodegraph.run.workers.ray.messages import opened_order, order, packed_tasks
from nodegraph.run.workers.ray.resident_models import ResidentModels
from nodegraph.run.workers.ray.units import MAX_IN_FLIGHT, Actor, Unit, next_pair, units_ahead

MODELS = st.sampled_from("abc")


def simplest_pair(waiting: deque[Unit], actors: list[Actor]) -> Unit | None:
    """The unit that the emptiest free actor takes first because it has the model, by trying every pair."""
    free = [actor for actor in actors if actor.is_ready and len(actor.units) < MAX_IN_FLIGHT]
    fewest = min((len(actor.units) for actor in free), default=0)
    pairs = ((unit, actor) for actor in free if len(actor.units) == fewest for unit in waiting)
    return next((unit for unit, actor in pairs if unit.model in actor.models and unit.lost is not actor), None)


@settings(max_examples=25, deadline=None)
@given(st.lists(MODELS, max_size=6), st.lists(st.tuples(st.sets(MODELS), st.integers(0, 2), st.booleans()), max_size=4), st.data())
def test_a_unit_goes_to_an_actor_that_has_its_model(wanted, found, data):
    actors = [
        Actor(
            handle=None,
            number=number,
            is_ready=is_ready,
            units=deque(Unit(jobs=()) for _ in range(busy)),
            models=OrderedDict.fromkeys(models),
        )
        for number, (models, busy, is_ready) in enumerate(found)
    ]
    waiting = deque(Unit(jobs=()) for _ in wanted)
    for unit, model in zip(waiting, wanted, strict=True):
        unit.model = model
        unit.lost = data.draw(st.sampled_from([None, *actors]))
    pair = next_pair(waiting, actors)
    free = [actor for actor in actors if actor.is_ready and len(actor.units) < MAX_IN_FLIGHT]
    if not waiting or not free:
        assert pair is None
        return
    expected = simplest_pair(waiting, actors)
    if expected is not None:
        assert pair is not None
        assert pair[0] is expected
        assert expected.model in pair[1].models
    if pair is not None:
        assert pair[1] in free


def test_a_worker_says_which_models_have_left_its_memory():
    """A model is lost when any of its parts is; parts that two models share belong to both."""
    memory, uses = dict[str, int](), itertools.count(1)
    models = ResidentModels(SimpleNamespace(last_uses=lambda: dict(memory)))  # type: ignore[arg-type]

    def compute(model: str, *parts: str) -> None:
        with models.computing_with(model):
            memory.update({part: next(uses) for part in parts})

    compute("first", "text", "unet 1")
    compute("second", "text", "unet 2")
    assert models.take_lost() == ()
    del memory["unet 1"]
    assert models.take_lost() == ("first",)
    assert models.take_lost() == ()
    compute("first", "text", "unet 1")
    del memory["text"]
    assert sorted(models.take_lost()) == ["first", "second"]


def test_an_actor_keeps_the_models_of_its_units():
    actor = Actor(handle=None, number=1)
    for model in "abc":
        unit = Unit(jobs=())
        unit.model = model
        actor.give(unit)
    actor.units.popleft()
    actor.forget(["a", "b", "unknown"])
    assert list(actor.models) == ["b", "c"]


def test_few_workers_have_more_units_to_choose_among():
    assert [units_ahead(workers) for workers in (1, 2, 8, 16, 32, 1000)] == [8, 16, 64, 64, 64, 2000]


def test_an_order_is_one_value_and_long_ones_are_compressed():
    task = NodeTask(node="n", type="T", code="c", workflow="w", inputs={"x": Value(1)}, key="k", sources={}, files={})
    data = order(2**40, packed_tasks([task]), previews=True)
    assert opened_order(data) == (2**40, [task], True)
    long = task._replace(inputs={"x": Value("text " * 100_000)})
    data = order(1, packed_tasks([long]), previews=False)
    assert len(data) < 10_000
    assert opened_order(data) == (1, [long], False)
