"""A sweep whose values were all checked, and what its points share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final

from nodegraph.engine import Engine
from nodegraph.errors import Problem, WorkflowError
from nodegraph.graph.graph import Graph
from nodegraph.graph.overrides import Override
from nodegraph.sweeps.axes import Axes
from nodegraph.sweeps.locked import LockedSweep
from nodegraph.sweeps.result import SweepOptions
from nodegraph.workflow.workflow import Workflow

_MOST_WRONG: Final = 20  # values with mistakes that are listed
_MOST_REMEMBERED: Final = 10_000  # nodes in graphs that are not built again for their points


class CheckedSweep:
    """A workflow, axes of which each value was checked, and what all points share: `shared` values and drawn `seeds`.

    `earlier_seeds` are those that an earlier sweep has drawn. Raises WorkflowError with every mistake, and LockError unless all but
    the values of the axes is as the lock file says, if there has to be one.
    """

    def __init__(
        self, workflow: Workflow, axes: Axes, engine: Engine, *, options: SweepOptions, earlier_seeds: dict[str, int]
    ) -> None:
        self.workflow, self.axes, self.engine, self.options = workflow, axes, engine, options
        self.shared = list(options.overrides)
        self.seeds: dict[str, int] = {}
        self._earlier_seeds = earlier_seeds
        self._graphs: dict[int, Graph] = {}  # of points, by their numbers, as they were checked
        self.locked = self._lock()
        self._check()

    @property
    def count(self) -> int:
        """How many points there are to run."""
        first, step = self.options.shard or (1, 1)
        return len(range(first, len(self.axes) + 1, step))

    def points(self) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """The numbers and values of the points to run: all of them, or those of a part of the sweep."""
        first, step = self.options.shard or (1, 1)
        return itertools.islice(enumerate(self.axes.points(), start=1), first - 1, None, step)

    def overrides(self, values: Sequence[Any]) -> list[Override]:
        """What gives the workflow the values of a point, and those that all points share."""
        return [*self.shared, *self.axes.overrides(values)]

    def graph(self, number: int) -> Graph | None:
        """The graph of a point as it was checked; None if that was not remembered."""
        return self._graphs.get(number)

    def forget_graph(self, number: int) -> None:
        """Free the graph of a point that has run."""
        self._graphs.pop(number, None)

    def about(self) -> dict[str, Any]:
        """What the table says about the sweep."""
        over = {axis.name: list(axis.values) for axis in self.axes.axes}
        return {"workflow": self.workflow.name, "over": over, "zip": self.axes.zip, "seeds": self.seeds}

    def _lock(self) -> LockedSweep | None:
        options = self.options
        if options.locked is False:
            return None
        locked = LockedSweep(self.engine, self.workflow, overrides=self.shared, targets=options.targets, locked=options.locked)
        for seed in locked.seeds:
            self._share_seed(seed.name, seed.value)
        return locked

    def _check(self) -> None:
        """Check each value of each axis, and draw the seeds that all points share."""
        problems: dict[Problem, None] = {}
        wrong = nodes = 0
        samples_are_points = self.axes.zip or len(self.axes.axes) == 1
        for number, values in enumerate(self.axes.samples(), start=1):
            try:
                graph = self._checked(values)
            except WorkflowError as error:
                problems.update(dict.fromkeys(error.problems))
                wrong += 1
                if wrong == _MOST_WRONG:
                    break
            else:
                self._share_seeds(graph)
                nodes += len(graph.nodes)
                if samples_are_points and nodes <= _MOST_REMEMBERED:
                    self._graphs[number] = graph
        if problems:
            raise WorkflowError(problems)
        drawn = [name for name in self.seeds if name not in self._earlier_seeds]
        if self.options.shard is not None and drawn:
            message = f"the seed '{drawn[0]}' is random, and each part of the sweep would draw another one"
            raise WorkflowError([Problem("E121", message, None, f"Give all parts the same one: --set {drawn[0]}=1.")])

    def _checked(self, values: Sequence[Any]) -> Graph:
        overrides, targets = self.overrides(values), self.options.targets
        if targets is None:
            return self.engine.check(self.workflow, overrides=overrides)
        return self.engine.plan(self.workflow, overrides=overrides, targets=targets).graph

    def _share_seeds(self, graph: Graph) -> None:
        """Give seeds that are `random` to all points alike, unless they are an axis, or belong to an item of a list."""
        for name, drawn in graph.seeds.items():
            node = name.partition(".")[0]
            if name in self.workflow.params or node in self.workflow.nodes:
                self._share_seed(name, self._earlier_seeds.get(name, drawn))

    def _share_seed(self, name: str, seed: int) -> None:
        if name not in self.axes.names:
            self.seeds[name] = seed
            self.shared.append(Override(name, seed))
